"""The translator against the interpreter: the same cases, translated at once, end the same to the bit."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import struct
import subprocess
import sys
from dataclasses import replace

from tests.engine.decoding import table
from tests.engine.reference import generator
from tests.engine.reference.case import CODE, CODE_SIZE, DATA, DATA_SIZE, FIXED, MXCSR, PAGE, RIP, XMM, Case
from webvm.up.client import Client, node_environment

ENGINE = Client().folder / "engine"
CORE = Client().folder / "dist-engine" / "core.wasm"
SEQUENCES = 4000
MOST = 6
"""Instructions of a sequence."""
DIFFICULT = {"rol", "ror", "shl", "shr", "sar", "inc", "dec", "adc"}


def rows() -> list[int]:
    """What does not end a sequence. What has difficult flags is in twice."""
    rows = table()["rows"]
    found = [number for number in range(len(rows)) if generator.tested(number)]
    plain = [n for n in found if not {"branch", "privileged", "undefined"} & set(rows[n]["attributes"])]
    return plain + [n for n in plain if rows[n]["mnemonic"] in DIFFICULT]


def sequences(seed: int, count: int) -> tuple[bytes, list[Case]]:
    """The first instruction finds its operands where its case wants them, the others what there is."""
    made = generator.Generator(seed)
    source = random.Random(seed)  # noqa: S311 - a seed that can be repeated is the point
    choices = rows()
    found: list[Case] = []
    while len(found) < count:
        number = source.choice(choices)
        (first,) = made.cases(number, 1, 1)
        code = first.code
        for _ in range(source.randrange(MOST)):
            (other,) = made.cases(source.choice(choices), 1, 1)
            code += other.code
        if first.state[RIP] + len(code) > CODE + CODE_SIZE - 16:
            continue
        state = list(first.state)
        state[RIP] = CODE + 64  # not across pages: that is the interpreter's own test
        found.append(replace(first, code=code, state=state))
    return made.image, found


def compare(image: bytes, cases: list[Case]) -> tuple[int, list[str]]:
    """How many were translated, and what differs."""
    asked = {
        "image": image.hex(),
        "cases": [
            {
                "code": case.code.hex(),
                "state": case.packed.hex(),
                "patches": [[at, data.hex()] for at, data in case.patches],
            }
            for case in cases
        ],
    }
    done = subprocess.run(
        ["node", str(ENGINE / "tests" / "translated.ts"), str(CORE)],
        input=json.dumps(asked),
        env=node_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    found = [f"{cases[one['case']].code.hex()}: {'; '.join(one['what'])}" for one in answer["differences"]]
    return answer["translated"], found


def test_translated_code_does_what_the_interpreter_does() -> None:
    seed = int(os.environ.get("WEBVM_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    sys.stdout.write(f"WEBVM_TEST_SEED={seed}\n")
    image, cases = sequences(seed, SEQUENCES)
    translated, found = compare(image, cases)
    assert translated > SEQUENCES / 2, "most sequences are translated"
    assert not found, "\n".join([f"{len(found)} differ", *found[:20]])


def flag_instruction(source: random.Random) -> bytes:
    """Something that changes or reads flags, of rax, rcx, rbx, rsi and rdi only."""
    wide = source.choice(["", "48"])
    first, second = source.choices([0, 1, 3, 6, 7], k=2)
    registers = f"{0xC0 | second << 3 | first:02x}"

    def one(extension: int) -> str:
        return f"{0xC0 | extension << 3 | first:02x}"

    shift = source.choice([0, 1, 4, 5, 7])  # rol, ror, shl, shr, sar
    made = source.choice(
        [
            f"{wide}ff{one(source.randrange(2))}",  # inc, dec
            f"{wide}d3{one(shift)}",
            f"{wide}c1{one(shift)}{source.randrange(1, 32):02x}",
            f"{wide}{source.choice(['01', '09', '11', '19', '21', '29', '39', '85', '0faf'])}{registers}",
            f"400f{0x90 | source.randrange(16):02x}{one(0)}",  # setcc
            f"{wide}0f{0x40 | source.randrange(16):02x}{registers}",  # cmovcc
        ]
    )
    return bytes.fromhex(made)


def test_flags_in_loops() -> None:
    """Flags that are known only at run time, because ways with different ones meet."""
    seed = int(os.environ.get("WEBVM_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    sys.stdout.write(f"WEBVM_TEST_SEED={seed}\n")
    source = random.Random(seed)  # noqa: S311 - a seed that can be repeated is the point
    made = generator.Generator(seed)
    numbered = {row["mnemonic"]: number for number, row in enumerate(table()["rows"])}
    cases = []
    for _ in range(SEQUENCES):
        body = b""
        for _ in range(source.randrange(1, 9)):
            skipped = flag_instruction(source)
            if source.randrange(4) == 0:
                body += bytes([0x70 | source.randrange(16), len(skipped)])  # jcc over it
            body += skipped
        (like,) = made.cases(numbered["inc"], 1, 1)
        state = list(like.state)
        state[RIP], state[15] = CODE + 64, 3
        loop = body + bytes.fromhex("4983ef01")  # sub $1, %r15; jne
        cases.append(replace(like, code=loop + b"\x0f\x85" + struct.pack("<i", -len(loop) - 6), state=state))
    translated, found = compare(made.image, cases)
    assert translated == SEQUENCES
    assert not found, "\n".join([f"{len(found)} differ", *found[:20]])


def function(source: random.Random, inner: bool) -> bytes:
    """It may call the one behind it, and return to one byte behind where it should."""
    body = b"".join(flag_instruction(source) for _ in range(source.randrange(4)))
    end = bytes.fromhex(
        source.choice(["c3", "c3", "48ff0424c3", "4883042401c3", "c20000", "5affe2"])
    )  # pop %rdx; jmp *%rdx
    if not inner:
        return body + end
    behind = b"\x90" + end
    call = b"\xe8" + struct.pack("<i", len(behind))
    if source.randrange(3) == 0:  # lea behind(%rip), %rdx; call *%rdx
        call = bytes.fromhex("488d15") + struct.pack("<i", 2 + len(behind)) + bytes.fromhex("ffd2")
    return body + call + behind


def test_calls() -> None:
    """Functions that are part of the region, also where they return to somewhere else."""
    seed = int(os.environ.get("WEBVM_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    sys.stdout.write(f"WEBVM_TEST_SEED={seed}\n")
    source = random.Random(seed)  # noqa: S311 - a seed that can be repeated is the point
    made = generator.Generator(seed)
    numbered = {row["mnemonic"]: number for number, row in enumerate(table()["rows"])}
    cases = []
    for _ in range(SEQUENCES // 2):
        functions = function(source, inner=True) + function(source, inner=False)
        body = b""
        for _ in range(source.randrange(1, 4)):
            body += flag_instruction(source)
            body += b"\xe8" + struct.pack("<i", -len(body) - 5 - len(functions)) + b"\x90"
        (like,) = made.cases(numbered["inc"], 1, 1)
        state = list(like.state)
        state[15], state[4] = 3, DATA + 0x800
        loop = body + bytes.fromhex("4983ef01")  # sub $1, %r15; jne
        loop += b"\x0f\x85" + struct.pack("<i", -len(loop) - 6)
        # The case's code begins at its rip: the functions are put before it by a jump over them.
        state[RIP] = CODE + 64
        code = b"\xe9" + struct.pack("<i", len(functions)) + functions + loop
        cases.append(replace(like, code=code, state=state))
    translated, found = compare(made.image, cases)
    assert translated == len(cases)
    assert not found, "\n".join([f"{len(found)} differ", *found[:20]])


def at_rbx(source: random.Random, register: int) -> bytes:
    """ModRM and what follows: memory around rbx, in half of the cases with rcx as an index."""
    displacement = source.choice([0, 1, 8, 24, 0x50, -8, -0x18, 0x7F0, -0x800])
    indexed = source.randrange(2)
    modrm = bytes([0x80 | register << 3 | (4 if indexed else 3)])
    return (
        modrm + bytes([source.randrange(4) << 6 | 0x0B] if indexed else []) + struct.pack("<i", displacement)
    )


def walk_instruction(source: random.Random) -> bytes:
    """Memory at an address that moves, by constants mostly; doubles between it and xmm0 to xmm2."""
    register, other = source.randrange(3), source.randrange(3)
    kind = source.randrange(10)
    if kind < 3:
        opcode = source.choice(
            ["488b", "8b", "4889", "89", "88", "8a", "4801", "4803", "660f6f", "0f10", "0f11"]
        )
        # rax, rsi or rdi; of the vectors xmm0 to xmm2
        return bytes.fromhex(opcode) + at_rbx(source, register if "0f" in opcode else [0, 6, 7][register])
    if kind < 6:
        opcode = source.choice(["f20f10", "f20f10", "f20f11", "f20f58", "f20f59", "f20f5c"])
        return bytes.fromhex(opcode) + at_rbx(source, register)
    if kind < 8:
        opcode = source.choice(
            ["f20f10", "f20f58", "f20f59", "660f28", "660f14", "660f57", "660fef", "f20f2d"]
        )
        if opcode == "f20f2d":
            return bytes.fromhex("f2480f2ac6")  # cvtsi2sd %rsi, %xmm0
        return bytes.fromhex(opcode) + bytes([0xC0 | register << 3 | other])
    step = source.choice([1, 2, 3, 4, 8, 16, 24, 0x50, 0x300, 0x1000])
    target = source.choice([3, 3, 3, 1])
    if source.randrange(20) == 0:
        return bytes.fromhex("4801c1")  # add %rax, %rcx: no constant
    if source.randrange(3) == 0:
        lea = bytes([0x48, 0x8D, 0x80 | target << 3 | target])
        return lea + struct.pack("<i", source.choice([step, -step]))
    return bytes([0x48, 0x81, source.choice([0xC0, 0xE8]) | target]) + struct.pack("<i", step)


def test_walks() -> None:
    """Loops through memory up to its ends, its hole and what is read-only, also where they fault."""
    seed = int(os.environ.get("WEBVM_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    sys.stdout.write(f"WEBVM_TEST_SEED={seed}\n")
    source = random.Random(seed)  # noqa: S311 - a seed that can be repeated is the point
    made = generator.Generator(seed)
    numbered = {row["mnemonic"]: number for number, row in enumerate(table()["rows"])}
    cases = []
    for _ in range(SEQUENCES):
        body = b"".join(walk_instruction(source) for _ in range(source.randrange(1, 8)))
        (like,) = made.cases(numbered["inc"], 1, 1)
        state = list(like.state)
        near = source.choice([DATA, DATA + PAGE, DATA + DATA_SIZE, FIXED, DATA + PAGE // 2])
        state[RIP], state[15], state[MXCSR] = CODE + 64, source.randrange(1, 14), 0x1FA0
        state[3], state[1] = (
            near + source.randrange(-0x60, 0x60),
            source.choice([0, 1, -1, 16, -16]) % (1 << 64),
        )
        numbers = [source.uniform(-1e3, 1e3) * source.choice([1, 1, 1, 0, 2.0**-1060]) for _ in range(6)]
        state[XMM] = struct.pack("<6d", *numbers) + state[XMM][48:]
        first = bytes.fromhex("4983ef01")  # sub $1, %r15; jne
        loop = body + first
        loop += b"\x0f\x85" + struct.pack("<i", -len(loop) - 6)
        if source.randrange(3) == 0:  # twice, in a loop around it
            outer = bytes.fromhex("49c7c704000000")  # mov $4, %r15
            outer += b"\x48\x81\xc3" + struct.pack("<i", source.choice([0, 0x100, -0x100, 0x1000, -0x1000]))
            loop = loop + outer + bytes.fromhex("4983ee01")  # add …, %rbx; sub $1, %r14; jne
            loop += b"\x0f\x85" + struct.pack("<i", -len(loop) - 6)
            state[14] = 2
        cases.append(replace(like, code=loop, state=state))
    translated, found = compare(made.image, cases)
    assert translated == SEQUENCES
    assert not found, "\n".join([f"{len(found)} differ", *found[:20]])


def test_floating_point_at_the_edges_of_what_is_translated_directly() -> None:
    """All pairs of numbers around 1, the smallest normal one and infinity, once the inexact flag is up."""
    least, most = 2.0**-1022, math.ldexp(2 - 2.0**-52, 1023)
    edges = [1.0, 2.0, 0.5, least, 2 * least, most, most / 2, 2.0**-537, 2.0**-1074, 0.0, math.inf, math.nan]
    numbers = [near for edge in edges for near in (math.nextafter(edge, 0), edge, math.nextafter(edge, 2))]
    made = generator.Generator(1)
    numbered = {row["mnemonic"]: number for number, row in enumerate(table()["rows"])}
    cases = []
    for name, opcode in (("addsd", "58"), ("subsd", "5c"), ("mulsd", "59"), ("divsd", "5e")):
        (like,) = made.cases(numbered[name], 1, 1)
        for a, b in itertools.product(numbers, repeat=2):
            state = list(like.state)
            state[RIP], state[MXCSR], state[3] = CODE + 64, 0x1FA0, DATA
            state[XMM] = struct.pack("<dddd", a, 1, -b, 1) + state[XMM][32:]
            codes = [f"f20f{opcode}c1"]
            if a in edges and b in edges:
                loaded = f"f20f1013f20f{opcode}c2"  # movsd (%rbx), %xmm2; … %xmm2, %xmm0
                # movsd 8(%rbx), %xmm2; … %xmm2, %xmm0; movsd %xmm1, %xmm2; … %xmm2, %xmm0
                replaced = f"f20f105308f20f{opcode}c2f20f10d1f20f{opcode}c2"
                codes += [f"f20f{opcode}03", f"{loaded}f20f1103", replaced]
            patch = (0, struct.pack("<dd", -b, 1))
            cases += [replace(like, code=bytes.fromhex(code), state=state, patches=[patch]) for code in codes]
    translated, found = compare(made.image, cases)
    assert translated == len(cases)
    assert not found, "\n".join([f"{len(found)} differ", *found[:20]])
