"""A commit costs the same on a small disk and on a large one: full disks of 1 GiB and 64 GiB, one delta."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from unittest import mock

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from storage import nodes
from storage.chunks import find_missing
from storage.codec import BLOCK, digest_of, encode_frame
from storage.commits import accept_device
from storage.index import FANOUT, LEAF_BLOCKS, Extent, encode_node, make_interior, make_leaf, root_level
from storage.models import Chunk
from tests.support.machines import block, upload
from webvm.accounts.models import Tenant

pytestmark = pytest.mark.django_db

GIB = 2**30 // BLOCK
POOL = [block(f"block {number} of the image") for number in range(64)]
POOL_DIGESTS = [digest_of(raw) for raw in POOL]
# The delta: three blocks in each of 12 leaves, all below 1 GiB.
TOUCHED = range(0, 252, 21)
CHANGED = (3, 500, 501)


def base_extents(leaf: int) -> list[Extent]:
    """Sixteen chunks, as a full leaf has; no two leaves of 64 GiB are alike."""
    shifts = [leaf // 64 % 64] * 15 + [leaf // 4096]
    return [
        Extent(64 * part + shift, 1, POOL_DIGESTS[(leaf + part) % 64], 0) for part, shift in enumerate(shifts)
    ]


def build(leaves: Mapping[int, bytes], blocks: int) -> tuple[bytes, dict[bytes, bytes]]:
    """The root and all nodes above `leaves` (encoded, by number)."""
    new = {digest_of(raw): raw for raw in leaves.values()}
    below = {number: digest_of(raw) for number, raw in leaves.items()}
    for level in range(1, root_level(blocks) + 1):
        children: dict[int, list[tuple[int, bytes]]] = {}
        for number, digest in below.items():
            children.setdefault(number // FANOUT, []).append((number % FANOUT, digest))
        below = {}
        for number, parts in children.items():
            raw = encode_node(make_interior(level, parts))
            below[number] = digest_of(raw)
            new[below[number]] = raw
    return below[0], new


class FullDisk:
    """A public disk of `blocks` blocks without a leaf of zeros."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.leaves = {n: encode_node(make_leaf(base_extents(n))) for n in range(blocks // LEAF_BLOCKS)}
        self.root, self.nodes = build(self.leaves, blocks)
        untouched = {digest_of(raw) for number, raw in self.leaves.items() if number not in TOUCHED}
        upload(None, [*POOL, *(raw for digest, raw in self.nodes.items() if digest not in untouched)])
        # The table is as long as a real one, but the bytes of leaves that no change is in do not exist: a
        # commit that looked at one would fail.
        rows = [Chunk(digest=digest, raw_size=800, stored_size=700, node_level=0) for digest in untouched]
        Chunk.objects.bulk_create(rows, batch_size=2000, ignore_conflicts=True)

    def save(self, tenant: Tenant, text: str) -> Cost:
        """Upload the delta and commit it; what that took."""
        data = [block(f"{text} {leaf} {at}") for leaf in TOUCHED for at in CHANGED]
        chunk = b"".join(data)
        leaves = dict(self.leaves)
        for index, leaf in enumerate(TOUCHED):
            changed = [Extent(at, 1, digest_of(chunk), 3 * index + i) for i, at in enumerate(CHANGED)]
            kept = [extent for extent in base_extents(leaf) if extent.first not in CHANGED]
            leaves[leaf] = encode_node(make_leaf([*kept, *changed]))
        root, all_nodes = build(leaves, self.blocks)
        new = {digest: raw for digest, raw in all_nodes.items() if digest not in self.nodes}
        upload(tenant, [chunk, *new.values()])
        assert not find_missing(tenant, [root, *new])
        nodes.cache.clear()
        with CaptureQueriesContext(connection) as queries, CountingReads() as reads:
            began = time.perf_counter()
            with transaction.atomic():
                accept_device(
                    tenant, root=root.hex(), blocks=self.blocks, parent_root=self.root.hex(), parent_home=None
                )
            seconds = time.perf_counter() - began
        sizes = [len(encode_frame(raw)) for raw in new.values()]
        return Cost(len(new), sum(sizes), len(queries), reads.count, seconds)


@dataclass(frozen=True)
class Cost:
    """New nodes and their stored bytes; queries of the commit, nodes it read from the store, its time."""

    nodes: int
    node_bytes: int
    queries: int
    reads: int
    seconds: float


class CountingReads:
    """Counts the nodes that are read from the store."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> CountingReads:
        self._patch = mock.patch.object(nodes, "_load", wraps=nodes._load)
        self._calls = self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.count = self._calls.call_count
        self._patch.stop()


def test_a_commit_costs_the_same_on_1_gib_and_on_64_gib(
    record_property: Callable[[str, object], None],
) -> None:
    small, large = FullDisk(GIB), FullDisk(64 * GIB)
    assert (root_level(small.blocks), root_level(large.blocks)) == (1, 2)
    tenant = Tenant.objects.create(name="tenant")
    pairs = [(small.save(tenant, f"small {n}"), large.save(tenant, f"large {n}")) for n in range(5)]
    for one, other in pairs:
        # A leaf for each that was touched and the nodes above: 64 times the disk is one level more.
        assert one.nodes == len(TOUCHED) + 1
        assert other.nodes == len(TOUCHED) + 2
        # That level is one node of 64 children, one node beside it to read, and its rows to look for.
        assert other.node_bytes - one.node_bytes <= 64 * 40
        assert (one.reads, other.reads) == (2 * one.nodes, 2 * other.nodes)
        assert other.queries - one.queries <= 4
    ratio = statistics.median(other.seconds / one.seconds for one, other in pairs)
    record_property("seconds_64_gib_to_1_gib", round(ratio, 2))
    print(pairs[0], f"time on 64 GiB to time on 1 GiB, median of 5 pairs: {ratio:.2f}")  # noqa: T201
