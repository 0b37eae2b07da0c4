"""The core's decoder through its native library, and its instructions in the words of a disassembler."""

from __future__ import annotations

import ctypes
import json
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

from frontend.engine.build import GENERATED
from tests.engine.native import load_library

INSN = struct.Struct("<QqHHBBBBBBBBB1x16s")
"""struct Insn of core/instruction.h."""
NONE, GPR, HIGH, XMM, MMX, ST, SEGMENT, MEMORY, IMMEDIATE, RELATIVE = range(10)
NO_REGISTER, RIP = 0xFF, 16
LOCK, REP, REPNE, FS, GS, ADDRESS32 = 1, 2, 4, 8, 16, 32

NAMES64 = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16))]
NAMES32 = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", *(f"r{n}d" for n in range(8, 16))]
NAMES16 = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di", *(f"r{n}w" for n in range(8, 16))]
NAMES8 = ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", *(f"r{n}b" for n in range(8, 16))]
GENERAL = {1: NAMES8, 2: NAMES16, 4: NAMES32, 8: NAMES64}
HIGHS = ["ah", "ch", "dh", "bh"]
SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs"]

Operand = tuple[Any, ...]
"""("reg", name), ("imm", 64 bits) or ("mem", segment, base, index, scale, displacement)."""


@cache
def library() -> ctypes.CDLL:
    loaded = load_library()
    loaded.decode_one.argtypes = [ctypes.c_char_p, ctypes.c_uint32, ctypes.c_char_p]
    loaded.decode_sweep.argtypes = [ctypes.c_char_p, ctypes.c_uint32, ctypes.c_char_p]
    return loaded


@cache
def table() -> dict[str, Any]:
    """instructions.json: `mnemonics` by number and `rows`."""
    library()  # builds it
    listing: dict[str, Any] = json.loads((GENERATED / "instructions.json").read_text())
    return listing


@dataclass(frozen=True)
class Decoded:
    """An instruction in the form in which it is compared."""

    length: int
    mnemonic: str
    condition: int
    operand_size: int
    prefixes: int
    operands: tuple[Operand, ...]
    sizes: tuple[int, ...]
    row: int


def decode(code: bytes) -> Decoded | int:
    """The instruction at the start of `code`, or what `decode` says instead: 0 (too short), -1 (none)."""
    buffer = ctypes.create_string_buffer(INSN.size)
    length = int(library().decode_one(code, len(code), buffer))
    if length <= 0:
        return length
    (immediate, displacement, mnemonic, form, told, size, prefixes, condition, base, index, scale, count,
     immediate2, raw) = INSN.unpack(buffer.raw)  # fmt: skip
    assert told == length
    name = table()["mnemonics"][mnemonic]
    operands: list[Operand] = []
    sizes: list[int] = []
    for number in range(count):
        kind, register, operand_size = struct.unpack_from("<BBH", raw, 4 * number)
        sizes.append(operand_size)
        match kind:
            case _ if kind == GPR:
                operands.append(("reg", GENERAL[operand_size][register]))
            case _ if kind == HIGH:
                operands.append(("reg", HIGHS[register]))
            case _ if kind in (XMM, MMX):
                operands.append(("reg", f"{'x' if kind == XMM else ''}mm{register}"))
            case _ if kind == ST:
                operands.append(("reg", f"st({register})"))
            case _ if kind == SEGMENT:
                operands.append(("reg", SEGMENTS[register]))
            case _ if kind == MEMORY:
                names = NAMES32 if prefixes & ADDRESS32 else NAMES64
                segment = "fs" if prefixes & FS else "gs" if prefixes & GS else None
                rip = "eip" if prefixes & ADDRESS32 else "rip"
                base_name = None if base == NO_REGISTER else rip if base == RIP else names[base]
                index_name = None if index == NO_REGISTER else names[index]
                operands.append(("mem", segment, base_name, index_name, scale, displacement))
            case _ if kind == IMMEDIATE:
                mask = (1 << 8 * operand_size) - 1
                operands.append(("imm", (immediate2 if name == "enter" and number else immediate) & mask))
            case _ if kind == RELATIVE:
                operands.append(("imm", (immediate + length) & (1 << 64) - 1))
    shown = condition if name in ("jcc", "setcc", "cmovcc") else 0
    return Decoded(length, name, shown, size, prefixes, tuple(operands), tuple(sizes), form)


def sweep(code: bytes) -> tuple[list[tuple[int, int]], int]:
    """Each instruction (offset, length) of a linear sweep, and where the first byte that begins none."""
    lengths = ctypes.create_string_buffer(len(code) or 1)
    end = int(library().decode_sweep(code, len(code), lengths))
    found = lengths.raw
    return [(at, found[at]) for at in range(end) if found[at]], end
