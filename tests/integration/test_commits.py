"""Commits and reading: what a tenant may name, what it may read, and what it costs."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext

from storage import nodes
from storage.chunks import find_missing, read_raw
from storage.codec import digest_of
from storage.commits import accept_device
from storage.errors import BadIndex, ChunkNotFound, MissingChunks
from storage.index import (
    LEAF_BLOCKS,
    Extent,
    encode_node,
    make_interior,
    make_leaf,
)
from storage.models import Chunk
from storage.walk import locate
from tests.support.machines import block, upload
from tests.support.saved_devices import (
    BLOCKS,
    PLACES,
    Saved,
    change,
    commit,
    new_tenant,
    nodes_of,
    publish,
    read,
    save,
)
from webvm.accounts.models import Tenant

pytestmark = pytest.mark.django_db


class TestForks:
    def test_a_fork_costs_rows_along_one_path_and_no_bytes(self) -> None:
        owner, forker = new_tenant(), new_tenant()
        original = save(owner, publish(), {number: block(f"owner {number}") for number in PLACES})
        fork = save(forker, original, {0: block("forker")})
        adopted = Chunk.objects.filter(tenant=forker, home=owner)
        # Two other children of the root, two of the first interior node, and the chunk that the rest of the
        # changed leaf's blocks lie in.
        assert adopted.count() == 5
        assert read(fork) == {**original.model, 0: block("forker")}
        forker.refresh_from_db()
        own = Chunk.objects.filter(tenant=forker, home=forker).aggregate(sum=Sum("stored_size"))["sum"]
        assert forker.used_bytes == own

    def test_a_chain_of_forks_reads_through_every_home(self) -> None:
        saved = publish()
        for number in range(5):
            saved = save(new_tenant(), saved, {PLACES[number]: block(f"fork {number}")})
        assert read(saved) == saved.model

    def test_only_the_parents_same_place_lends_a_chunk(self) -> None:
        owner, forker = new_tenant(), new_tenant()
        original = save(owner, publish(), {0: block("owner's own"), 5000: block("another leaf")})
        digest = bytes.fromhex(original.device.places[0][0])
        moved = original.device.copy()
        moved.places = {1024 + 7: (digest.hex(), 0)}
        moved.write({3: block("new")})
        new = Saved(original.home, moved, {})
        upload(forker, [moved.chunks[name] for name in nodes_of(moved)])
        upload(forker, [moved.chunks[moved.places[3][0]]])
        with pytest.raises(MissingChunks) as refused:
            commit(forker, new, original)
        assert refused.value.digests == [digest]

    def test_without_a_grant_nothing_of_another_tenant_is_read(self) -> None:
        owner, stranger = new_tenant(), new_tenant()
        original = save(owner, publish(), {0: block("secret")})
        digest = bytes.fromhex(original.device.places[0][0])
        for home, wanted in ((stranger.pk, digest), (stranger.pk, digest_of(b"nothing")), (None, digest)):
            with pytest.raises(ChunkNotFound):
                read_raw(home, wanted)
        with pytest.raises(ChunkNotFound):
            locate(original.device.root, stranger.pk, BLOCKS, [0])
        assert find_missing(stranger, [digest]) == [digest]

    def test_the_same_root_changes_nothing(self) -> None:
        owner, forker = new_tenant(), new_tenant()
        original = save(owner, publish(), {0: block("owner")})
        before = Chunk.objects.count()
        commit(forker, Saved(original.home, original.device, {}), original)
        assert Chunk.objects.count() == before


class TestCost:
    def test_a_commit_costs_what_is_new_however_large_the_device_is(self) -> None:
        def queries(places: list[int]) -> int:
            tenant = new_tenant()
            parent = save(tenant, publish(places=places), {places[0]: block(f"first {len(places)}")})
            new, named = change(parent, {places[0]: block(f"second {len(places)}")})
            missing = find_missing(tenant, [bytes.fromhex(digest) for digest in named])
            upload(tenant, [new.device.chunks[digest.hex()] for digest in missing])
            nodes.cache.clear()
            with CaptureQueriesContext(
                connection,
            ) as captured:
                commit(tenant, new, parent)
            return len(captured)

        few = queries(PLACES)
        many = queries(list(range(0, BLOCKS, 1500)))
        assert few == many
        assert few <= 25

    def test_locating_costs_the_same_for_many_leaves(self) -> None:
        tenant = new_tenant()
        places = list(range(0, 64 * LEAF_BLOCKS, LEAF_BLOCKS))
        saved = save(tenant, publish(places=places), {number: block(f"new {number}") for number in places})

        def queries(leaves: list[int]) -> int:
            with CaptureQueriesContext(connection) as captured:
                locate(saved.device.root, saved.home, BLOCKS, leaves)
            return len(captured)

        assert queries(list(range(64))) == queries([3]) <= 6


class TestBadCommits:
    def refused(self, tenant: Tenant, root: str, blocks: int = 2000) -> None:
        with pytest.raises(BadIndex), transaction.atomic():
            accept_device(tenant, root=root, blocks=blocks, parent_root="", parent_home=None)

    def stored(self, tenant: Tenant, raw: bytes) -> bytes:
        upload(tenant, [raw])
        return digest_of(raw)

    def test_a_root_that_is_no_digest(self) -> None:
        for root in ("x", "0" * 63, "A" * 64, "0" * 65):
            self.refused(new_tenant(), root)

    def test_a_chunk_that_is_no_node(self) -> None:
        tenant = new_tenant()
        self.refused(tenant, self.stored(tenant, block("data")).hex())

    def test_a_node_of_the_wrong_level(self) -> None:
        tenant = new_tenant()
        data = self.stored(tenant, block("data"))
        leaf = self.stored(tenant, encode_node(make_leaf([Extent(0, 1, data, 0)])))
        self.refused(tenant, leaf.hex())
        top = self.stored(tenant, encode_node(make_interior(2, [(0, leaf)])))
        self.refused(tenant, top.hex(), blocks=300_000)

    def test_a_node_that_was_accepted_at_another_level(self) -> None:
        tenant = new_tenant()
        data = self.stored(tenant, block("data"))
        leaf = self.stored(tenant, encode_node(make_leaf([Extent(0, 1, data, 0)])))
        with transaction.atomic():
            accept_device(tenant, root=leaf.hex(), blocks=1000, parent_root="", parent_home=None)
        self.refused(tenant, leaf.hex())

    def test_blocks_outside_the_chunk(self) -> None:
        tenant = new_tenant()
        data = self.stored(tenant, block("one block only"))
        leaf = self.stored(tenant, encode_node(make_leaf([Extent(0, 2, data, 0)])))
        self.refused(tenant, leaf.hex(), blocks=1000)

    def test_blocks_behind_the_devices_end(self) -> None:
        tenant = new_tenant()
        data = self.stored(tenant, block("data"))
        leaf = self.stored(tenant, encode_node(make_leaf([Extent(10, 1, data, 0)])))
        self.refused(tenant, leaf.hex(), blocks=10)
        top = self.stored(tenant, encode_node(make_interior(1, [(2, leaf)])))
        self.refused(tenant, top.hex(), blocks=2000)

    def test_an_adopted_data_chunk_is_never_walked_through(self) -> None:
        """A block that a tenant was lent may look like a node; it must not lead to what its owner has."""
        owner, forker = new_tenant(), new_tenant()
        secret = digest_of(self_made := block("the owner's secret"))
        upload(owner, [self_made])
        fillers = [digest_of(bytes([number])) for number in range(99)]
        slots = [*enumerate([secret, *fillers])] + [(100 + number, secret) for number in range(121)]
        disguised = encode_node(make_interior(1, slots))
        assert len(disguised) == 4096
        original = save(owner, publish(), {0: disguised, 1: block("x")})
        fork = save(forker, original, {1: block("y")})
        assert read(fork)[0] == disguised
        single = digest_of(disguised)
        alone = save(owner, original, {64: disguised})
        lent = save(forker, alone, {63: block("z")})
        assert Chunk.objects.filter(tenant=forker, digest=single, home=owner).exists()
        top = self.stored(forker, encode_node(make_interior(2, [(0, single)])))
        with pytest.raises(BadIndex), transaction.atomic():
            accept_device(
                forker,
                root=top.hex(),
                blocks=BLOCKS,
                parent_root=lent.device.root,
                parent_home=lent.home,
            )
