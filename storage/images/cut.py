"""Cutting a raw disk image and a captured memory into chunks and indexes."""

from __future__ import annotations

import array
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from storage.codec import BLOCK, CHUNK_BLOCKS, CHUNK_BYTES, digest_of
from storage.errors import PublishFailed
from storage.images.report import Report
from storage.images.shelf import Load, in_threads
from storage.images.work import data_runs
from storage.index import Extent, build_index, decode_node

_ZEROS = bytes(CHUNK_BYTES)


@dataclass(frozen=True)
class Device:
    """A disk or memory as it will be published. `chunks` are its data chunks, `nodes` its index by digest."""

    root: str
    blocks: int
    chunks: dict[bytes, Load]
    nodes: dict[bytes, bytes]
    # For a disk: the digest of each 256 KiB chunk that is not all zeros, by number.
    by_number: dict[int, bytes]

    def node_levels(self) -> dict[bytes, int]:
        return {digest: decode_node(raw).level for digest, raw in self.nodes.items()}


def cut_disk(path: Path, report: Report) -> Device:
    """A raw image as fixed chunks of 256 KiB; all-zero ones and holes in the file are left out.

    The image stays where it is: chunks are read again when they are stored.
    """
    size = path.stat().st_size
    if size == 0 or size % BLOCK:
        raise PublishFailed(f"The disk image has {size} bytes, which is not a multiple of {BLOCK}.")
    handle = os.open(path, os.O_RDONLY)
    try:
        numbers = list(_chunks_with_data(handle, size))

        def digest(number: int) -> tuple[int, bytes | None]:
            raw = os.pread(handle, CHUNK_BYTES, number * CHUNK_BYTES)
            return number, None if raw == _ZEROS[: len(raw)] else digest_of(raw)

        by_number: dict[int, bytes] = {}
        for done, (number, found) in enumerate(in_threads(digest, numbers, report.tick), 1):
            if found:
                by_number[number] = found
            report.progress(done * CHUNK_BYTES, len(numbers) * CHUNK_BYTES, "bytes")
    finally:
        os.close(handle)
    by_number = dict(sorted(by_number.items()))
    blocks = size // BLOCK
    extents = [
        Extent(number * CHUNK_BLOCKS, min(CHUNK_BLOCKS, blocks - number * CHUNK_BLOCKS), found, 0)
        for number, found in by_number.items()
    ]
    chunks = {found: _piece(path, number * CHUNK_BYTES, CHUNK_BYTES) for number, found in by_number.items()}
    return _device(extents, blocks, chunks, by_number)


def cut_memory(numbers_path: Path, blocks_path: Path, blocks: int) -> Device:
    """A captured memory (u32 block numbers, and the blocks), packed in order, 64 blocks to a chunk."""
    numbers = array.array("I", numbers_path.read_bytes())
    if sys.byteorder == "big":
        numbers.byteswap()
    wrong_order = any(left >= right for left, right in pairwise(numbers))
    if not numbers or wrong_order or numbers[-1] >= blocks:
        raise PublishFailed("The captured memory is empty, out of order or larger than the machine's memory.")
    if blocks_path.stat().st_size != len(numbers) * BLOCK:
        raise PublishFailed("The captured memory's two files do not fit together.")
    extents: list[Extent] = []
    chunks: dict[bytes, Load] = {}
    with blocks_path.open("rb") as file:
        for at in range(0, len(numbers), CHUNK_BLOCKS):
            raw = file.read(CHUNK_BYTES)
            digest = digest_of(raw)
            chunks[digest] = _piece(blocks_path, at * BLOCK, len(raw))
            extents += [
                Extent(number, 1, digest, offset)
                for offset, number in enumerate(numbers[at : at + CHUNK_BLOCKS])
            ]
    return _device(extents, blocks, chunks, {})


def _device(
    extents: list[Extent], blocks: int, chunks: dict[bytes, Load], by_number: dict[int, bytes]
) -> Device:
    root, nodes = build_index(extents, blocks)
    return Device(
        root, blocks, chunks, {bytes.fromhex(digest): raw for digest, raw in nodes.items()}, by_number
    )


def _chunks_with_data(handle: int, size: int) -> Iterator[int]:
    """Numbers of the chunks that are not wholly a hole of the file."""
    following = 0
    for start, end in data_runs(handle, size):
        first = max(start // CHUNK_BYTES, following)
        following = max((end - 1) // CHUNK_BYTES + 1, following)
        yield from range(first, following)


def _piece(path: Path, offset: int, length: int) -> Load:
    def load() -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    return load
