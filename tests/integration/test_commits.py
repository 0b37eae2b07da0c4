"""Commits and reading: what a tenant may name, what it may read, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from storage import nodes
from storage.chunks import HomeId, find_missing, put_chunk, read_raw
from storage.codec import decode_verified, digest_of, encode_frame
from storage.commits import accept_device
from storage.errors import BadChunk, BadIndex, ChunkNotFound, MissingChunks, StoreUnavailable
from storage.index import (
    LEAF_BLOCKS,
    Extent,
    Interior,
    build_index,
    decode_node,
    encode_node,
    make_interior,
    make_leaf,
)
from storage.models import Chunk
from storage.signing import signed_member
from storage.stores import get_store
from storage.walk import Located, locate
from tests.support.faulty_store import Fault, FaultyChunkStore, fault_at
from tests.support.machines import Device, block, upload
from webvm.accounts.models import Tenant
from webvm.errors import QuotaExceeded

pytestmark = pytest.mark.django_db

# Two levels of interior nodes over few leaves.
BLOCKS = 600_000
PLACES = [0, 1, 2, 63, 64, 1023, 1024, 2047, 262_143, 262_144, 262_145, 500_000, 599_999]


@dataclass
class Saved:
    """A device as a snapshot has it, and what a naive model says its blocks are."""

    home: HomeId
    device: Device
    model: dict[int, bytes]


def new_tenant(**extra: Any) -> Tenant:
    return Tenant.objects.create(name="tenant", **extra)


def nodes_of(device: Device) -> dict[str, bytes]:
    extents = [Extent(number, 1, bytes.fromhex(digest), at) for number, (digest, at) in device.places.items()]
    return build_index(extents, device.blocks)[1]


def change(parent: Saved, changes: dict[int, bytes | None]) -> tuple[Saved, set[str]]:
    """The device after `changes` (None: zeros), and the digests of what is new in it."""
    device = parent.device.copy()
    written = {number: raw for number, raw in changes.items() if raw is not None}
    for number in changes.keys() - written.keys():
        device.places.pop(number, None)
    named = device.write(written)
    model = {**parent.model, **written}
    for number in changes.keys() - written.keys():
        model.pop(number, None)
    return Saved(parent.home, device, model), set(named) - set(nodes_of(parent.device))


def commit(tenant: Tenant, new: Saved, parent: Saved) -> Saved:
    with transaction.atomic():
        accept_device(
            tenant,
            root=new.device.root,
            blocks=new.device.blocks,
            parent_root=parent.device.root,
            parent_home=parent.home,
        )
    if new.device.root != parent.device.root:
        new.home = tenant.pk
    return new


def save(tenant: Tenant, parent: Saved, changes: dict[int, bytes | None]) -> Saved:
    new, named = change(parent, changes)
    missing = find_missing(tenant, [bytes.fromhex(digest) for digest in sorted(named)])
    upload(tenant, [new.device.chunks[digest.hex()] for digest in missing])
    return commit(tenant, new, parent)


def publish(blocks: int = BLOCKS, places: list[int] = PLACES) -> Saved:
    """A public device with something in it."""
    saved, named = change(
        Saved(None, Device(blocks), {}), {number: block(f"image {number}") for number in places}
    )
    upload(None, [saved.device.chunks[digest] for digest in named])
    return saved


def fetch(url: str) -> bytes:
    """What a browser would get: the signature is checked as the chunk application does."""
    parts = urlsplit(url)
    key = parts.path.removeprefix("/chunks/")
    assert signed_member(key, parts.query) == 0
    return get_store().get(key)


def read(saved: Saved, leaves: list[int] | None = None) -> dict[int, bytes]:
    """All blocks, as a client reads them that has nothing but the granted root."""
    wanted = leaves if leaves is not None else sorted({place // LEAF_BLOCKS for place in PLACES})
    located = locate(saved.device.root, saved.home, saved.device.blocks, wanted)
    found: dict[int, bytes] = {}
    for number in wanted:
        raw = leaf_of(located, saved.device.root, number)
        if raw is None:
            continue
        leaf = decode_node(raw)
        assert not isinstance(leaf, Interior)
        for entry in leaf.entries:
            digest = leaf.refs[entry.ref]
            url = located.urls.get(digest.hex())
            stored = fetch(url) if url else get_store().get(f"pub/{digest.hex()}")
            data = decode_verified(stored, digest)
            for at in range(entry.count):
                start = (entry.offset + at) * 4096
                found[number * LEAF_BLOCKS + entry.first + at] = data[start : start + 4096]
    return found


def leaf_of(located: Located, root: str, number: int) -> bytes | None:
    if not root:
        return None
    raw = located.nodes[root]
    while isinstance(node := decode_node(raw), Interior):
        child = node.child(number // 256 ** (node.level - 1) % 256)
        if child is None:
            return None
        raw = located.nodes[child.hex()]
    return raw


changes_strategy = st.dictionaries(
    st.sampled_from(PLACES), st.one_of(st.none(), st.integers(0, 30)), min_size=1, max_size=6
)


class Histories(RuleBasedStateMachine):
    """Tenants save and fork each other's devices in any order; a dictionary of blocks says what is right."""

    def __init__(self) -> None:
        super().__init__()
        nodes.cache.clear()
        self.tenants = [new_tenant() for _ in range(3)]
        self.saved = [publish()]
        self.count = 0

    @rule(who=st.integers(0, 2), of=st.integers(0, 50), changes=changes_strategy)
    def save(self, who: int, of: int, changes: dict[int, int | None]) -> None:
        parent = self.saved[of % len(self.saved)]
        written = {number: None if text is None else block(f"{text}") for number, text in changes.items()}
        self.saved.append(save(self.tenants[who], parent, written))

    @rule(
        who=st.integers(0, 2), of=st.integers(0, 50), place=st.sampled_from(PLACES), pick=st.integers(0, 99)
    )
    def forget_to_upload(self, who: int, of: int, place: int, pick: int) -> None:
        self.count += 1
        tenant, parent = self.tenants[who], self.saved[of % len(self.saved)]
        new, named = change(parent, {place: block(f"never sent {self.count}")})
        missing = find_missing(tenant, [bytes.fromhex(digest) for digest in sorted(named)])
        withheld = missing[pick % len(missing)]
        upload(tenant, [new.device.chunks[digest.hex()] for digest in missing if digest != withheld])
        with pytest.raises(MissingChunks) as refused:
            commit(tenant, new, parent)
        assert refused.value.digests == [withheld]

    @rule(who=st.integers(0, 2), pick=st.integers(0, 99))
    def probe(self, who: int, pick: int) -> None:
        """Naming another tenant's chunk is answered exactly as naming one that does not exist."""
        tenant = self.tenants[who]
        others = Chunk.objects.filter(node_level=None).exclude(tenant=tenant).exclude(tenant=None)
        mine = set(Chunk.objects.filter(tenant=tenant).values_list("digest", flat=True))
        foreign = [digest for digest in others.values_list("digest", flat=True) if digest not in mine]
        guessed = bytes(foreign[pick % len(foreign)]) if foreign else digest_of(b"no such chunk")
        for digest in (guessed, digest_of(b"no such chunk")):
            leaf = encode_node(make_leaf([Extent(0, 1, digest, 0)]))
            upload(tenant, [leaf])
            with pytest.raises(MissingChunks) as refused, transaction.atomic():
                accept_device(
                    tenant, root=digest_of(leaf).hex(), blocks=1000, parent_root="", parent_home=None
                )
            assert refused.value.digests == [digest]
            with pytest.raises(ChunkNotFound):
                read_raw(tenant.pk, digest)

    @invariant()
    def everything_saved_reads_as_the_model_says(self) -> None:
        for saved in self.saved[-4:]:
            assert read(saved) == saved.model

    @invariant()
    def only_own_bytes_are_counted(self) -> None:
        for tenant in self.tenants:
            tenant.refresh_from_db()
            own = (
                Chunk.objects.filter(tenant=tenant, home=tenant).aggregate(sum=Sum("stored_size"))["sum"] or 0
            )
            assert tenant.used_bytes == own


def test_any_history_reads_as_a_naive_model_says() -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


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


class TestUploads:
    def test_uploading_twice_counts_once(self) -> None:
        tenant, raw = new_tenant(), block("a chunk")
        first = put_chunk(tenant, digest_of(raw), encode_frame(raw))
        again = put_chunk(tenant, digest_of(raw), encode_frame(raw))
        tenant.refresh_from_db()
        assert first == again
        assert tenant.used_bytes == first.stored_size == len(encode_frame(raw))

    def test_what_is_public_is_not_stored_again(self) -> None:
        tenant, raw = new_tenant(), block("public")
        upload(None, [raw])
        assert put_chunk(tenant, digest_of(raw), encode_frame(raw)).tenant is None
        tenant.refresh_from_db()
        assert tenant.used_bytes == 0

    def test_the_quota_holds_to_the_byte(self) -> None:
        raw = block("a chunk")
        size = len(encode_frame(raw))
        tenant = new_tenant(quota_bytes=size)
        put_chunk(tenant, digest_of(raw), encode_frame(raw))
        other = block("another")
        with pytest.raises(QuotaExceeded):
            put_chunk(tenant, digest_of(other), encode_frame(other))
        assert find_missing(tenant, [digest_of(other)]) == [digest_of(other)]
        put_chunk(tenant, digest_of(raw), encode_frame(raw))

    def test_a_wrong_digest_stores_nothing(self) -> None:
        tenant, raw = new_tenant(), block("a chunk")
        for digest in (digest_of(b"another"), b"short", b""):
            with pytest.raises(BadChunk):
                put_chunk(tenant, digest, encode_frame(raw))
        assert not Chunk.objects.filter(tenant=tenant).exists()

    def test_a_store_that_fails_leaves_no_row(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store = FaultyChunkStore(get_store(), fault_at("put", "error", 0))
        monkeypatch.setattr("storage.chunks.get_store", lambda: store)
        tenant, raw = new_tenant(), block("a chunk")
        with pytest.raises(StoreUnavailable):
            put_chunk(tenant, digest_of(raw), encode_frame(raw))
        tenant.refresh_from_db()
        assert not Chunk.objects.filter(tenant=tenant).exists()
        assert tenant.used_bytes == 0
        put_chunk(tenant, digest_of(raw), encode_frame(raw))
        assert read_raw(tenant.pk, digest_of(raw)) == raw

    @pytest.mark.parametrize("fault", ["truncate", "lie"])
    def test_a_store_that_lies_is_caught(self, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
        tenant = new_tenant()
        saved = save(tenant, publish(), {0: block(f"a {fault}")})
        digest = bytes.fromhex(saved.device.places[0][0])
        store = FaultyChunkStore(get_store(), fault_at("get", fault))
        for module in ("chunks", "nodes"):
            monkeypatch.setattr(f"storage.{module}.get_store", lambda: store)
        nodes.cache.clear()
        with pytest.raises(BadChunk):
            read_raw(tenant.pk, digest)
        with pytest.raises(BadChunk):
            locate(saved.device.root, saved.home, BLOCKS, [0])
        store.plan = lambda call: None
        assert read(saved) == saved.model


def test_the_cache_of_nodes_is_bounded_in_bytes() -> None:
    cache = nodes.NodeCache(50_000)
    loaded = []
    for number in range(200):
        raw = encode_node(make_leaf([Extent(number, 1, digest_of(bytes([number])), 0)]))
        loaded.append((digest_of(raw), nodes.LoadedNode(raw, decode_node(raw))))
        cache.add(*loaded[-1])
        cache.get(loaded[0][0])
    assert 0 < cache.size <= 50_000
    assert cache.get(loaded[0][0]) is loaded[0][1]
    assert cache.get(loaded[1][0]) is None


def test_a_tenants_key_hides_its_chunks_names() -> None:
    from storage.chunks import store_key

    first, second = new_tenant(), new_tenant()
    digest = digest_of(b"the same")
    names = {store_key(home, digest).split("/")[-1] for home in (None, first.pk, second.pk)}
    assert len(names) == 3
    assert isinstance(first.pk, UUID)
