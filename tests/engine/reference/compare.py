"""What of two outcomes must be equal, and what differs."""

from __future__ import annotations

import math
import struct
from typing import Any

from tests.engine.decoding import ADDRESS32, NAMES32, NAMES64, Decoded, decode, table
from tests.engine.native import REGISTERS
from tests.engine.reference.case import (
    CONTROL,
    DATA,
    FLAGS,
    FS_BASE,
    GPR,
    GS_BASE,
    MXCSR,
    RIP,
    ST,
    STATUS,
    TAGS,
    XMM,
    Case,
    Outcome,
    image_of,
)

FLAG_BITS = {"c": 1, "p": 4, "a": 16, "z": 64, "s": 128, "o": 2048, "d": 1024}
ALL_FLAGS = sum(FLAG_BITS.values())
SHIFTS = {"rol", "ror", "rcl", "rcr", "shl", "shr", "sar", "shld", "shrd"}
TRANSCENDENTAL = {"f2xm1", "fyl2x", "fyl2xp1", "fptan", "fpatan", "fsin", "fcos", "fsincos"}
LEAST = 2.0**-126
"""The least normal single."""
SEVERAL = {"fldenv", "fnstenv", "frstor", "fnsave", "maskmovq", "maskmovdqu"}
"""What processors access in parts: the first of which may fault before an address is found not canonical."""
AMD_MISALIGNED = 1 << 17
"""MXCSR's bit that only AMD has."""
APPROXIMATE = {"rcpps", "rcpss", "rsqrtps", "rsqrtss"}
CONDITION_CODES = {
    "fcom",
    "fcomp",
    "fcompp",
    "fucom",
    "fucomp",
    "fucompp",
    "ftst",
    "fxam",
    "ficom",
    "ficomp",
} | {
    *("fprem", "fprem1", "fldenv", "frstor", "fnstenv", "fnsave", "fninit", "fxrstor", "fnstsw", "fnstcw"),
    *("fldcw", "fcmovb", "fxsave"),
}
"""Instructions behind which C0, C2 and C3 are defined."""
LAST_INSTRUCTION = {
    "fnstenv": [(12, 28)],
    "fnsave": [(12, 28)],
    "fxsave": [(6, 24), (28, 32), (416, 512)],
}
"""Bytes of images: the last instruction and its operand (AMD and Intel differ), MXCSR_MASK, reserved ones."""
OWN_ORDER = {
    "cmps",
    "enter",
    "fldenv",
    "fnstenv",
    "frstor",
    "fnsave",
    "maskmovq",
    "maskmovdqu",
    "fxsave",
    "fxrstor",
}
"""Where several bytes are touched, the first that faults depends on the processor's microcode."""
C1_UNDEFINED = {
    "ffree",
    "ffreep",
    "fcomi",
    "fcomip",
    "fucomi",
    "fucomip",
    "fcmovb",
    "fcmove",
    "fcmovbe",
    "fcmovu",
} | {
    *("fcmovnb", "fcmovne", "fcmovnbe", "fcmovnu"),
}
ULPS = 4


def shift_count(case: Case, decoded: Decoded) -> int:
    """The masked count."""
    count = decoded.operands[-1]
    value = count[1] if count[0] == "imm" else case.state[1] & 0xFF
    return int(value) & (63 if decoded.operand_size == 8 else 31)


def defined_flags(case: Case, row: dict[str, Any], decoded: Decoded) -> int:
    """Flags that the instruction defines or leaves alone."""
    undefined = sum(FLAG_BITS[letter] for letter in row["undefined"])
    name = row["mnemonic"]
    if name in SHIFTS:
        count, bits = shift_count(case, decoded), 8 * decoded.operand_size
        if count == 0:
            undefined = 0
        elif count == 1 or (name in ("rcl", "rcr") and count % (bits + 1) == 1 and count == 1):
            undefined &= ~FLAG_BITS["o"]
        elif name in ("shl", "shr") and count >= bits:
            undefined |= FLAG_BITS["c"]
        if name in ("shld", "shrd") and count > bits:
            undefined = ALL_FLAGS
    return ALL_FLAGS & ~undefined


def undefined_result(case: Case, row: dict[str, Any], decoded: Decoded) -> bool:
    """Whether the destination itself is undefined."""
    name = row["mnemonic"]
    if name in ("shld", "shrd"):
        return shift_count(case, decoded) > 8 * decoded.operand_size
    if row["encoding"] == "D9 D8+i":
        return bool(case.state[TAGS] != 0xFF)  # FSTPNCE: whether an empty register is noticed
    return bool(name == "bswap" and decoded.operand_size == 2)


def near_extended(a: bytes, b: bytes) -> bool:
    """Whether two 80-bit numbers are at most ULPS apart."""
    numbers = []
    for data in (a, b):
        significand, exponent = struct.unpack("<QH", data)
        numbers.append(
            (-1 if exponent & 0x8000 else 1) * ((exponent & 0x7FFF) << 63 | significand & (1 << 63) - 1)
        )
    return bool(abs(numbers[0] - numbers[1]) <= ULPS)


def near_lanes(a: bytes, b: bytes) -> bool:
    """Whether the approximations are as near as Intel allows (relative 1.5 * 2^-12, each)."""
    for x, y in zip(struct.unpack("<64f", a), struct.unpack("<64f", b), strict=True):
        if x == y or (x != x and y != y):
            continue
        # Tiny results are 0: at the edge it is the approximation that decides.
        if 0 in (x, y) and max(abs(x), abs(y)) <= LEAST and math.copysign(1, x) == math.copysign(1, y):
            continue
        if not abs(x - y) <= 3 * 2.0**-12 * abs(y):
            return False
    return True


def canonical(address: int) -> bool:
    return not (1 << 47) <= address < (1 << 64) - (1 << 47)


def effective_address(case: Case, decoded: Decoded) -> int:
    """Of the memory operand."""
    _, segment, base, index, scale, displacement = next(o for o in decoded.operands if o[0] == "mem")
    names = NAMES32 if decoded.prefixes & ADDRESS32 else NAMES64
    address = displacement
    if base in ("rip", "eip"):
        address += case.rip + decoded.length
    elif base is not None:
        address += case.state[GPR + names.index(base)]
    if index is not None:
        address += case.state[GPR + names.index(index)] * scale
    if decoded.prefixes & ADDRESS32:
        address &= (1 << 32) - 1
    if segment is not None:
        address += case.state[FS_BASE if segment == "fs" else GS_BASE]
    return int(address) & (1 << 64) - 1


class Comparison:
    """Our outcome against another's. `exact`: that one is a real processor, whose exception flags count."""

    def __init__(self, case: Case, ours: Outcome, other: Outcome, exact: bool) -> None:
        self.case, self.ours, self.other, self.exact = case, ours, other, exact
        self.row = table()["rows"][case.row]
        decoded = decode(case.code)
        assert isinstance(decoded, Decoded), case.code.hex()
        self.decoded = decoded
        self.found: list[str] = []

    def differences(self, image: bytes) -> list[str]:
        ours, other = self.ours, self.other
        if other.kind == "general protection" and ours.kind == "done" and not canonical(ours.state[RIP]):
            return []  # a branch to a non-canonical address: processors fault before it, we behind it
        if (
            self.row["mnemonic"] in ("maskmovq", "maskmovdqu")
            and ours.kind == "done"
            and other.kind != "done"
        ):
            return []  # whether bytes that are not written can fault is the processor's choice
        if self.row["mnemonic"] == "cmps" and "done" not in (ours.kind, other.kind):
            return []  # which of two bad operands is read first is the processor's choice
        if self.row["mnemonic"] in SEVERAL and {ours.kind, other.kind} == {
            "general protection",
            "page fault",
        }:
            return []
        if ours.kind == "general protection" and other.kind == "done" and other.state[MXCSR] & AMD_MISALIGNED:
            return []
        if not self.exact and ours.kind != "done":
            # Unicorn stores half of what a fault cuts, begins MMX before it, and knows no alignment
            met = other.kind != "done" or ours.kind == "general protection"
            return [] if met else [f"ends with {ours.kind}, not done"]
        if ours.kind != other.kind:
            return [f"ends with {ours.kind}, not {other.kind}"]
        if undefined_result(self.case, self.row, self.decoded):
            return []
        if self.exact and ours.kind == "page fault" and self.fault_matters():
            # what reads and then writes: processors check for the write first, and either will do
            if ours.access == "read" and other.access == "write":
                return []
            if (ours.address, ours.access) != (other.address, other.access):
                mine, theirs = (
                    f"{ours.address or 0:#x} ({ours.access})",
                    f"{other.address:#x} ({other.access})",
                )
                self.found.append(f"page fault at {mine}, not {theirs}")
        self.general()
        self.vectors()
        if ours.kind == "done" or self.row["mnemonic"] != "maskmovq":  # AMD has begun MMX before the fault
            self.fpu()
        stacked = (
            ours.kind != "done" and self.row["mnemonic"] == "enter"
        )  # below the stack that has not moved
        if (ours.memory is not None or other.memory is not None) and not stacked:
            self.memory(image)
        return self.found

    def fault_matters(self) -> bool:
        """Linux does not tell non-canonical addresses; ours beyond 4 GiB differ by design."""
        low = self.other.address is not None and self.other.address < 1 << 32
        return low and self.row["mnemonic"] not in OWN_ORDER

    def unequal(self, what: str, mine: int, theirs: int) -> None:
        if mine != theirs:
            self.found.append(f"{what} is {mine:#x}, not {theirs:#x}")

    def general(self) -> None:
        mine, theirs = self.ours.state, self.other.state
        for number in range(16):
            self.unequal(REGISTERS[number], mine[GPR + number], theirs[GPR + number])
        self.unequal("rip", mine[RIP], theirs[RIP])
        mask = ALL_FLAGS
        if self.ours.kind == "done" or len(self.case.code) > self.decoded.length:
            mask = defined_flags(self.case, self.row, self.decoded)
        self.unequal("flags", mine[FLAGS] & mask, theirs[FLAGS] & mask)

    def vectors(self) -> None:
        mine, theirs = self.ours.state, self.other.state
        if mine[XMM] != theirs[XMM] and not (
            self.row["mnemonic"] in APPROXIMATE and near_lanes(mine[XMM], theirs[XMM])
        ):
            for number in range(16):
                a, b = (state[XMM][16 * number : 16 * number + 16] for state in (mine, theirs))
                if a != b:
                    self.found.append(f"xmm{number} is {a.hex()}, not {b.hex()}")
        mask = 0xFFFF if self.exact else 0xFFC0
        self.unequal("mxcsr", mine[MXCSR] & mask, theirs[MXCSR] & mask)

    def fpu(self) -> None:
        mine, theirs, name = self.ours.state, self.other.state, self.row["mnemonic"]
        if mine[ST] != theirs[ST]:
            for number in range(8):
                a, b = (state[ST][16 * number : 16 * number + 10] for state in (mine, theirs))
                if a != b and not (name in TRANSCENDENTAL and near_extended(a, b)):
                    self.found.append(f"R{number} is {a.hex()}, not {b.hex()}")
        self.unequal("fpu control", mine[CONTROL] & 0x1F3F, theirs[CONTROL] & 0x1F3F)
        mask = 0xFFFF if self.exact else 0x7900
        if name in TRANSCENDENTAL:
            mask &= ~0x0220  # rounding
        if self.row["feature"] in ("x87", "sse3") and name not in CONDITION_CODES:
            mask &= ~0x4500 if name not in TRANSCENDENTAL else ~0x4100
        if name in C1_UNDEFINED:
            mask &= ~0x0200
        if name in ("fprem", "fprem1") and theirs[STATUS] & 1:
            mask &= ~0x4700  # nothing was divided
        self.unequal("fpu status", mine[STATUS] & mask, theirs[STATUS] & mask)
        self.unequal("fpu tags", mine[TAGS], theirs[TAGS])

    def memory(self, image: bytes) -> None:
        before = image_of(self.case, image)
        mine, theirs = bytearray(self.ours.memory or before), bytearray(self.other.memory or before)
        if self.row["mnemonic"] in LAST_INSTRUCTION:
            self.hide_last_instruction(mine, theirs)
        if mine == theirs:
            return
        offsets = [i for i, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b]
        at, end = offsets[0], offsets[-1] + 1
        end = min(end, at + 32)
        self.found.append(f"memory at {DATA + at:#x} is {mine[at:end].hex()}, not {theirs[at:end].hex()}")

    def hide_last_instruction(self, mine: bytearray, theirs: bytearray) -> None:
        start = effective_address(self.case, self.decoded) - DATA
        for low, high in LAST_INSTRUCTION[self.row["mnemonic"]]:
            for image in (mine, theirs):
                for at in range(max(0, start + low), min(len(image), start + high)):
                    image[at] = 0


def differences(case: Case, ours: Outcome, other: Outcome, exact: bool, image: bytes) -> list[str]:
    return Comparison(case, ours, other, exact).differences(image)
