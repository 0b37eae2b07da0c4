"""Makes the mnemonics, the decoder's tables and the tests' list of instructions from instructions.txt.

    python frontend/engine/core/generate.py FOLDER

writes mnemonics.h, decoder_tables.h and instructions.json there. Standard library only: the build runs it.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

CORE = Path(__file__).resolve().parent
COLUMNS = 6
FLAGS = frozenset("oszapcd")
ATTRIBUTES = [
    *("lock", "rep", "d64", "f64", "byte", "align", "reg", "b0", "bitstring", "branch"),
    *("privileged", "undefined", "modignored"),
]
PREFIXES = ["", "NP", "66", "F3", "F2"]
MAPS: list[tuple[int, ...]] = [(), (0x0F,), (0x0F, 0x38), (0x0F, 0x3A)]
IMMEDIATES = {"ib": "Ib Ibs Ib2", "iw": "Iw", "iz": "Iz", "iv": "Iv", "jb": "Jb", "jz": "Jz", "mo": "Ob Ov"}
SIZES = {"b": 1, "w": 2, "d": 4, "q": 8, "x": 16, "t": 10, "": 0}
VARYING = {"v": 0xFFF0, "z": 0xFFF1, "y": 0xFFF2, "p": 0xFFF3}
FIXED: dict[str, tuple[str, int, str]] = {
    "AL": ("Gpr", 0, "b"),
    "CL": ("Gpr", 1, "b"),
    "AX": ("Gpr", 0, "w"),
    "DX": ("Gpr", 2, "w"),
    "rAX": ("Gpr", 0, "v"),
    "rAXz": ("Gpr", 0, "z"),
    "FS": ("Segment", 4, "w"),
    "GS": ("Segment", 5, "w"),
    "ST0": ("St", 0, "t"),
    "XMM0": ("Xmm", 0, "x"),
}
LETTERS: dict[
    str, tuple[str, str, bool, bool]
] = {  # place, class of a register, whether it may be a register, whether memory
    "E": ("Rm", "Gpr", True, True),
    "R": ("Rm", "Gpr", True, False),
    "M": ("Rm", "None", False, True),
    "W": ("Rm", "Xmm", True, True),
    "U": ("Rm", "Xmm", True, False),
    "Q": ("Rm", "Mmx", True, True),
    "N": ("Rm", "Mmx", True, False),
    "G": ("Reg", "Gpr", True, False),
    "V": ("Reg", "Xmm", True, False),
    "P": ("Reg", "Mmx", True, False),
    "S": ("Reg", "Segment", True, False),
    "Z": ("Low", "Gpr", True, False),
    "O": ("Absolute", "None", False, True),
}
DESTINATION_BYTE = {"Eb", "Gb", "Zb", "AL", "Ob"}


class TableError(Exception):
    """A row that says something impossible; the message names it."""


@dataclass(frozen=True)
class Operand:
    """Where an operand is encoded, what it may be, how many bytes it has (VARYING: with the operand size)."""

    name: str
    place: str
    register_class: str = "None"
    register: bool = False
    memory: bool = False
    register_size: int = 0
    memory_size: int = 0
    fixed: int = 0


@dataclass
class Code:
    """An encoding. `modrm`: (mask, value) of the ModRM byte, None when there is none."""

    prefix: str = ""
    w: int | None = None
    opcode_bytes: list[int] = field(default_factory=list)
    low: str = ""
    modrm: tuple[int, int] | None = None
    immediates: list[str] = field(default_factory=list)

    @property
    def map(self) -> int:
        return MAPS.index(tuple(self.opcode_bytes[:-1]))

    @property
    def opcodes(self) -> range:
        opcode = self.opcode_bytes[-1]
        return range(opcode, opcode + {"": 1, "+r": 8, "+cc": 16}[self.low])


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    mnemonic: str
    encoding: str
    operands: tuple[Operand, ...]
    read: str
    written: str
    undefined: str
    feature: str
    attributes: frozenset[str]
    code: Code
    restricted: str


def parse_size(text: str) -> int:
    if text.isdigit():
        return int(text)
    return VARYING[text] if text in VARYING else SIZES[text]


def parse_operand(name: str) -> Operand:
    if name in FIXED:
        kind, number, letter = FIXED[name]
        return Operand(name, "Fixed", kind, True, False, parse_size(letter), 0, number)
    if name == "1":
        return Operand(name, "One", memory_size=1)
    if name == "STi":
        return Operand(name, "Rm", "St", True, False, SIZES["t"])
    if name == "Ib2":
        return Operand(name, "Immediate2", memory_size=1)
    if name[0] == "I":
        sizes = {"Ib": 1, "Iw": 2}
        return Operand(name, "Immediate", memory_size=sizes.get(name, VARYING["v"]))
    if name[0] == "J":
        return Operand(name, "Relative", memory_size=VARYING["v"])
    if "/" in name:
        register, memory = name.split("/")
        place, kind, _, _ = LETTERS[register[0]]
        return Operand(name, place, kind, True, True, parse_size(register[1:]), parse_size(memory[1:]))
    place, kind, may_register, may_memory = LETTERS[name[0]]
    size = parse_size(name[1:])
    register_size, memory_size = size if may_register else 0, size if may_memory else 0
    return Operand(name, place, kind, may_register, may_memory, register_size, memory_size)


def parse_flags(text: str) -> dict[str, str]:
    found = dict.fromkeys("rwu", "")
    for part in [] if text == "-" else text.split():
        letter, _, flags = part.partition(":")
        if letter not in found or not flags or not FLAGS.issuperset(flags):
            raise TableError(f"flags {text!r}")
        found[letter] = flags
    return found


def parse_encoding(text: str) -> Code:
    code = Code()
    for word in text.split():
        if word in PREFIXES and not code.opcode_bytes and not code.prefix:
            code.prefix = word
        elif word in ("W0", "W1"):
            code.w = int(word[1])
        elif word == "/r":
            code.modrm = (0, 0)
        elif re.fullmatch(r"/[0-7]", word):
            code.modrm = (0x38, int(word[1]) << 3)
        elif word in IMMEDIATES:
            code.immediates.append(word)
        elif found := re.fullmatch(r"([0-9A-F]{2})(\+r|\+cc|\+i)?", word):
            value, suffix = int(found[1], 16), found[2] or ""
            x87 = len(code.opcode_bytes) == 1 and 0xD8 <= code.opcode_bytes[0] <= 0xDF
            if x87 or code.opcode_bytes == [0x0F, 0x01]:
                code.modrm = (0xF8 if suffix == "+i" else 0xFF, value)
            else:
                code.opcode_bytes.append(value)
                code.low = suffix
        else:
            raise TableError(f"encoding {text!r}")
    return code


def parse_row(line: str) -> Row:
    cells = [cell.strip() for cell in line.split("|")]
    if len(cells) != COLUMNS:
        raise TableError(f"not {COLUMNS} columns: {line!r}")
    mnemonic, encoding, operand_cell, flag_cell, feature, attribute_cell = cells
    operands = tuple(map(parse_operand, [] if operand_cell == "-" else operand_cell.split()))
    flags = parse_flags(flag_cell)
    attributes = set([] if attribute_cell == "-" else attribute_cell.split())
    if unknown := attributes - set(ATTRIBUTES):
        raise TableError(f"attributes {sorted(unknown)}: {line!r}")
    if operands and operands[0].name in DESTINATION_BYTE:
        attributes.add("byte")

    code = parse_encoding(encoding)
    carried = [name for name in (o.name for o in operands) if name[0] in "IJO"]
    if len(carried) != len(code.immediates) or any(
        n not in IMMEDIATES[i].split() for n, i in zip(carried, code.immediates, strict=True)
    ):
        raise TableError(f"immediates of encoding and operands differ: {line!r}")
    restricted = "any"
    for operand in operands:
        if operand.place == "Rm" and not (operand.register and operand.memory):
            restricted = "memory" if operand.memory else "register"
        if operand.place in ("Rm", "Reg") and code.modrm is None:
            raise TableError(f"no ModRM: {line!r}")
    if "reg" in attributes or (code.modrm is not None and code.modrm[0] >= 0xF8):
        restricted = "register"
    return Row(
        mnemonic=mnemonic,
        encoding=encoding,
        operands=operands,
        read=flags["r"],
        written=flags["w"],
        undefined=flags["u"],
        feature=feature,
        attributes=frozenset(attributes),
        code=code,
        restricted=restricted,
    )


def parse_table(text: str) -> list[Row]:
    return [parse_row(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def precedence(row: Row) -> tuple[int, int]:
    """Rows of an opcode are tried in this order: the more specific one first."""
    return (0 if row.code.prefix or "b0" in row.attributes else 1, -(row.code.modrm or (0, 0))[0])


def by_opcode(rows: list[Row]) -> dict[tuple[int, int], list[int]]:
    found: dict[tuple[int, int], list[int]] = {}
    for index, row in enumerate(rows):
        for opcode in row.code.opcodes:
            found.setdefault((row.code.map, opcode), []).append(index)
    for key, indexes in found.items():
        indexes.sort(key=lambda index: precedence(rows[index]))
        if len({rows[index].code.modrm is None for index in indexes}) != 1:
            raise TableError(f"rows of opcode {key} disagree about ModRM")
    return found


def class_name(mnemonic: str) -> str:
    return mnemonic.capitalize()


def mnemonics_header(mnemonics: list[str], privileged: list[str]) -> str:
    names = "".join(f"  {class_name(name)},\n" for name in mnemonics)
    texts = "".join(f'  "{name}",\n' for name in mnemonics)
    cases = "".join(f"    case Mnemonic::{class_name(name)}:\n" for name in privileged)
    return f"""/// Generated from instructions.txt.
#pragma once
#include <stdint.h>

enum class Mnemonic : uint16_t {{
  Invalid,
{names}}};
constexpr unsigned kMnemonics = {len(mnemonics) + 1};

inline constexpr const char* kMnemonicNames[kMnemonics] = {{
  "invalid",
{texts}}};

inline const char* mnemonic_name(Mnemonic mnemonic) {{
  const auto index = static_cast<unsigned>(mnemonic);
  return kMnemonicNames[index < kMnemonics ? index : 0];
}}

/// Instructions that raise #GP in user mode, whatever their operands.
constexpr bool is_privileged(Mnemonic mnemonic) {{
  switch (mnemonic) {{
{cases}      return true;
    default:
      return false;
  }}
}}
"""


def tables_header(rows: list[Row]) -> str:
    specs = sorted({operand for row in rows for operand in row.operands}, key=lambda operand: operand.name)
    spec_lines = [
        f"  {{Place::{o.place}, OperandKind::{o.register_class}, {o.fixed}, {o.register_size:#x}, "
        f"{o.memory_size:#x}}},  // {o.name}"
        for o in specs
    ]
    form_lines = []
    for row in rows:
        attributes = " | ".join(f"FORM_{name.upper()}" for name in sorted(row.attributes)) or "0"
        mask, value = row.code.modrm or (0, 0)
        w = 2 if row.code.w is None else row.code.w
        numbers = ", ".join(str(specs.index(operand)) for operand in row.operands)
        signed = any(operand.name == "Ibs" for operand in row.operands)
        kinds = ["ibs" if signed and name == "ib" else name for name in row.code.immediates]
        immediates = [f"Imm::{name.capitalize()}" for name in kinds] + ["Imm::None"] * 2
        form_lines.append(
            f"  {{Mnemonic::{class_name(row.mnemonic)}, {attributes}, {PREFIXES.index(row.code.prefix)}, "
            f"{w}, Restricted::{row.restricted.capitalize()}, {mask:#x}, {value:#x}, "
            f"{{{', '.join(immediates[:2])}}}, {len(row.operands)}, {{{numbers}}}}},  // {row.encoding}"
        )
    opcodes = by_opcode(rows)
    candidates: list[int] = []
    opcode_lines = []
    for number in range(len(MAPS)):
        for opcode in range(256):
            indexes = opcodes.get((number, opcode), [])
            modrm = bool(indexes) and rows[indexes[0]].code.modrm is not None
            opcode_lines.append(f"  {{{len(candidates)}, {len(indexes)}, {str(modrm).lower()}}},")
            candidates += indexes
    attribute_lines = [f"  FORM_{name.upper()} = {1 << bit}," for bit, name in enumerate(ATTRIBUTES)]
    newline = "\n"
    return f"""/// Generated from instructions.txt: for decoder.cpp.
#pragma once
#include "decoder.h"

enum FormAttributes : u16 {{
{newline.join(attribute_lines)}
}};

constexpr OperandSpec kOperandSpecs[] = {{
{newline.join(spec_lines)}
}};

constexpr Form kForms[] = {{
{newline.join(form_lines)}
}};

constexpr u16 kCandidates[] = {{{", ".join(map(str, candidates))}}};

constexpr Opcode kOpcodes[{len(MAPS) * 256}] = {{
{newline.join(opcode_lines)}
}};
"""


def as_json(row: Row) -> dict[str, object]:
    return {
        "mnemonic": row.mnemonic,
        "encoding": row.encoding,
        "operands": [vars(operand) for operand in row.operands],
        "read": row.read,
        "written": row.written,
        "undefined": row.undefined,
        "feature": row.feature,
        "attributes": sorted(row.attributes),
        "prefix": row.code.prefix,
        "w": row.code.w,
        "opcode": row.code.opcode_bytes,
        "low": row.code.low,
        "modrm": row.code.modrm,
        "immediates": row.code.immediates,
        "restricted": row.restricted,
    }


def write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def main() -> int:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        rows = parse_table((CORE / "instructions.txt").read_text())
        tables = tables_header(rows)
    except (TableError, KeyError, ValueError) as error:
        sys.stderr.write(f"instructions.txt: {error!r}\n")
        return 1
    mnemonics = list(dict.fromkeys(row.mnemonic for row in rows))
    privileged = list(dict.fromkeys(row.mnemonic for row in rows if "privileged" in row.attributes))
    write(folder / "mnemonics.h", mnemonics_header(mnemonics, privileged))
    write(folder / "decoder_tables.h", tables)
    listing = {"mnemonics": ["invalid", *mnemonics], "rows": [as_json(row) for row in rows]}
    write(folder / "instructions.json", json.dumps(listing, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
