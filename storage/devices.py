"""Reading a whole disk or memory as raw bytes, from a granted root on: in order, in bounded memory, zeros
included, every chunk verified.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from storage.chunks import HomeId, Place, find_rows, store_key
from storage.codec import BLOCK, CHUNK_BLOCKS, CHUNK_BYTES, decode_verified
from storage.errors import BadChunk, BadIndex, ChunkNotFound, StoreUnavailable
from storage.index import LEAF_BLOCKS, Leaf
from storage.stores import get_store
from storage.walk import iter_leaves

LEAF_BYTES = LEAF_BLOCKS * BLOCK
# A piece of packed blocks may need 64 chunks: so many pieces are on their way at a time,
_PIECES_AHEAD = 4
# and chunks that the next pieces may need again are kept up to this.
_KEPT_BYTES = 16 * 1024 * 1024
_readers = ThreadPoolExecutor(8, thread_name_prefix="devices")


@dataclass(frozen=True, slots=True)
class Piece:
    """The next `size` bytes of a device: `raw`, or None for zeros (then up to 4 MiB at once).

    `frame` is the stored form of exactly `raw`, when it is one whole chunk.
    """

    size: int
    raw: bytes | None = None
    frame: bytes | None = None


class Run(NamedTuple):
    """Blocks `offset … offset + blocks - 1` of a chunk, at block `at` of a piece."""

    at: int
    blocks: int
    offset: int
    digest: bytes


class _Loaded(NamedTuple):
    raw: bytes
    frame: bytes


def read_pieces(root: str, home: HomeId, blocks: int, first: int = 0) -> Iterator[Piece]:
    """The device `root` (found in `home`) of `blocks` blocks from its 256 KiB piece `first` to its end.

    Raises `ChunkNotFound`, and `StoreUnavailable` also for a chunk that is damaged in the store: there is no
    byte of a device that this would make up.
    """
    try:
        yield from _pieces(root, home, blocks, first)
    except (BadChunk, BadIndex) as error:
        raise StoreUnavailable(
            "A stored chunk of this machine is damaged, so it was not sent. Tell an admin of this site."
        ) from error


def _pieces(root: str, home: HomeId, blocks: int, first: int) -> Iterator[Piece]:
    size = blocks * BLOCK
    at = first * CHUNK_BYTES
    chunks = ChunkLoader()
    for number, home_of_leaf, leaf in iter_leaves(root, home, blocks, at // LEAF_BYTES):
        start = number * LEAF_BYTES
        yield from _zeros(at, max(at, start))
        at = max(at, start)
        end = min(start + LEAF_BYTES, size)
        for piece in _leaf_pieces(chunks, home_of_leaf, leaf, (at - start) // CHUNK_BYTES, end - start):
            yield piece
            at += piece.size
    yield from _zeros(at, size)


def read_bytes(
    root: str, home: HomeId, blocks: int, start: int = 0, end: int | None = None
) -> Iterator[bytes]:
    """The device's bytes `start` up to but not `end`. Raises as `read_pieces` does."""
    left = (blocks * BLOCK if end is None else end) - start
    skip = start % CHUNK_BYTES
    for piece in read_pieces(root, home, blocks, start // CHUNK_BYTES):
        if left <= 0:
            return
        raw = _ZEROS[: piece.size] if piece.raw is None else piece.raw
        part = raw[skip : skip + left]
        skip, left = max(0, skip - len(raw)), left - len(part)
        if part:
            yield part


_ZEROS = bytes(LEAF_BYTES)


def _zeros(at: int, end: int) -> Iterator[Piece]:
    """Pieces of zeros, none across the border of a leaf."""
    while at < end:
        following = min(end, (at // LEAF_BYTES + 1) * LEAF_BYTES)
        yield Piece(following - at)
        at = following


def _leaf_pieces(chunks: ChunkLoader, home: HomeId, leaf: Leaf, first: int, size: int) -> Iterator[Piece]:
    """The leaf's pieces from number `first` on; `size`: its bytes, fewer than 4 MiB at the device's end."""
    places = find_places(home, leaf)
    plan = plan_pieces(leaf)
    ahead: deque[tuple[int, list[Run], list[Future[_Loaded]]]] = deque()
    for number in range(first, -(-size // CHUNK_BYTES)):
        runs = plan[number]
        ahead.append((number, runs, [chunks.load(run.digest, places[run.digest]) for run in runs]))
        if len(ahead) > _PIECES_AHEAD:
            yield assemble_piece(*ahead.popleft(), size)
    while ahead:
        yield assemble_piece(*ahead.popleft(), size)


def find_places(home: HomeId, leaf: Leaf) -> dict[bytes, Place]:
    """Where the chunks are that a leaf names, which was found in `home`. Raises `ChunkNotFound`."""
    rows = find_rows(home, leaf.refs)
    places: dict[bytes, Place] = {}
    for digest in leaf.refs:
        place = rows.get(digest)
        if place is None:
            raise ChunkNotFound
        places[digest] = place
    return places


def plan_pieces(leaf: Leaf) -> list[list[Run]]:
    """What each of the leaf's 16 pieces is made of."""
    plan: list[list[Run]] = [[] for _ in range(LEAF_BLOCKS // CHUNK_BLOCKS)]
    for entry in leaf.entries:
        first, count, offset = entry.first, entry.count, entry.offset
        while count:
            number, at = divmod(first, CHUNK_BLOCKS)
            taken = min(count, CHUNK_BLOCKS - at)
            plan[number].append(Run(at, taken, offset, leaf.refs[entry.ref]))
            first, count, offset = first + taken, count - taken, offset + taken
    return plan


def assemble_piece(number: int, runs: list[Run], loads: list[Future[_Loaded]], leaf_size: int) -> Piece:
    """Piece `number` of a leaf of `leaf_size` bytes, once the chunks of its runs are there.

    Raises `BadIndex`, `BadChunk`, `StoreUnavailable`.
    """
    size = min(CHUNK_BYTES, leaf_size - number * CHUNK_BYTES)
    if not runs:
        return Piece(size)
    loaded = [load.result() for load in loads]
    if len(runs) == 1 and len(loaded[0].raw) == size and runs[0][:3] == (0, size // BLOCK, 0):
        return Piece(size, *loaded[0])
    raw = bytearray(size)
    for run, (data, _) in zip(runs, loaded, strict=True):
        part = data[run.offset * BLOCK : (run.offset + run.blocks) * BLOCK]
        if len(part) != run.blocks * BLOCK or run.at * BLOCK + len(part) > size:
            raise BadIndex("A leaf names blocks outside the chunk or the device.")
        raw[run.at * BLOCK : run.at * BLOCK + len(part)] = part
    return Piece(size, bytes(raw))


class ChunkLoader:
    """Chunks being read by a few threads; the least recently used ones go when they are too many."""

    def __init__(self) -> None:
        self._loads: OrderedDict[bytes, tuple[Future[_Loaded], int]] = OrderedDict()
        self._size = 0

    def load(self, digest: bytes, place: Place) -> Future[_Loaded]:
        if digest in self._loads:
            self._loads.move_to_end(digest)
            return self._loads[digest][0]
        cost = place.raw_size + place.stored_size
        # The key is made here: it may need the database, whose connections are this thread's.
        future = _readers.submit(_load, store_key(place.home, digest), digest, max(place.raw_size, 1))
        self._loads[digest] = future, cost
        self._size += cost
        while self._size > _KEPT_BYTES and len(self._loads) > 1:
            self._size -= self._loads.popitem(last=False)[1][1]
        return future


def _load(key: str, digest: bytes, limit: int) -> _Loaded:
    frame = get_store().get(key)
    return _Loaded(decode_verified(frame, digest, limit), frame)
