"""The decoder: agreement with capstone, and any bytes at all."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
from pathlib import Path

import pytest

from tests.engine.agreement import compare_program, fuzz, programs, random_bytes
from tests.engine.decoding import INSN, Decoded, decode, library

SHARES = {"bash": 10, "libc.so.6": 10, "python3": 40, "cc1": 150}
"""One in so many of a program's different instructions, for a few seconds in all."""


@pytest.mark.parametrize("path", programs(), ids=lambda path: path.name)
def test_agrees_with_capstone_on_programs(path: Path) -> None:
    result = compare_program(path, SHARES[path.name])
    assert result.compared > 1000
    assert not result.differences, str(result)


def test_agrees_with_capstone_on_random_bytes() -> None:
    seed = int.from_bytes(os.urandom(4), "little")
    result = fuzz(seed, 30_000)
    assert not result.differences, f"seed {seed}: {result}"


@pytest.mark.parametrize(
    ("code", "mnemonic", "length"),
    [
        ("48 66 89 c8", "mov", 4),  # REX counts only directly before the opcode
        ("66 48 89 c8", "mov", 4),
        ("66 f2 0f 58 c1", "addsd", 5),  # F2 and F3 come before 66
        ("f3 f2 0f 58 c1", "addsd", 5),  # the last of F2 and F3 counts
        ("f2 f3 0f 58 c1", "addss", 5),
        ("f3 0f 1e fa", "nop", 4),
        ("f3 41 90", "xchg", 3),
        ("f0 48 0f b1 11", "cmpxchg", 5),
        ("0f c7 0f", "cmpxchg8b", 3),
        ("48 0f c7 0f", "cmpxchg16b", 4),
        ("df e0", "fnstsw", 2),
        ("64 2e 48 8b 04 25 00 00 00 00", "mov", 10),
        ("66" * 14 + "90", "nop", 15),
    ],
)
def test_prefixes(code: str, mnemonic: str, length: int) -> None:
    decoded = decode(bytes.fromhex(code))
    assert isinstance(decoded, Decoded)
    assert (decoded.mnemonic, decoded.length) == (mnemonic, length)


@pytest.mark.parametrize(
    "code",
    [
        "06", "27", "60", "9a", "c4 e2 79 00 c0", "c5 f8 28 c1", "62 f1 7c 48 28 c1", "d6", "ea",
        "f0 48 01 c8", "f0 90", "f0 8b 01", "8e c8", "8e f8", "f3 0f 28 c1",
        "66 0f 38 f0 01", "f2 0f 38 f6 c1",
        "66 0f 3a 44 c1 00", "66 0f 38 dc c1", "d9 d1", "d9 08", "0f b8 c1", "0f 0f c1 9e", "66" * 15 + "90",
    ],
)  # fmt: skip
def test_no_instruction(code: str) -> None:
    assert decode(bytes.fromhex(code)) == -1


@pytest.mark.parametrize(
    "code", ["48", "0f", "0f 38", "8b", "8b 04", "8b 04 25 00", "48 b8 00 00 00 00 00 00 00"]
)
def test_more_bytes_are_needed(code: str) -> None:
    assert decode(bytes.fromhex(code)) == 0


def test_high_bytes_and_rex() -> None:
    assert decode(bytes.fromhex("88 e0")).operands == (("reg", "al"), ("reg", "ah"))  # type: ignore[union-attr]
    assert decode(bytes.fromhex("40 88 e0")).operands == (("reg", "al"), ("reg", "spl"))  # type: ignore[union-attr]


def test_never_reads_behind_its_bytes() -> None:
    """The bytes end where a page ends, and the next one is not there."""
    page = mmap.PAGESIZE
    area = mmap.mmap(-1, 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    libc = ctypes.CDLL(None)
    assert libc.mprotect(ctypes.c_void_p(start + page), page, 0) == 0
    decode_one = library().decode_one
    source, insn = random.Random(4), ctypes.create_string_buffer(INSN.size)  # noqa: S311
    for _ in range(20_000):
        code = random_bytes(source)[: source.randrange(1, 16)]
        at = start + page - len(code)
        ctypes.memmove(at, code, len(code))
        length = decode_one(ctypes.cast(at, ctypes.c_char_p), len(code), insn)
        assert length <= len(code)
        assert length != 0 or len(code) < 15
