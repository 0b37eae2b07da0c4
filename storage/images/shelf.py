"""Putting an image's chunks into the store, in parallel, and remembering what its rows will say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from typing import NamedTuple, TypeVar

from storage.chunks import Place, find_rows, mend, store_key
from storage.codec import digest_of, encode_frame
from storage.errors import ChunkBusy
from storage.images.report import Report
from storage.models import Chunk, ChunkState
from storage.states import batches
from storage.stores import get_store

# Compression and hashing leave Python's lock; waiting for the disk or for S3 is what most of these do.
THREADS = 8
# Results wait in memory no further ahead than this.
_AHEAD = 4 * THREADS

Load = Callable[[], bytes]
A = TypeVar("A")
R = TypeVar("R")


class Stored(NamedTuple):
    raw_size: int
    stored_size: int
    node_level: int | None


class Shelf:
    """Public chunks on their way into a new image version."""

    def __init__(self, report: Report) -> None:
        self.stored: dict[bytes, Stored] = {}
        self.new_bytes = 0
        self._report = report
        self._store = get_store()

    def put_all(self, loads: Mapping[bytes, Load], node_level: Mapping[bytes, int] | None = None) -> None:
        """Stores the chunks by digest; `loads` gives the raw bytes of each when it is its turn.

        What is published already and still in the store is neither loaded nor compressed.
        """
        published = find_rows(None, loads).public
        _refuse_busy(loads)
        levels = node_level or {}

        def put(digest: bytes) -> tuple[bytes, Stored, bool]:
            key, place = store_key(None, digest), published.get(digest)
            if place and not place.is_damaged and self._store.exists(key):
                return digest, _from_row(place, levels.get(digest)), False
            raw = loads[digest]()
            frame = encode_frame(raw)
            if place and place.is_damaged:
                mend(None, digest, frame)
            self._store.put(key, frame)
            return digest, Stored(len(raw), len(frame), levels.get(digest)), True

        todo = [digest for digest in loads if digest not in self.stored]
        for done, (digest, stored, is_new) in enumerate(in_threads(put, todo, self._report.tick), 1):
            self.stored[digest] = stored
            self.new_bytes += stored.stored_size if is_new else 0
            self._report.progress(done, len(todo), "chunks")

    def put_frame(self, digest: bytes, raw_size: int, frame: bytes) -> None:
        """Stores one object that is compressed already (a pack)."""
        _refuse_busy([digest])
        self._store.put(store_key(None, digest), frame)
        self.stored[digest] = Stored(raw_size, len(frame), None)
        self.new_bytes += len(frame)

    def put_blob(self, raw: bytes, piece: int) -> dict[str, object]:
        """Stores a blob in pieces; returns its descriptor."""
        pieces = [raw[at : at + piece] for at in range(0, len(raw), piece)]
        digests = [digest_of(part) for part in pieces]
        self.put_all({digest: partial(bytes, part) for digest, part in zip(digests, pieces, strict=True)})
        return {"size": len(raw), "chunks": [digest.hex() for digest in digests]}

    def save_rows(self) -> None:
        """Makes the chunks public. Inside the transaction that publishes."""
        rows = [Chunk(digest=digest, **stored._asdict()) for digest, stored in self.stored.items()]
        Chunk.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)


def in_threads(work: Callable[[A], R], items: Iterable[A], tick: Callable[[], None]) -> Iterator[R]:
    """`work` on every item, a few at once, results as they come; `tick` is called while waiting and may
    raise.
    """
    with ThreadPoolExecutor(THREADS, thread_name_prefix="publish") as pool:
        try:
            waiting = set()
            for item in items:
                waiting.add(pool.submit(work, item))
                while len(waiting) >= _AHEAD:
                    finished, waiting = wait(waiting, 1, FIRST_COMPLETED)
                    tick()
                    yield from (future.result() for future in finished)
            while waiting:
                finished, waiting = wait(waiting, 1, FIRST_COMPLETED)
                tick()
                yield from (future.result() for future in finished)
        finally:
            pool.shutdown(cancel_futures=True)


def _refuse_busy(digests: Iterable[bytes]) -> None:
    """What a publish that failed has left may just be being cleared away (`storage.gc.orphans`)."""
    for batch in batches(digests):
        if Chunk.objects.filter(tenant=None, digest__in=batch, state=ChunkState.DELETED).exists():
            raise ChunkBusy


def _from_row(place: Place, level: int | None) -> Stored:
    return Stored(place.raw_size, place.stored_size, place.node_level if level is None else level)
