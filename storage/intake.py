"""Taking in a whole disk or memory as raw bytes: compared with an image's, deduplicated, only what is new
stored, the index built from below; in bounded memory.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from storage.chunks import HomeId, find_missing, put_chunk
from storage.codec import BLOCK, CHUNK_BLOCKS, CHUNK_BYTES, digest_of, encode_frame
from storage.devices import LEAF_BYTES, ChunkLoader, assemble_piece, find_places, plan_pieces
from storage.errors import BadIndex
from storage.index import LEAF_BLOCKS, Extent, Leaf, TreeBuilder, make_leaf
from storage.walk import iter_leaves
from webvm.accounts.models import Tenant

_ZEROS = bytes(LEAF_BYTES)
# A block's digest and place take about 150 bytes.
_KNOWN_BLOCKS = 1 << 18
# So many leaves may wait for a chunk that is not full yet.
_WAITING_LEAVES = 256


class _Chunk:
    """A chunk that blocks are in; without a digest as long as it is not full."""

    __slots__ = ("digest",)

    def __init__(self, digest: bytes | None = None) -> None:
        self.digest = digest


class KnownBlocks:
    """Where blocks with some contents are, in chunks that the tenant may name: the first quarter million."""

    def __init__(self) -> None:
        self._places: dict[bytes, tuple[_Chunk, int]] = {}

    def find(self, block: memoryview) -> tuple[_Chunk, int] | None:
        return self._places.get(_name(block))

    def add(self, block: memoryview, chunk: _Chunk, offset: int) -> None:
        if len(self._places) < _KNOWN_BLOCKS:
            self._places.setdefault(_name(block), (chunk, offset))


@dataclass
class _Run:
    first: int
    count: int
    chunk: _Chunk
    offset: int


@dataclass
class _WaitingLeaf:
    number: int
    runs: list[_Run] = field(default_factory=list)

    def add(self, first: int, count: int, chunk: _Chunk, offset: int) -> None:
        last = self.runs[-1] if self.runs else None
        if (
            last
            and last.chunk is chunk
            and last.first + last.count == first
            and last.offset + last.count == offset
        ):
            last.count += count
        else:
            self.runs.append(_Run(first, count, chunk, offset))


class DeviceTaker:
    """Makes a device of `tenant` from its raw bytes.

    `base_root` is a public device of as many blocks. A block that the base has at the same place, or that is
    in `known`, is not stored again; the others are packed in order, 64 to a chunk, so that the same bytes
    always make the same chunks. `stored_bytes` is what was stored anew.
    """

    def __init__(self, tenant: Tenant, base_root: str, blocks: int, known: KnownBlocks) -> None:
        self.stored_bytes = 0
        self._tenant = tenant
        self._blocks = blocks
        self._known = known
        self._bases: Iterator[tuple[int, HomeId, Leaf]] = iter_leaves(base_root, None, blocks)
        self._base = next(self._bases, None)
        self._loader = ChunkLoader()
        self._base_chunks: dict[bytes, _Chunk] = {}
        self._tree = TreeBuilder(blocks, self._put)
        self._waiting: deque[_WaitingLeaf] = deque()
        self._open, self._packed = _Chunk(), bytearray()

    def take(self, pieces: Iterable[bytes]) -> str:
        """The device's root. `pieces`: all its bytes, in parts of 4 MiB but for the last one.

        Every chunk and node is stored afterwards; it is the caller's to commit it. Raises `QuotaExceeded`,
        `StoreUnavailable`, `BadIndex` for too many or too few bytes.
        """
        left = self._blocks * BLOCK
        for number, raw in enumerate(pieces):
            if len(raw) != min(LEAF_BYTES, left):
                raise BadIndex("The device does not have the size that it should have.")
            left -= len(raw)
            base = self._base_leaf(number)
            if base or raw != _ZEROS[: len(raw)]:
                self._take_leaf(number, memoryview(raw), base)
        if left:
            raise BadIndex("The device does not have the size that it should have.")
        self._flush()
        return self._tree.finish()

    def _base_leaf(self, number: int) -> Leaf | None:
        while self._base and self._base[0] < number:
            self._base = next(self._bases, None)
        return self._base[2] if self._base and self._base[0] == number else None

    def _take_leaf(self, number: int, raw: memoryview, base: Leaf | None) -> None:
        leaf = _WaitingLeaf(number)
        self._waiting.append(leaf)
        plan = plan_pieces(base) if base else [[] for _ in range(LEAF_BLOCKS // CHUNK_BLOCKS)]
        places = find_places(None, base) if base else {}
        self._base_chunks = {digest: _Chunk(digest) for digest in places}
        for at in range(0, len(raw), CHUNK_BYTES):
            piece = raw[at : at + CHUNK_BYTES]
            runs, blocks = plan[at // CHUNK_BYTES], len(piece) // BLOCK
            if not runs and piece == _ZEROS[: len(piece)]:
                continue
            if len(runs) == 1 and runs[0][:3] == (0, blocks, 0) and runs[0].digest == digest_of(piece):
                chunk = self._base_chunks[runs[0].digest]
                leaf.add(at // BLOCK, blocks, chunk, 0)
                for number_in in range(blocks):
                    self._known.add(piece[number_in * BLOCK : number_in * BLOCK + BLOCK], chunk, number_in)
                continue
            before = b""
            if runs:
                loads = [self._loader.load(run.digest, places[run.digest]) for run in runs]
                before = assemble_piece(at // CHUNK_BYTES, runs, loads, len(raw)).raw or b""
            there = {
                run.at + step: (self._base_chunks[run.digest], run.offset + step)
                for run in runs
                for step in range(run.blocks)
            }
            for number_in in range(blocks):
                block = piece[number_in * BLOCK : number_in * BLOCK + BLOCK]
                if number_in in there and block == before[number_in * BLOCK : number_in * BLOCK + BLOCK]:
                    place = there[number_in]
                    self._known.add(block, *place)
                elif block == _ZEROS[:BLOCK]:
                    continue
                else:
                    place = self._known.find(block) or self._pack(block)
                leaf.add(at // BLOCK + number_in, 1, *place)
        if len(self._waiting) > _WAITING_LEAVES:
            self._flush()

    def _pack(self, block: memoryview) -> tuple[_Chunk, int]:
        if len(self._packed) == CHUNK_BYTES:
            self._seal()
        place = self._open, len(self._packed) // BLOCK
        self._packed += block
        self._known.add(block, *place)
        return place

    def _seal(self) -> None:
        """The chunk that is being filled is stored; leaves behind which nothing is open go into the tree."""
        if self._packed:
            self._open.digest = self._put(bytes(self._packed))
            self._open, self._packed = _Chunk(), bytearray()
        while len(self._waiting) > 1:
            self._emit(self._waiting.popleft())

    def _flush(self) -> None:
        self._seal()
        while self._waiting:
            self._emit(self._waiting.popleft())

    def _emit(self, leaf: _WaitingLeaf) -> None:
        if not leaf.runs:  # the base's blocks have become zeros
            return
        extents = (Extent(run.first, run.count, run.chunk.digest or b"", run.offset) for run in leaf.runs)
        self._tree.add_leaf(leaf.number, make_leaf(extents))

    def _put(self, raw: bytes) -> bytes:
        digest = digest_of(raw)
        if find_missing(self._tenant, [digest]):
            self.stored_bytes += put_chunk(self._tenant, digest, encode_frame(raw)).stored_size
        return digest


def _name(block: memoryview) -> bytes:
    return hashlib.blake2b(block, digest_size=16).digest()
