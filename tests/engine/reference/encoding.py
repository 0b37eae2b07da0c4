"""Bytes for a row of the table: registers, sizes, prefixes and addressing forms at random."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from typing import Any

from tests.engine.reference.case import CODE, CODE_SIZE, DATA

VARYING = (0xFFF0, 0xFFF1, 0xFFF2, 0xFFF3)
SIZED = {
    "cbw",
    "cwd",
    "movs",
    "cmps",
    "stos",
    "lods",
    "scas",
    "pushf",
    "popf",
    "leave",
    "enter",
    "xchg",
    "push",
    "pop",
}
FS, GS = 0x64, 0x65


@dataclass
class Address:
    """A memory operand as encoded: base and index by number (None: none), what the instruction adds."""

    base: int | None = None
    index: int | None = None
    scale: int = 1
    displacement: int = 0
    rip_relative: bool = False
    fixed: int | None = None


@dataclass
class Encoded:
    code: bytes = b""
    rip: int = 0
    start: int = 0
    address: Address | None = None
    short_address: bool = False
    segment: int = 0
    condition: int = 0
    operand_size: int = 4
    bit_register: int | None = None
    prefixes: list[int] = field(default_factory=list)


def memory_size(row: dict[str, Any]) -> int:
    """Bytes of the memory operand, the largest when it varies."""
    for operand in row["operands"]:
        if operand["memory"]:
            return 8 if operand["memory_size"] in VARYING else int(operand["memory_size"])
    return 8


def pick_target(row: dict[str, Any], source: random.Random) -> int:
    """Where a memory operand lies: mostly in DATA; across pages, in a missing or a read-only page."""
    size = max(1, memory_size(row))
    choice = source.random()
    if choice < 0.75:
        target = DATA + source.randrange(64, 0x1F00 - size)
        if "align" in row["attributes"] and source.random() < 0.96:
            target &= ~15
        return target
    if choice < 0.82:
        return DATA + 0x1000 - source.randrange(size + 1)
    if choice < 0.89:
        return DATA + 0x2000 - source.randrange(size + 2)
    if choice < 0.92:
        return DATA - source.randrange(size + 1)
    if choice < 0.96:
        target = DATA + 0x3000 + source.randrange(0x800)
        return target & ~15 if "align" in row["attributes"] else target
    if choice < 0.985:
        return DATA + 0x4000 - source.randrange(size + 2)
    return source.choice(
        (0x8000000000000000, 0x0000800000000000, 0xFFFF880000000000, 0xFFFFFFFFFFFFFFF8, 0x10)
    )


def encode(row: dict[str, Any], source: random.Random, before: Encoded | None = None) -> Encoded:
    """`before`: the instruction in front of this one."""
    made = Encoded(rip=CODE + 0x800 + source.randrange(16))
    made.start = made.rip
    if before is not None:
        made.rip, made.start = before.rip + len(before.code), before.rip
    attributes, rex = row["attributes"], 0
    sizes = {operand[k] for operand in row["operands"] for k in ("register_size", "memory_size")}
    sized = bool(sizes & set(VARYING)) or row["mnemonic"] in SIZED
    legacy: list[int] = []
    if row["prefix"] in ("66", "F2", "F3"):
        legacy.append(int(row["prefix"], 16))
    if row["w"] is not None:
        rex |= row["w"] << 3
    elif sized and "byte" not in attributes and "f64" not in attributes:
        choice = source.random()
        if choice < 0.4:
            rex |= 8
        elif choice < 0.6 and row["prefix"] in ("", "F2", "F3") and may_be_16(row):
            legacy.append(0x66)
    if "rep" in attributes and source.random() < 0.6:
        legacy.append(source.choice((0xF2, 0xF3, 0xF3)))
    made.operand_size = (
        1 if "byte" in attributes
        else 8 if rex & 8 or "f64" in attributes
        else 2 if 0x66 in legacy and row["prefix"] != "66"
        else 8 if "d64" in attributes else 4
    )  # fmt: skip

    opcode = list(row["opcode"])
    body = b""
    if row["low"]:
        made.condition = source.randrange(16 if row["low"] == "+cc" else 8)
        opcode[-1] += made.condition
        if row["low"] == "+r":
            rex |= source.getrandbits(1)
    immediate_size = sum({"ib": 1, "jb": 1, "iw": 2, "jz": 4, "mo": 0}.get(i, 4) for i in row["immediates"])
    if "iv" in row["immediates"]:
        immediate_size = made.operand_size
    if "iz" in row["immediates"]:
        immediate_size = 2 if made.operand_size == 2 else 4
    if row["modrm"] is not None:
        mask, value = row["modrm"]
        if mask >= 0xF8:
            body = bytes([value | source.randrange(8) if mask == 0xF8 else value])
        else:
            number = value >> 3 if mask else source.randrange(8)
            if not mask:
                rex |= source.getrandbits(1) << 2
            if "bitstring" in attributes:
                made.bit_register = number | (8 if rex & 4 else 0)
            memory = row["restricted"] == "memory" or (row["restricted"] == "any" and source.random() < 0.55)
            if memory:
                body, bits = encode_memory(made, number, source, row)
                rex |= bits
            else:
                rex |= source.getrandbits(1)
                body = bytes([0xC0 | number << 3 | source.randrange(8)])
    if "mo" in row["immediates"]:
        made.address = Address(fixed=pick_target(row, source))
    elif is_string(row):
        pass
    if made.address is not None or is_string(row):
        if source.random() < 0.08:
            made.segment = source.choice((FS, GS))
            legacy.append(made.segment)
        if source.random() < 0.06:
            made.short_address = True
            legacy.append(0x67)
    if row["mnemonic"] in ("jrcxz", "loop", "loope", "loopne") and source.random() < 0.2:
        legacy.append(0x67)
    if "lock" in attributes and made.address is not None and source.random() < 0.25:
        legacy.append(0xF0)
    if row["mnemonic"] in ("nop", "pause") and "b0" in attributes:
        rex &= ~1
    source.shuffle(legacy)
    made.prefixes = legacy
    head = bytes(legacy)
    if rex or source.random() < 0.1:
        head += bytes([0x40 | rex])
    head += bytes(opcode) + body
    if "mo" in row["immediates"]:
        assert made.address is not None
        assert made.address.fixed is not None
        head += (made.address.fixed & MASKS[made.short_address]).to_bytes(
            4 if made.short_address else 8, "little"
        )
    length = len(head) + immediate_size
    if made.address is not None and made.address.rip_relative:
        target = pick_target(row, source) & 0x7FFFFFFF
        made.address.fixed = target
        displacement = target - (made.rip + length)
        head = head[:-4] + struct.pack("<i", displacement)
    made.code = head + immediates(row, made, length, source)
    return made


MASKS = {False: (1 << 64) - 1, True: (1 << 32) - 1}


def may_be_16(row: dict[str, Any]) -> bool:
    return bool(row["prefix"] == "" or row["mnemonic"] in ("popcnt", "crc32"))


def is_string(row: dict[str, Any]) -> bool:
    return row["mnemonic"] in ("movs", "cmps", "stos", "lods", "scas", "xlat", "maskmovq", "maskmovdqu")


def encode_memory(
    made: Encoded, number: int, source: random.Random, row: dict[str, Any]
) -> tuple[bytes, int]:
    """ModRM, SIB and displacement; REX.B and REX.X."""
    choice = source.random()
    small = source.randrange(-128, 128)
    large = source.randrange(-(1 << 20), 1 << 20)
    reg = number << 3
    if choice < 0.1:
        made.address = Address(rip_relative=True)
        return bytes([reg | 5]) + bytes(4), 0
    if choice < 0.15:
        target = pick_target(row, source) & 0x7FFFFFFF
        made.address = Address(fixed=target)
        return bytes([reg | 4, 0x25]) + struct.pack("<I", target), 0
    mod = source.randrange(3)
    if choice < 0.5:
        base = source.randrange(16)
        if mod == 0 and base & 7 == 5:
            mod = 1
        tail = displacement_bytes(mod, small, large)
        made.address = Address(base=base, displacement=(0, small, large)[mod])
        sib = b"\x24" if base & 7 == 4 else b""
        return bytes([mod << 6 | reg | base & 7]) + sib + tail, base >> 3
    index = source.choice([n for n in range(16) if n != 4])
    shift = source.randrange(4)
    if choice < 0.6:
        made.address = Address(index=index, scale=1 << shift, displacement=large)
        sib_byte = shift << 6 | (index & 7) << 3 | 5
        return bytes([reg | 4, sib_byte]) + struct.pack("<i", large), (index >> 3) << 1
    base = source.randrange(16)
    if mod == 0 and base & 7 == 5:
        mod = 2
    made.address = Address(base, index, 1 << shift, (0, small, large)[mod])
    sib_byte = shift << 6 | (index & 7) << 3 | base & 7
    tail = displacement_bytes(mod, small, large)
    return bytes([mod << 6 | reg | 4, sib_byte]) + tail, base >> 3 | (index >> 3) << 1


def displacement_bytes(mod: int, small: int, large: int) -> bytes:
    return (b"", struct.pack("<b", small), struct.pack("<i", large))[mod]


def immediates(row: dict[str, Any], made: Encoded, length: int, source: random.Random) -> bytes:
    tail = b""
    for kind in row["immediates"]:
        if kind == "ib":
            value = source.choice(
                (0, 1, 2, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, source.randrange(256))
            )
            if row["mnemonic"] == "enter":
                value = source.choice((0, 0, 1, 2, 5, 33))
            tail += bytes([value])
        elif kind == "iw":
            tail += struct.pack("<H", source.choice((0, 8, 16, 24, source.randrange(0x400))))
        elif kind in ("iz", "iv"):
            size = made.operand_size if kind == "iv" else 2 if made.operand_size == 2 else 4
            value = source.choice((0, 1, -1, 127, 128, 1 << 8 * size - 1, source.getrandbits(8 * size)))
            tail += (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        elif kind in ("jb", "jz"):
            after = made.rip + length
            while True:
                target = after + source.randrange(-128, 128) if kind == "jb" else code_target(source)
                if not made.start <= target < after:
                    break
            tail += struct.pack("<b" if kind == "jb" else "<i", target - after)
    return tail


def code_target(source: random.Random) -> int:
    """Where branches go: HLTs, or a page that is not there."""
    if source.random() < 0.05:
        return CODE + CODE_SIZE + source.randrange(64)
    return CODE + source.choice((source.randrange(0x700), 0x1000 + source.randrange(0xFF0)))
