"""Values that instructions may trip over: edges of integers and floating point, and random ones."""

from __future__ import annotations

import random
import struct

MASK64 = (1 << 64) - 1


def integer(source: random.Random) -> int:
    """64 bits: edges of every width, powers of two, small and random numbers."""
    choice = source.random()
    if choice < 0.35:
        return source.getrandbits(64)
    if choice < 0.55:
        width = source.choice((8, 16, 32, 64))
        low = source.choice((0, 1, -1, 1 << width - 1, (1 << width - 1) - 1, (1 << width) - 1, 2))
        high = source.choice((0, 0, MASK64, source.getrandbits(64)))
        mask = (1 << width) - 1
        return (low & mask) | (high & MASK64 & ~mask)
    if choice < 0.7:
        return (1 << source.randrange(64)) + source.choice((0, 0, -1, 1)) & MASK64
    if choice < 0.85:
        return source.randrange(256)
    return -source.randrange(1, 300) & MASK64


def single(source: random.Random) -> bytes:
    choice = source.random()
    if choice < 0.3:
        bits = source.choice(
            (0, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000,
             0x7F800001, 0xFFA00000, 1, 0x807FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x3F000000,
             0x4F000000,              0xCF000000,
             0x5F000000, 0xDF000000, 0x4EFFFFFF, 0x3FC00000, 0x40200000)
        )  # fmt: skip
    elif choice < 0.4:
        bits = source.getrandbits(1) << 31 | source.getrandbits(23)
    elif choice < 0.6:
        return struct.pack("<f", float(source.randrange(-1000, 1000)) / source.choice((1, 2, 3)))
    elif choice < 0.85:
        bits = source.getrandbits(1) << 31 | source.randrange(97, 160) << 23 | source.getrandbits(23)
    else:
        bits = source.getrandbits(32)
    return struct.pack("<I", bits)


def double(source: random.Random) -> bytes:
    choice = source.random()
    if choice < 0.3:
        bits = source.choice(
            (0, 1 << 63, 0x3FF << 52, 0xBFF << 52, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48, 0xFFF8 << 48,
             0x7FF << 52 | 1, 0xFFF4 << 48, 1, 1 << 63 | (1 << 52) - 1, 1 << 52, 0x7FEFFFFFFFFFFFFF,
             0xFFEFFFFFFFFFFFFF, 0x3FE << 52, 0x41E << 52, 0xC1E << 52, 0x43E << 52, 0xC3E << 52,
             0x41DFFFFFFFC00000, 0x41EFFFFFFFE00000, 0x3FF8 << 48, 0x4004 << 48, 0x369 << 52, 0x380 << 52)
        )  # fmt: skip
    elif choice < 0.4:
        bits = source.getrandbits(1) << 63 | source.getrandbits(52)
    elif choice < 0.6:
        return struct.pack("<d", float(source.randrange(-100000, 100000)) / source.choice((1, 2, 3)))
    elif choice < 0.85:
        bits = source.getrandbits(1) << 63 | source.randrange(960, 1090) << 52 | source.getrandbits(52)
    else:
        bits = source.getrandbits(64)
    return struct.pack("<Q", bits)


def extended(source: random.Random) -> bytes:
    """Ten bytes: normal numbers above all; zeros, infinities, NaNs, denormals, unnormal ones."""
    choice, sign = source.random(), source.getrandbits(1) << 15
    if choice < 0.25:
        significand, exponent = source.choice(
            ((0, 0), (1 << 63, 0x3FFF), (1 << 63, 0x7FFF), (3 << 62, 0x7FFF), (5 << 61, 0x7FFF), (1, 0),
             ((1 << 63) - 1, 0), (1 << 63, 1), (MASK64, 0x7FFE), (1 << 63, 0x3FFE), (1 << 63, 0x401E),
             (1 << 63, 0x403E), (MASK64, 0x403D), (3 << 62, 0x3FFF), (0xC90FDAA22168C235, 0x4000))
        )  # fmt: skip
    elif choice < 0.3:
        significand, exponent = source.choice(
            ((0, 0x7FFF), (1 << 62, 0x7FFF), (1 << 62, 0x4000), (0, 0x4000), (1 << 63, 0), (MASK64, 0))
        )
    elif choice < 0.45:
        number = source.randrange(1, 100000)
        exponent = 16383 + number.bit_length() - 1
        significand = number << 64 - number.bit_length()
    elif choice < 0.9:
        significand, exponent = 1 << 63 | source.getrandbits(63), source.randrange(16383 - 70, 16383 + 70)
    else:
        significand, exponent = 1 << 63 | source.getrandbits(63), source.randrange(1, 0x7FFF)
    return struct.pack("<QH", significand, sign | exponent)


def decimal(source: random.Random) -> bytes:
    """Packed decimal: 18 digits and a sign."""
    digits = bytes(source.randrange(10) << 4 | source.randrange(10) for _ in range(9))
    return digits + bytes([source.choice((0, 0x80))])


def vector(source: random.Random, kind: str) -> bytes:
    """16 bytes of "single", "double" or "integer" lanes."""
    if kind == "single":
        return b"".join(single(source) for _ in range(4))
    if kind == "double":
        return double(source) + double(source)
    choice = source.random()
    if choice < 0.5:
        return source.randbytes(16)
    if choice < 0.75:
        return bytes(source.choices((0, 1, 0x7F, 0x80, 0xFF, 0xFE), k=16))
    return struct.pack("<QQ", integer(source), integer(source))


class Pools:
    """Values made once and taken many times: making them is what takes the time."""

    def __init__(self, source: random.Random) -> None:
        self.integers = [integer(source) for _ in range(400)]
        self.vectors = {
            kind: [vector(source, kind) for _ in range(300)] for kind in ("single", "double", "integer")
        }
        self.extended = [extended(source) for _ in range(300)]
        self.singles = [single(source) for _ in range(200)]
        self.doubles = [double(source) for _ in range(200)]
