"""Whole devices out and in: whatever was written comes back, and only what is new is stored."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.codec import BLOCK
from storage.devices import LEAF_BYTES, read_bytes, read_pieces
from storage.intake import DeviceTaker, KnownBlocks
from storage.models import Chunk
from storage.stores import get_store
from storage.stores.local import LocalStore
from tests.support.machines import Device, block, make_user, upload
from webvm.accounts.access import personal_tenant
from webvm.accounts.models import Tenant
from webvm.errors import QuotaExceeded

pytestmark = pytest.mark.django_db
# Two leaves and a bit, so that the last piece is short.
BLOCKS = 2 * 1024 + 70
NUMBERS = st.integers(0, BLOCKS - 1)
# Few different contents, so that blocks repeat; None: zeros.
CONTENTS = st.sampled_from([None, *(block(f"content {number}") for number in range(6))])
CHANGES = st.dictionaries(NUMBERS, CONTENTS, max_size=40)
RUNS = st.lists(st.tuples(NUMBERS, st.integers(1, 200), CONTENTS), max_size=4)


def laid_out(runs: list[tuple[int, int, bytes | None]], changes: dict[int, bytes | None]) -> dict[int, bytes]:
    """Every block that is not absent; zeros may be among them."""
    blocks: dict[int, bytes | None] = {}
    for first, count, content in runs:
        blocks.update(dict.fromkeys(range(first, min(first + count, BLOCKS)), content))
    return {number: content or bytes(BLOCK) for number, content in (blocks | changes).items()}


def image(raws: dict[int, bytes]) -> bytes:
    raw = bytearray(BLOCKS * BLOCK)
    for number, content in raws.items():
        raw[number * BLOCK : number * BLOCK + BLOCK] = content
    return bytes(raw)


def leaves_of(raw: bytes) -> Iterator[bytes]:
    return (raw[at : at + LEAF_BYTES] for at in range(0, len(raw), LEAF_BYTES))


def publish(raws: dict[int, bytes]) -> Device:
    device = Device(BLOCKS)
    if raws:
        device.write(raws)
        upload(None, device.chunks.values())
    return device


def take(tenant: Tenant, base: Device, raw: bytes, known: KnownBlocks | None = None) -> tuple[str, int]:
    taker = DeviceTaker(tenant, base.root, BLOCKS, known or KnownBlocks())
    return taker.take(leaves_of(raw)), taker.stored_bytes


def read_back(root: str, tenant: Tenant) -> bytes:
    """As its reader would, once a commit has accepted its nodes."""
    from storage.commits import accept_device

    accept_device(tenant, root=root, blocks=BLOCKS, parent_root="", parent_home=None)
    return b"".join(read_bytes(root, tenant.pk, BLOCKS))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(base=RUNS, base_changes=CHANGES, runs=RUNS, changes=CHANGES)
def test_what_goes_in_comes_out(
    db: None,
    base: list[tuple[int, int, bytes | None]],
    base_changes: dict[int, bytes | None],
    runs: list[tuple[int, int, bytes | None]],
    changes: dict[int, bytes | None],
) -> None:
    tenant = personal_tenant(make_user())
    public = laid_out(base, base_changes)
    device = publish(public)
    raw = image(public | laid_out(runs, changes))
    root, _ = take(tenant, device, raw)
    assert read_back(root, tenant) == raw
    again, stored = take(tenant, device, raw)
    assert (again, stored) == (root, 0)


def test_what_an_image_has_is_not_stored(db: None) -> None:
    tenant = personal_tenant(make_user())
    raws = {number: block(f"image {number}") for number in range(0, 1500, 3)} | {9: bytes(BLOCK)}
    device = publish(raws)
    assert take(tenant, device, image(raws)) == (device.root, 0)
    assert not Chunk.objects.filter(tenant=tenant).exists()
    root, stored = take(tenant, device, image(raws | {3: block("mine")}))
    data = Chunk.objects.filter(tenant=tenant, raw_size=BLOCK)
    assert (root != device.root, stored > 0, data.count()) == (True, True, 1)


def test_what_another_device_has_is_named_there(db: None) -> None:
    """The page cache: pages of a memory that are blocks of the disk."""
    tenant = personal_tenant(make_user())
    raws = {number: block(f"file {number}") for number in range(100)}
    disk, memory, known = publish(raws), publish({}), KnownBlocks()
    take(tenant, disk, image(raws), known)
    moved = {1000 + number: content for number, content in raws.items()}
    take(tenant, memory, image(moved), known)
    assert not [chunk for chunk in Chunk.objects.filter(tenant=tenant) if chunk.raw_size % BLOCK == 0]


def test_a_full_quota_stops_it(db: None) -> None:
    tenant = personal_tenant(make_user())
    Tenant.objects.filter(pk=tenant.pk).update(quota_bytes=100)
    with pytest.raises(QuotaExceeded):
        take(tenant, publish({}), image({5: block("x")}))


def test_reading_from_the_middle_reads_no_more_than_that(db: None) -> None:
    raws = {number: block(f"image {number}") for number in range(BLOCKS)}
    device = publish(raws)
    store = get_store()
    assert isinstance(store, LocalStore)
    for digest, raw in device.chunks.items():
        if block("image 3") in raw:
            store.delete(f"pub/{digest}")
    whole = image(raws)
    assert b"".join(read_bytes(device.root, None, BLOCKS, LEAF_BYTES + 5)) == whole[LEAF_BYTES + 5 :]
    sizes = [piece.size for piece in read_pieces(device.root, None, BLOCKS, 16)]
    assert sum(sizes) == len(whole) - LEAF_BYTES
