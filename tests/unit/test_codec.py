"""Frames and packs: what comes back is what went in, and nothing hostile gets through."""

from __future__ import annotations

import os
import struct
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from storage.codec import CHUNK_BYTES, decode_frame, decode_verified, digest_of, encode_frame
from storage.errors import BadChunk, BadPack
from storage.packs import compress_pack, decode_pack, encode_pack


@given(st.binary(min_size=1, max_size=5000))
def test_a_frame_comes_back(raw: bytes) -> None:
    assert decode_verified(encode_frame(raw), digest_of(raw)) == raw


def test_the_largest_chunk_comes_back() -> None:
    raw = os.urandom(CHUNK_BYTES)
    assert decode_frame(encode_frame(raw)) == raw


def skippable() -> bytes:
    return struct.pack("<II", 0x184D2A50, 4) + b"skip"


def wide_window() -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=24, write_content_size=True)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=20_000_000)
    return stream.compress(bytes(20_000_000)) + stream.flush()


GOOD = encode_frame(b"good" * 100)
BAD_FRAMES = {
    "nothing": b"",
    "garbage": b"not a frame at all",
    "a frame cut short": GOOD[:-3],
    "a frame and more": GOOD + b"x",
    "two frames": GOOD + GOOD,
    "a skippable frame first": skippable() + GOOD,
    "a skippable frame alone": skippable(),
    "no content size": zstandard.ZstdCompressor(write_content_size=False).compress(b"good" * 100),
    "an empty frame": encode_frame(b""),
    "a bomb": encode_frame(bytes(CHUNK_BYTES + 1)),
    "a large bomb": encode_frame(bytes(100_000_000)),
}


@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_a_bad_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(BadChunk):
        decode_frame(frame)


def test_a_window_too_large_for_browsers_is_refused() -> None:
    with pytest.raises(BadChunk, match="window"):
        decode_frame(wide_window(), limit=50_000_000)


def test_a_lying_content_size_is_refused() -> None:
    # The single-segment header of a small frame holds the size in one byte behind the descriptor.
    frame = bytearray(encode_frame(os.urandom(200)))
    frame[5] = 100
    with pytest.raises(BadChunk):
        decode_frame(bytes(frame))
    frame[5] = 255
    with pytest.raises(BadChunk):
        decode_frame(bytes(frame))


def test_another_digest_is_refused() -> None:
    with pytest.raises(BadChunk):
        decode_verified(GOOD, digest_of(b"something else"))


@given(st.data())
def test_a_flipped_bit_never_passes(data: st.DataObject) -> None:
    raw = b"some bytes that compress, some bytes that do not" * 20
    frame = bytearray(encode_frame(raw))
    at = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[at // 8] ^= 1 << at % 8
    # A bit that the format does not use may change nothing; then the bytes are right.
    with suppress(BadChunk):
        assert decode_verified(bytes(frame), digest_of(raw)) == raw


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20, unique=True))
def test_a_pack_comes_back(chunks: list[bytes]) -> None:
    pack = encode_pack(chunks)
    assert list(decode_pack(pack).values()) == chunks
    assert decode_frame(compress_pack(pack, threads=2), limit=len(pack)) == pack


def test_a_damaged_pack_is_refused() -> None:
    pack = encode_pack([b"one", b"two"])
    for damaged in (b"", pack[:7], pack[:-1], pack + b"x", b"WVP2" + pack[4:], pack[:-1] + b"!"):
        with pytest.raises(BadPack):
            decode_pack(damaged)
    with pytest.raises(BadPack):
        decode_pack(struct.pack("<4sI", b"WVP1", 0xFFFFFFFF))
