"""Cases for a row: encodings, and for each several states whose registers point at the operands."""

from __future__ import annotations

import random
import struct
from functools import cache
from typing import Any

from tests.engine.decoding import table
from tests.engine.reference.case import DATA, DATA_SIZE, IMAGE_SIZE, Case
from tests.engine.reference.encoding import (
    FS,
    MASKS,
    Encoded,
    code_target,
    encode,
    is_string,
    memory_size,
    pick_target,
)
from tests.engine.reference.values import MASK64, Pools, decimal

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
ELSEWHERE = {
    *("syscall", "int", "int3", "int1", "retf", "iret", "callf", "jmpf", "cpuid", "rdtsc", "rdtscp", "rdpmc"),
    *(
        "sldt",
        "str",
        "verr",
        "verw",
        "lar",
        "lsl",
        "sgdt",
        "sidt",
        "smsw",
        "lss",
        "lfs",
        "lgs",
        "invd",
        "wbinvd",
    ),
    *("movcr", "movdr"),
}
"""System calls, far branches, and what asks for the machine itself: no reference can tell."""
STACK = {"push", "pop", "pushf", "popf", "call", "ret", "enter", "leave"}


def tested(number: int) -> bool:
    row = table()["rows"][number]
    if row["mnemonic"] in ELSEWHERE:
        return False
    return not any(operand["register_class"] == "Segment" for operand in row["operands"])


def kind_of(row: dict[str, Any]) -> str:
    """What an XMM register holds for this instruction."""
    name = row["mnemonic"]
    if row["feature"] not in ("sse", "sse2", "sse3", "sse41"):
        return "integer"
    if name.startswith("cvt"):
        origin = name[3:].removeprefix("t")[:2]
        return {"ps": "single", "ss": "single", "pd": "double", "sd": "double"}.get(origin, "integer")
    if name[-2:] in ("ps", "ss") and not name.startswith("p"):
        return "single"
    if name[-2:] in ("pd", "sd") and not name.startswith("p"):
        return "double"
    return "integer"


def rows_named(names: str) -> list[int]:
    return [i for i, row in enumerate(table()["rows"]) if row["mnemonic"] in names.split() and tested(i)]


@cache
def setters() -> list[int]:
    found = rows_named("add adc sub sbb cmp test and or xor inc dec neg shl sar shr xadd cmpxchg")
    return [i for i in found if "o" not in table()["rows"][i]["undefined"]]


@cache
def users() -> list[int]:
    return rows_named("jcc setcc cmovcc adc sbb inc dec cmc lahf pushf")


class Generator:
    def __init__(self, seed: int) -> None:
        self.source = random.Random(seed)  # noqa: S311 - a seed that can be repeated is the point
        self.pools = Pools(self.source)
        self.image = b"".join(struct.pack("<Q", self.number()) for _ in range(IMAGE_SIZE // 8))

    def number(self) -> int:
        return self.source.choice(self.pools.integers)

    def cases(self, number: int, encodings: int, states: int) -> list[Case]:
        row = table()["rows"][number]
        found = []
        for _ in range(encodings):
            made = encode(row, self.source)
            found += [self.case(number, row, made) for _ in range(states)]
        return found

    def pairs(self, count: int, states: int) -> list[Case]:
        """What sets flags and what uses them, in one block: the interpreter fuses such pairs."""
        found: list[Case] = []
        while len(found) < count * states:
            number = self.source.choice(setters())
            row = table()["rows"][number]
            first = encode(row, self.source)
            other = table()["rows"][self.source.choice(users())]
            second = encode(other, self.source, first)
            whole = row["undefined"] and other["mnemonic"] in ("lahf", "pushf")
            if whole or len(first.code) + len(second.code) > 16 or second.address is not None:
                continue
            first.code += second.code
            found += [self.case(number, row, first) for _ in range(states)]
        return found

    def case(self, number: int, row: dict[str, Any], made: Encoded) -> Case:
        source, pools = self.source, self.pools
        general: list[int] = source.choices(pools.integers, k=16)
        flags = 0x202 | (source.getrandbits(12) & 0xCD5 & ~(0x400 if source.random() < 0.7 else 0))
        bases = [source.choice((0, 0x1000, DATA - 0x2000)) if made.segment else 0 for _ in range(2)]
        patches: list[tuple[int, bytes]] = []
        self.point_registers(row, made, general, patches)
        self.point_memory(row, made, general, bases, patches)
        kind = kind_of(row) if source.random() < 0.85 else "integer"
        xmm = b"".join(source.choices(pools.vectors[kind], k=16))
        st = b"".join(value + bytes(6) for value in source.choices(pools.extended, k=8))
        if row["feature"] != "x87" or source.random() < 0.2:
            st = b"".join(source.randbytes(8) + b"\xff\xff" + bytes(6) for _ in range(8))
        control, status, tags = self.fpu(row)
        state = [
            *(value & MASK64 for value in general),
            made.rip,
            flags,
            *bases,
            xmm,
            st,
            control,
            status,
            tags,
            0,
            0,
            0,
            0,
            self.mxcsr(row),
        ]
        state += [0, 0, 0, 0, 0, 0]
        return Case(number, made.code, state, patches)

    def fpu(self, row: dict[str, Any]) -> tuple[int, int, int]:
        source = self.source
        if row["feature"] not in ("x87", "mmx", "sse3") and source.random() < 0.5:
            return 0x37F, 0, 0xFF if source.random() < 0.5 else 0
        control = (
            0x7F | source.choice((0x300, 0x300, 0x300, 0x200, 0)) | source.choice((0, 0, 0x400, 0x800, 0xC00))
        )
        if source.random() < 0.03:
            control &= ~source.getrandbits(6)
        status = source.randrange(8) << 11 | (source.getrandbits(16) & 0x4700 if source.random() < 0.5 else 0)
        if source.random() < 0.1:
            status |= source.getrandbits(6) & control  # flags of masked exceptions
        tags = 0xFF if source.random() < 0.7 else source.getrandbits(8)
        return control, status, tags

    def mxcsr(self, row: dict[str, Any]) -> int:
        source = self.source
        value = 0x1F80
        if source.random() < 0.4:
            value |= (
                source.randrange(4) << 13
                | source.choice((0, 0, 0x8000, 0x40, 0x8040))
                | source.getrandbits(6)
            )
        if source.random() < 0.02:
            value &= ~(source.getrandbits(6) << 7)
        return value

    def point_registers(
        self, row: dict[str, Any], made: Encoded, general: list[int], patches: list[tuple[int, bytes]]
    ) -> None:
        """Implicit operands: the stack, strings, counts, dividends."""
        source, name = self.source, row["mnemonic"]
        if name in STACK or source.random() < 0.3:
            self.point_stack(row, made, general, patches)
        if is_string(row):
            general[RSI], general[RDI] = pick_target(row, source), pick_target(row, source)
            general[RBX] = pick_target(row, source) & ~0xFF
            if source.random() < 0.3:
                general[RDI] = general[RSI] + source.randrange(-16, 17)
            general[RCX] = source.choice((0, 1, 2, 3, 5, 9, 17))
            if made.short_address:
                general[RCX] |= source.choice((0, 1 << 32))
            if source.random() < 0.3:
                general[RAX] = int.from_bytes(self.image[:8], "little")
        if name in ("div", "idiv") and source.random() < 0.8:
            general[RDX] = source.choice((0, 0, 1, MASK64, source.randrange(1 << 16)))
            if made.operand_size == 1:
                general[RAX] &= source.choice((0xFF, 0x7FF))
        if name in ("loop", "loope", "loopne", "jrcxz"):
            general[RCX] = source.choice((0, 1, 2, 1 << 32, 1 << 32 | 1, MASK64, general[RCX]))
        if made.bit_register is not None and source.random() < 0.9:
            general[made.bit_register] = source.randrange(-900, 900) & MASK64
        elif made.bit_register is not None:
            general[made.bit_register] = source.randrange(-(1 << 31), 1 << 31) & MASK64
        if name in ("jmp", "call") and not row["immediates"]:
            for register in range(16):
                if register != RSP:
                    general[register] = code_target(source)

    def point_stack(
        self, row: dict[str, Any], made: Encoded, general: list[int], patches: list[tuple[int, bytes]]
    ) -> None:
        source = self.source
        choice = source.random()
        at = DATA + 0x400 + 8 * source.randrange(0x180)
        if choice < 0.1:
            at = DATA + source.randrange(0, 64)
        elif choice < 0.2:
            at = DATA + DATA_SIZE - source.randrange(0, 24)
        elif choice < 0.3:
            at += source.randrange(8)
        general[RSP] = at
        if row["mnemonic"] in ("leave", "enter"):
            general[RBP] = DATA + 0x1400 + 8 * source.randrange(0x100) if source.random() < 0.9 else at
            if made.operand_size == 2 and row["mnemonic"] == "enter":
                general[RBP] |= source.choice((0, 1 << 32))
        top = at - DATA
        if not 0 <= top <= DATA_SIZE - 8:
            return
        if row["mnemonic"] == "ret":
            patches.append((top, struct.pack("<Q", code_target(source))))
        elif row["mnemonic"] == "popf":
            # neither TF nor AC nor NT: they change what comes next
            patches.append((top, struct.pack("<Q", source.getrandbits(64) & 0xFFFFFFFF00000CD5 | 0x202)))

    def point_memory(
        self,
        row: dict[str, Any],
        made: Encoded,
        general: list[int],
        bases: list[int],
        patches: list[tuple[int, bytes]],
    ) -> None:
        """Sets base and index so that the operand lies at a target, and what is there."""
        source, address = self.source, made.address
        if address is None:
            return
        if address.fixed is not None:
            target = address.fixed
        else:
            target = pick_target(row, source)
            wanted = target - address.displacement
            if made.segment:
                wanted -= bases[0 if made.segment == FS else 1]
            if address.index is None:
                assert address.base is not None
                general[address.base] = wanted & MASK64
            elif address.base is None:
                general[address.index] = wanted // address.scale & MASK64
            elif address.base == address.index:
                general[address.base] = wanted // (1 + address.scale) & MASK64
            else:
                if source.random() < 0.6:
                    general[address.index] = source.randrange(-4096, 4096) & MASK64
                general[address.base] = wanted - general[address.index] * address.scale & MASK64
            if made.short_address:
                for register in (address.base, address.index):
                    if register is not None:
                        general[register] = general[register] & MASKS[True] | source.choice((0, 0xABCD << 32))
        self.fill(row, target - DATA, patches)

    def fill(self, row: dict[str, Any], offset: int, patches: list[tuple[int, bytes]]) -> None:
        data = self.operand_bytes(row)[:64]
        if 0 <= offset <= DATA_SIZE - len(data) and all(
            offset + len(data) <= at or at + len(other) <= offset for at, other in patches
        ):
            patches.append((offset, data))

    def operand_bytes(self, row: dict[str, Any]) -> bytes:
        source, pools, name, size = self.source, self.pools, row["mnemonic"], memory_size(row)
        if name in ("jmp", "call"):
            return struct.pack("<Q", code_target(source))
        if name == "ldmxcsr":
            return struct.pack("<I", self.mxcsr(row) if source.random() < 0.9 else source.getrandbits(32))
        if name in ("fldenv", "frstor", "fldcw", "fxrstor"):
            return self.fpu_image(name)
        if name == "fbld":
            return decimal(source) if source.random() < 0.9 else source.randbytes(10)
        if row["feature"] == "x87" and not name.startswith("fi"):
            if size == 10:
                return source.choice(pools.extended)
            return source.choice(pools.singles if size == 4 else pools.doubles)
        if size >= 16:
            return source.choice(pools.vectors[kind_of(row)])
        kind = kind_of(row)
        if kind == "single" and size == 4:
            return source.choice(pools.singles)
        if kind in ("single", "double") and size == 8:
            return source.choice(pools.vectors[kind])[:8]
        return struct.pack("<Q", self.number())

    def fpu_image(self, name: str) -> bytes:
        control, status, tags = self.fpu({"feature": "x87"})
        if name == "fldcw":
            return struct.pack("<H", control)
        if name == "fxrstor":
            mxcsr = self.mxcsr({}) if self.source.random() < 0.9 else self.source.getrandbits(32)
            head = struct.pack("<HHBBHQQII", control, status, tags, 0, 0, 0, 0, mxcsr, 0xFFFF)
            return head + self.source.choice(self.pools.extended) + bytes(6) + self.source.randbytes(16)
        return struct.pack("<IIIIIII", control, status, self.source.getrandbits(16), 0, 0, 0, 0)
