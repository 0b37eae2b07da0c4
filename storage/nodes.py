"""Reading index nodes: decoded ones are kept in a cache that is bounded in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from storage.chunks import HomeId, store_key
from storage.codec import decode_verified
from storage.index import Node, decode_node
from storage.stores import get_store

CACHE_BYTES = 64 * 1024 * 1024
# Enough to hide an object store's latency; more would only queue in its connection pool.
_READERS = 16


class LoadedNode(NamedTuple):
    raw: bytes
    node: Node


class NodeCache:
    """Least recently used nodes by digest. `size` is what they take in memory, about."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._nodes: OrderedDict[bytes, LoadedNode] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: bytes) -> LoadedNode | None:
        with self._lock:
            found = self._nodes.get(digest)
            if found:
                self._nodes.move_to_end(digest)
            return found

    def add(self, digest: bytes, loaded: LoadedNode) -> None:
        with self._lock:
            if digest in self._nodes:
                return
            self._nodes[digest] = loaded
            self.size += _cost(loaded)
            while self.size > self.limit:
                self.size -= _cost(self._nodes.popitem(last=False)[1])

    def clear(self) -> None:
        with self._lock:
            self._nodes.clear()
            self.size = 0


cache = NodeCache(CACHE_BYTES)
_pool = ThreadPoolExecutor(_READERS, thread_name_prefix="nodes")


def load_nodes(homes: Mapping[bytes, HomeId]) -> dict[bytes, LoadedNode]:
    """The nodes with these digests, each from its home, verified and decoded; what is not cached is read at
    once.

    The caller has checked that its reader may name them. Raises `ChunkNotFound`, `BadChunk`, `BadIndex`,
    `StoreUnavailable`.
    """
    loaded = {digest: found for digest in homes if (found := cache.get(digest))}
    keys = [(digest, store_key(home, digest)) for digest, home in homes.items() if digest not in loaded]
    # A single read is quicker without the pool.
    results = map(_load, keys) if len(keys) < 2 else _pool.map(_load, keys)
    for (digest, _), found in zip(keys, results, strict=True):
        loaded[digest] = found
        cache.add(digest, found)
    return loaded


def _load(wanted: tuple[bytes, str]) -> LoadedNode:
    digest, key = wanted
    raw = decode_verified(get_store().get(key), digest)
    return LoadedNode(raw, decode_node(raw))


def _cost(loaded: LoadedNode) -> int:
    """Python's objects for an entry and a ref take about this much on a 64-bit machine."""
    return len(loaded.raw) + 160 * len(loaded.node.entries) + 80 * len(loaded.node.refs) + 400
