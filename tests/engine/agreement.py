"""Compares the decoder with capstone: over programs' code, and over random and mutated bytes.

python -m tests.engine.agreement [FILE…]      all of bash, libc, cc1 and python3, or of FILE
python -m tests.engine.agreement --fuzz N     N random byte strings
"""

from __future__ import annotations

import argparse
import os
import random
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import capstone

from tests.engine.capstone_view import difference, disassembler, view
from tests.engine.decoding import decode, sweep, table

LONGEST = 15
LACKING = {
    *("xtest", "xabort", "xbegin", "xend", "movbe", "rdpkru", "wrpkru", "rdseed", "rdrand", "rdpid"),
    *("incsspq", "incsspd", "adcx", "adox", "pclmulqdq", "gf2p8mulb", "gf2p8affineqb", "gf2p8affineinvqb"),
    *("aesenc", "aesenclast", "aesdec", "aesdeclast", "aesimc", "aeskeygenassist"),
    *("sha1rnds4", "sha1nexte", "sha1msg1", "sha1msg2", "sha256rnds2", "sha256msg1", "sha256msg2"),
    *("xsave", "xsave64", "xsavec", "xsavec64", "xsaveopt", "xsaveopt64", "xsaves", "xsaves64", "xrstor"),
    *("xrstor64", "xrstors", "xrstors64", "xgetbv", "xsetbv", "rdfsbase", "rdgsbase", "wrfsbase", "wrgsbase"),
    *("clflushopt", "clwb", "ptwrite", "umonitor", "umwait", "tpause", "movdiri", "movdir64b", "enqcmd"),
    *("enqcmds", "wrssd", "wrssq", "wrussd", "wrussq", "saveprevssp", "rstorssp", "setssbsy", "clrssbsy"),
    *("extrq", "insertq", "movntss", "movntsd", "femms", "monitorx", "mwaitx", "clzero", "rdpru", "wbnoinvd"),
    *(
        "monitor",
        "mwait",
        "vmcall",
        "vmlaunch",
        "vmresume",
        "vmxoff",
        "vmxon",
        "vmptrld",
        "vmptrst",
        "vmclear",
    ),
    *(
        "vmread",
        "vmwrite",
        "vmfunc",
        "vmmcall",
        "vmrun",
        "vmload",
        "vmsave",
        "stgi",
        "clgi",
        "skinit",
        "invlpga",
    ),
    *("invept", "invvpid", "invpcid", "clac", "stac", "encls", "enclu", "enclv", "pconfig", "getsec", "rsm"),
    *(
        "sysenter",
        "sysexit",
        "sysexitq",
        "rdpkru",
        "cldemote",
        "pcommit",
        "encodekey128",
        "xstore",
        "montmul",
    ),
    *("xsha1", "xsha256", "xcryptecb", "xcryptcbc", "xcryptctr", "xcryptcfb", "xcryptofb", "bndmov"),
}
"""Instructions outside x86-64-v2, and those of the kernel that are #UD for programs: not in the table."""
UNKNOWN_TO_CAPSTONE = {
    *(f"0F {opcode:02X} /r" for opcode in (0x0D, *range(0x19, 0x20))), *(f"0F 18 /{n}" for n in range(8)),
    "DC D0+i", "DC D8+i", "DD C8+i", "DE D0+i", "DF C8+i", "DF D0+i", "DF D8+i", "DB E4",
    "0F BC /r", "0F BD /r", "63 /r", "90+r", "70+cc jb", "0F 80+cc jz", "0F 07",
    "NP 0F AE /5", "NP 0F AE /6", "NP 0F AE /7", "F3 90",
}  # fmt: skip
"""What processors take and capstone does not, or not all: reserved NOPs, x87 aliases, F2 before bsf and bsr,
movsxd without REX.W, fences with rm other than 0, pause with 66, prefixes before xchg and jcc."""


ALL_PREFIXES = b"\x66\x67\xf0\xf2\xf3\x64\x65\x26\x2e\x36\x3e"


@dataclass
class Result:
    """How many were compared, and what differs without a reason: (what, an example's bytes)."""

    compared: int = 0
    differences: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def note(self, what: str, code: bytes) -> None:
        self.differences[what] += 1
        self.examples.setdefault(what, code.hex())

    def __str__(self) -> str:
        lines = [
            f"{count} times {what}: {self.examples[what]}" for what, count in self.differences.most_common(40)
        ]
        return "\n".join([f"{self.compared} compared, {len(self.differences)} differences", *lines])


def without_prefixes(code: bytes, dropped: bytes) -> bytes:
    """`code` less those of its legacy prefixes."""
    at = 0
    while at < len(code) and (code[at] in ALL_PREFIXES or code[at] >> 4 == 4):
        at += 1
    return bytes(byte for byte in code[:at] if byte not in dropped) + code[at:]


def lacks_feature(insn: capstone.CsInsn) -> bool:
    code = without_prefixes(bytes(insn.bytes), ALL_PREFIXES)
    name = str(insn.mnemonic).split()[-1]
    while code[0] >> 4 == 4:
        code = code[1:]
    return code[0] in (0xC4, 0xC5, 0x62) or code[:2] == b"\x0f\x0f" or name in LACKING


def explained_missing(code: bytes, insn: capstone.CsInsn) -> bool:
    """Whether there is a reason that we take for #UD what capstone takes for `insn`."""
    if lacks_feature(insn):
        return True
    # Capstone ignores 66, F2 and F3 in places (with REX.W above all) where they select no instruction;
    # processors do not.
    for dropped in (b"\xf2\xf3", b"\x66\xf2\xf3"):
        shorter = decode(without_prefixes(code, dropped))
        if not isinstance(shorter, int) and table()["rows"][shorter.row]["prefix"] in ("NP", "66"):
            return True
    # LOCK is #UD unless the instruction writes memory and may be locked; capstone shows it with F2, F3 and
    # register forms.
    without_lock = without_prefixes(code, b"\xf0")
    unlocked = decode(without_lock)
    if without_lock != code and not isinstance(unlocked, int):
        lockable = "lock" in table()["rows"][unlocked.row]["attributes"]
        return not (lockable and unlocked.operands[0][0] == "mem")
    # MOV to CS is #UD; capstone shows it.
    return bool(insn.mnemonic == "mov" and insn.opcode[0] == 0x8E and insn.op_str.startswith("cs,"))


def explained_length(insn: capstone.CsInsn) -> bool:
    """UD0 and UD1 have a ModRM byte with Intel. 66 before a near branch: Intel ignores it, AMD takes 16 bits;
    capstone mixes both, and takes four bytes with `66 REX.W ret`."""
    name = str(insn.mnemonic).split()[-1]
    return name in ("ud0", "ud1") or (name[0] in "jr" and 0x66 in insn.prefix)


def compare(code: bytes, engine: capstone.Cs, result: Result) -> None:
    """`code`: one instruction, or 15 bytes that may begin one."""
    result.compared += 1
    theirs = next(engine.disasm(code, 0, 1), None)
    ours = decode(code)
    if isinstance(ours, int):
        if theirs is not None and not explained_missing(code, theirs):
            result.note(f"only capstone knows {theirs.mnemonic}", code)
        return
    row = table()["rows"][ours.row]
    if theirs is None:
        if row["encoding"] not in UNKNOWN_TO_CAPSTONE:
            result.note(f"only we know {ours.mnemonic} ({row['encoding']})", code)
        return
    if row["prefix"] in ("F2", "F3") and without_prefixes(code, b"\x66") != code:
        return  # F2 and F3 come before 66 whatever their order; capstone takes the last
    what = difference(ours, view(theirs))
    if what and not (what.startswith("length") and explained_length(theirs)):
        result.note(f"{ours.mnemonic} ({row['encoding']}): {what}", code)


def text_section(path: Path) -> bytes:
    """The .text of an ELF file."""
    data = path.read_bytes()
    headers = struct.unpack_from("<Q", data, 40)[0]
    count, names_index = struct.unpack_from("<HH", data, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, headers + 64 * i) for i in range(count)]
    names = sections[names_index][4]
    for section in sections:
        name = data[names + section[0] : data.index(b"\0", names + section[0])]
        if name == b".text":
            return data[section[4] : section[4] + section[5]]
    raise ValueError(f"{path} has no .text")


def programs() -> list[Path]:
    """Those of this machine's bash, libc, cc1 and python3 that are there."""
    compiler = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True, check=False)
    found = [Path("/bin/bash"), *Path("/lib").glob("x86_64-linux-gnu/libc.so.6"), Path("/usr/bin/python3")]
    return [path for path in [*found, Path(compiler.stdout.strip() or "cc1")] if path.is_file()]


def instructions(code: bytes, engine: capstone.Cs, result: Result) -> Iterator[bytes]:
    """Every different instruction of a linear sweep; what we do not know is compared here, and skipped."""
    seen: set[bytes] = set()
    start = 0
    while start < len(code):
        piece = code[start:]
        found, end = sweep(piece)
        for at, length in found:
            one = piece[at : at + length]
            if one not in seen:
                seen.add(one)
                yield one
        start += end
        if start < len(code):
            unknown = code[start : start + LONGEST]
            compare(unknown, engine, result)
            theirs = next(engine.disasm(unknown, 0, 1), None)
            start += theirs.size if theirs is not None else 1


def compare_program(path: Path, share: int = 1) -> Result:
    """One in `share` of the different instructions of a program, chosen by a hash of their bytes."""
    result, engine = Result(), disassembler()
    for one in instructions(text_section(path), engine, result):
        if zlib.crc32(one) % share == 0:
            compare(one, engine, result)
    return result


def random_bytes(source: random.Random) -> bytes:
    """15 bytes, most of them with an interesting beginning."""
    beginnings = [
        [], [0x0F], [source.choice(b"\x66\xf2\xf3"), 0x0F], [source.randrange(0xD8, 0xE0)],
        [source.choice(b"\x66\xf2\xf3"), source.randrange(0x40, 0x50), 0x0F],
        [source.choice(b"\x66\xf2\xf3"), 0x0F, source.choice(b"\x38\x3a")],
        [source.choice(b"\x66\x67\xf0\xf2\xf3\x64\x65\x2e") for _ in range(source.randrange(4))],
    ]  # fmt: skip
    return (bytes(source.choice(beginnings)) + source.randbytes(LONGEST))[:LONGEST]


def fuzz(seed: int, count: int) -> Result:
    result, engine, source = Result(), disassembler(), random.Random(seed)  # noqa: S311
    for _ in range(count):
        compare(random_bytes(source), engine, result)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--fuzz", type=int, metavar="N")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    options = parser.parse_args()
    if options.fuzz:
        results = {f"seed {options.seed}": fuzz(options.seed, options.fuzz)}
    else:
        results = {str(path): compare_program(path) for path in options.files or programs()}
    for name, result in results.items():
        sys.stdout.write(f"{name}: {result}\n")
    return 1 if any(result.differences for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
