"""SSE, MMX and x87 against this machine's processor, by host_cpu.c.

Longer: `python -m tests.engine.test_host_cpu CASES SEED`.
"""

from __future__ import annotations

import os
import platform
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.decoding import table
from tests.engine.native import LIBRARY, load_library

SOURCE = Path(__file__).with_name("host_cpu.c")
FEATURES = {"sse", "sse2", "sse3", "ssse3", "sse41", "sse42", "mmx", "x87"}
TRANSCENDENTAL = {"f2xm1", "fyl2x", "fyl2xp1", "fptan", "fpatan", "fsin", "fcos", "fsincos"}

NOT_COMPARED = {
    *("rcpps", "rcpss", "rsqrtps", "rsqrtss"),  # approximations that differ between processors
    "ldmxcsr",  # AMD's has a bit more
    "stmxcsr",
    *("prefetch", "lfence", "mfence", "sfence", "movnti"),
}
STORE_WITHOUT_CHECK = bytes.fromhex("d9d8")
"""D9 D8+i stores from an empty register on AMD's processors; here as DD D8+i."""


def encodings(row: dict[str, Any], choose: random.Random) -> Iterator[bytes]:
    """A few for each kind of operand. Memory is at [rsi]; general registers are rax to rbx."""
    operands = row["operands"]
    places = {
        place: [o["register_class"] for o in operands if o["place"] == place] for place in ("Rm", "Reg")
    }
    mask, value = row["modrm"] or (0, 0)
    kinds = [kind for kind in ("register", "memory") if row["restricted"] in ("any", kind)]
    for kind in kinds * (4 if row["immediates"] else 2):
        rex = 0x48 if row["w"] == 1 else 0
        modrm = b""
        if row["modrm"] is not None:
            number = {
                place: choose.randrange(4 if "Gpr" in classes else 8) for place, classes in places.items()
            }
            byte = number["Reg"] << 3 | (0x06 if kind == "memory" else 0xC0 | number["Rm"])
            modrm = bytes([(byte & ~mask) | value])
            for place, bit in (("Rm", 1), ("Reg", 4)):
                if "Xmm" in places[place] and kind == "register" and choose.random() < 0.5:
                    rex |= 0x40 | bit
            if any(0xFFF2 in (o["register_size"], o["memory_size"]) for o in operands):
                rex |= choose.choice([0, 0x48])
        prefix = bytes.fromhex(row["prefix"]) if row["prefix"] in ("66", "F2", "F3") else b""
        immediate = bytes(choose.randrange(256) for _ in row["immediates"])
        yield prefix + (bytes([rex]) if rex else b"") + bytes(row["opcode"]) + modrm + immediate


def lines(seed: int, unmasked: bool) -> Iterator[str]:
    choose = random.Random(seed)  # noqa: S311 - a seed that can be repeated is the point
    for row in table()["rows"]:
        if row["feature"] not in FEATURES or row["mnemonic"] in NOT_COMPARED:
            continue
        words = [row["mnemonic"]]
        if row["encoding"][0] == "D" or row["mnemonic"] == "fwait":
            words += ["x87", "near"]
        if row["mnemonic"] in TRANSCENDENTAL:
            words.append("close")
        if unmasked:
            words.append("unmasked")
        for code in encodings(row, choose):
            if not (code[0] == STORE_WITHOUT_CHECK[0] and code[1] & 0xF8 == STORE_WITHOUT_CHECK[1]):
                yield f"{code.hex()} {' '.join(words)}\n"


def compare(program: Path, cases: int, seed: int, unmasked: bool) -> tuple[int, str]:
    """How many instructions differ, and what was said of those."""
    command = [str(program), str(LIBRARY), str(cases), str(seed), "1"]
    text = "".join(lines(seed, unmasked))
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), f"{done.returncode}: {done.stderr}"
    reports = [line for line in done.stdout.splitlines() if not line.endswith(f": 0 of {cases}")]
    return len([line for line in reports if line.endswith(f" of {cases}")]), "\n".join(reports)


def build(folder: Path) -> Path:
    program = folder / "host_cpu"
    subprocess.run(["cc", "-O2", "-o", str(program), str(SOURCE), "-ldl"], check=True)
    load_library()
    return program


if platform.machine() == "x86_64":  # elsewhere there is no processor to compare with

    @pytest.mark.parametrize("unmasked", [False, True], ids=["masked", "unmasked"])
    def test_same_as_the_processor(tmp_path: Path, unmasked: bool) -> None:
        """Values, exceptions, condition codes, faults, of every form; the seed moves."""
        seed = int.from_bytes(os.urandom(4), "little")
        differing, report = compare(build(tmp_path), 200, seed, unmasked)
        assert differing == 0, f"seed {seed}\n{report}"


if __name__ == "__main__":
    scratch = LIBRARY.parent
    for masked in (False, True):
        count, said = compare(build(scratch), int(sys.argv[1]), int(sys.argv[2]), masked)
        sys.stdout.write(f"{said}\n{count} instructions differ\n")
