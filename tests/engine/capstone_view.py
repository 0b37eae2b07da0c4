"""What capstone says of an instruction, in the form of decoding.Decoded; where they may differ, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass

import capstone
from capstone import x86_const as x86

from tests.engine.decoding import Decoded, Operand

CONDITIONS = ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"]
STRINGS = {0xA4: "movs", 0xA6: "cmps", 0xAA: "stos", 0xAC: "lods", 0xAE: "scas", 0x6C: "ins", 0x6E: "outs"}
ALIASES = {
    "movabs": "mov", "cwde": "cbw", "cdqe": "cbw", "cdq": "cwd", "cqo": "cwd", "xlatb": "xlat", "sal": "shl",
    "pushfq": "pushf", "popfq": "popf", "iretd": "iret", "iretq": "iret", "retfq": "retf", "wait": "fwait",
    "jecxz": "jrcxz", "feni8087_nop": "fnop", "fdisi8087_nop": "fnop", "fsetpm": "fnop", "fstpnce": "fstp",
    "ljmp": "jmpf", "lcall": "callf", "sysretq": "sysret", "fcompi": "fcomip", "fucompi": "fucomip",
    "ud0": "ud2", "ud1": "ud2", "ud2b": "ud2", "fxsave64": "fxsave", "fxrstor64": "fxrstor",
}  # fmt: skip
HINTS = {"endbr64", "endbr32", "rdsspd", "rdsspq", "cldemote", "nop"} | {
    f"bnd{name}" for name in ("cl", "cn", "cu", "mk", "mov", "ldx", "stx")
}
"""Features that we do not have, whose encodings are NOPs then (0F 18 to 0F 1F)."""
PREFETCHES = {"prefetch", "prefetchw", "prefetchwt1", "prefetchnta", "prefetcht0", "prefetcht1", "prefetcht2"}
COMPARISONS = ["eq", "lt", "le", "unord", "neq", "nlt", "nle", "ord"]


@dataclass(frozen=True)
class Foreign:
    """An instruction as capstone has it: its own name, and ours."""

    length: int
    name: str
    mnemonic: str
    condition: int
    operands: tuple[Operand, ...]
    opcode: bytes
    prefixes: bytes


def disassembler() -> capstone.Cs:
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.detail = True
    return engine


def our_name(name: str, opcode: bytes) -> tuple[str, int]:
    """Our mnemonic and condition for capstone's."""
    if opcode[0] & 0xFE in STRINGS and opcode[1] == 0:
        return STRINGS[opcode[0] & 0xFE], 0
    for prefix in ("j", "set", "cmov"):
        if name.startswith(prefix) and name[len(prefix) :] in CONDITIONS:
            return prefix + "cc", CONDITIONS.index(name[len(prefix) :])
    if found := re.fullmatch(rf"cmp({'|'.join(COMPARISONS)})([ps][sd])", name):
        return "cmp" + found[2], 0
    if name in HINTS:
        return "nop", 0
    if name in PREFETCHES:
        return "prefetch", 0
    return ALIASES.get(name, name), 0


def view(insn: capstone.CsInsn) -> Foreign:
    operands: list[Operand] = []
    for operand in insn.operands:
        if operand.type == x86.X86_OP_REG:
            operands.append(("reg", insn.reg_name(operand.reg)))
        elif operand.type == x86.X86_OP_IMM:
            operands.append(("imm", operand.imm & (1 << 64) - 1))
        else:
            memory = operand.mem
            segment = insn.reg_name(memory.segment) if memory.segment else None
            base = insn.reg_name(memory.base) if memory.base else None
            index = insn.reg_name(memory.index) if memory.index else None
            scale = memory.scale
            if index in (None, "riz", "eiz"):  # a SIB byte without index
                index, scale = None, 1
            operands.append(
                ("mem", segment if segment in ("fs", "gs") else None, base, index, scale, memory.disp)
            )
    opcode = bytes(insn.opcode)
    name = insn.mnemonic.split()[-1]
    mnemonic, condition = our_name(name, opcode)
    return Foreign(
        insn.size,
        name,
        mnemonic,
        condition,
        tuple(operands),
        opcode,
        bytes(insn.prefix),
    )


def difference(ours: Decoded, theirs: Foreign) -> str:
    """What differs; empty when nothing does that matters."""
    if ours.length != theirs.length:
        return f"length {ours.length}, not {theirs.length}"
    if (ours.mnemonic, ours.condition) != (theirs.mnemonic, theirs.condition):
        if (ours.mnemonic, theirs.name) in STYLE or theirs.opcode[0] == 0x90:
            return ""
        return f"{ours.mnemonic} {ours.condition}, not {theirs.name}"
    mine, other = list(ours.operands), list(theirs.operands)
    if ours.mnemonic in WITHOUT_OPERANDS:
        return ""
    mine, other = without_style(ours, theirs, mine, other)
    if mine != other:
        return f"operands {mine}, not {other}"
    return ""


STYLE = {
    ("bsf", "tzcnt"), ("bsr", "lzcnt"), ("wbinvd", "wbnoinvd"),  # without these features F3 means nothing
    ("jmpf", "jmp"), ("callf", "call"), ("movcr", "mov"), ("movdr", "mov"),
}  # fmt: skip
WITHOUT_OPERANDS = {"movs", "cmps", "stos", "lods", "scas", "ins", "outs", "nop", "ud2"}
"""Capstone spells implicit operands out; those of hints and undefined instructions do not matter."""


def without_style(
    ours: Decoded, theirs: Foreign, mine: list[Operand], other: list[Operand]
) -> tuple[list[Operand], list[Operand]]:
    """Both lists, less what is a matter of style."""
    name = ours.mnemonic
    if name.startswith("f") and ours.operands and ours.operands[0][0] == "reg" and name != "fnstsw":
        # capstone leaves st(0) out in places, and names it in fxch
        mine = [operand for operand in mine if operand != ("reg", "st(0)")]
        other = [operand for operand in other if operand != ("reg", "st(0)")]
    if name in ("pblendvb", "blendvps", "blendvpd"):
        mine = mine[:2]  # capstone only prints xmm0
        other = other[:2]
    if re.fullmatch(r"cmp[ps][sd]", name) and len(other) == len(mine) - 1:
        mine = mine[:-1]  # the predicate is in capstone's name
    if name == "enter":
        other = [other[0], ("imm", other[1][1] & 0xFF)]  # capstone extends the nesting level's sign
    if name == "mov" and theirs.opcode[0] == 0x8E and mine[1][0] == "reg":
        mine, other = (
            mine[:1],
            other[:1],
        )  # only 16 bits of the general register count: its size is a matter of style
    if name in ("lar", "lsl", "movsxd") and mine[1][0] == "reg":
        mine, other = mine[:1], other[:1]  # likewise
    if name in ("in", "out"):
        mine = [o for o in mine if o[1] not in ("ax", "eax")]  # capstone forgets that REX.W overrides 66
        other = [o for o in other if o[1] not in ("ax", "eax")]
    if theirs.prefixes[1] in (0x26, 0x2E, 0x36, 0x3E):
        # of several segment overrides capstone takes the last; CS, DS, ES and SS are ignored in 64-bit mode
        mine = [("mem", None, *o[2:]) if o[0] == "mem" else o for o in mine]
    if name == "push" and 0x66 in theirs.prefixes and mine[0][0] == "imm":
        mine = [("imm", mine[0][1] & 0xFFFFFFFF)]  # likewise
        other = [("imm", other[0][1] & 0xFFFFFFFF)]
    masked = []
    for index, operand in enumerate(other):
        if operand[0] == "imm" and index < len(ours.sizes) and ours.sizes[index]:
            operand = ("imm", operand[1] & (1 << 8 * ours.sizes[index]) - 1)
        masked.append(operand)
    return mine, masked
