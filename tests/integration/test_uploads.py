"""Uploads: counted once, within the quota, and never believed unseen."""

from __future__ import annotations

from uuid import UUID

import pytest

from storage import nodes
from storage.chunks import find_missing, put_chunk, read_raw
from storage.codec import digest_of, encode_frame
from storage.errors import BadChunk, StoreUnavailable
from storage.index import (
    Extent,
    decode_node,
    encode_node,
    make_leaf,
)
from storage.models import Chunk
from storage.stores import get_store
from storage.walk import locate
from tests.support.faulty_store import Fault, FaultyChunkStore, fault_at
from tests.support.machines import block, upload
from tests.support.saved_devices import (
    BLOCKS,
    new_tenant,
    publish,
    read,
    save,
)
from webvm.errors import QuotaExceeded

pytestmark = pytest.mark.django_db


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
