"""One zstd frame per stored object: encoding, and decoding that trusts nothing."""

from __future__ import annotations

import hashlib
import threading

import zstandard

from storage.errors import BadChunk

BLOCK = 4096
CHUNK_BYTES = 256 * 1024
CHUNK_BLOCKS = CHUNK_BYTES // BLOCK
LEVEL = 3
# A frame of incompressible bytes is a little longer than they are; a far longer one was made to waste space.
MAX_FRAME_BYTES = CHUNK_BYTES + 1024
# RFC 8878 asks decoders for 8 MiB, and browsers refuse a `Content-Encoding: zstd` with a larger window.
MAX_WINDOW_BYTES = 8 * 1024 * 1024


class _Codecs(threading.local):
    """zstandard's objects are fast to reuse and must not be shared by threads."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor()


_codecs = _Codecs()


def digest_of(raw: bytes | memoryview) -> bytes:
    return hashlib.sha256(raw).digest()


def encode_frame(raw: bytes | memoryview) -> bytes:
    """`raw` as one zstd frame with its content size in the header."""
    return _codecs.compressor.compress(raw)


def frame_content_size(frame: bytes, limit: int = CHUNK_BYTES) -> int:
    """How many bytes the frame says it holds, 1 to `limit`. Raises `BadChunk` for a header we refuse."""
    try:
        header = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise BadChunk(f"Not a zstd frame: {error}.") from None
    size = header.content_size
    if size == zstandard.CONTENTSIZE_UNKNOWN:
        raise BadChunk("The zstd frame does not say its content size.")
    if not 1 <= size <= limit:
        raise BadChunk(f"The zstd frame holds {size} bytes; 1 to {limit} are allowed.")
    if header.window_size > MAX_WINDOW_BYTES or header.dict_id:
        raise BadChunk("The zstd frame needs a dictionary or too large a window.")
    return int(size)


def decode_frame(frame: bytes, limit: int = CHUNK_BYTES) -> bytes:
    """The raw bytes of exactly one zstd frame. Never allocates more than `limit`; raises `BadChunk`."""
    size = frame_content_size(frame, limit)
    try:
        raw = _codecs.decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadChunk(f"The zstd frame is damaged: {error}.") from None
    if len(raw) != size:
        raise BadChunk("The zstd frame holds less than it says.")
    return raw


def decode_verified(frame: bytes, digest: bytes, limit: int = CHUNK_BYTES) -> bytes:
    """`decode_frame`, and the bytes are those that `digest` (32 bytes) names."""
    raw = decode_frame(frame, limit)
    if digest_of(raw) != digest:
        raise BadChunk
    return raw
