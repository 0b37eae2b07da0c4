"""Reading saved machines straight from the store, and the books of the storage: for tests of collecting."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Sum
from django.utils import timezone

from sessions.devices import device_of
from sessions.models import Snapshot
from storage import nodes
from storage.chunks import HomeId, find_rows, store_key
from storage.codec import BLOCK, decode_verified
from storage.gc.collect import Collected, collect_garbage
from storage.index import Interior, decode_node, node_span, root_level
from storage.models import Chunk, ChunkState
from storage.stores import get_store
from tests.support.machines import Machine
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.models import Tenant

Contents = dict[int, bytes]


def contents_of(snapshot: Snapshot) -> tuple[Contents, Contents]:
    """The blocks of the snapshot's disk and memory, everything read from the store and verified."""
    nodes.cache.clear()
    found = []
    for name in ("disk", "memory"):
        device = device_of(snapshot.vm, snapshot, name)
        found.append(read_device(device.root, device.home, device.blocks))
    return found[0], found[1]


def read_device(root: str, home: HomeId, blocks: int) -> Contents:
    """A device's blocks by the rules of docs/design/formats.md, "Homes"."""
    found: Contents = {}
    if root:
        _read(bytes.fromhex(root), home, root_level(blocks), 0, found)
    return found


def _read(digest: bytes, named_in: HomeId, level: int, first: int, found: Contents) -> None:
    place = find_rows(named_in, [digest]).get_node(digest, level)
    assert place, f"no row for node {digest.hex()}"
    assert place.state == ChunkState.LIVE, f"a living snapshot leads to a {place.state} node"
    node = decode_node(decode_verified(get_store().get(store_key(place.home, digest)), digest))
    if isinstance(node, Interior):
        for entry in node.entries:
            at = first + entry.slot * node_span(level - 1)
            _read(node.refs[entry.ref], place.home, level - 1, at, found)
        return
    for leaf_entry in node.entries:
        ref = node.refs[leaf_entry.ref]
        chunk = find_rows(place.home, [ref]).get(ref)
        assert chunk, f"no row for chunk {ref.hex()}"
        assert chunk.state == ChunkState.LIVE, f"a living snapshot leads to a {chunk.state} chunk"
        raw = decode_verified(get_store().get(store_key(chunk.home, ref)), ref)
        for at in range(leaf_entry.count):
            start = (leaf_entry.offset + at) * BLOCK
            found[first + leaf_entry.first + at] = raw[start : start + BLOCK]


def check_books() -> None:
    """What is counted is what is there, for every tenant; and what a row says is there is there."""
    for tenant in Tenant.objects.all():
        own = Chunk.objects.filter(tenant=tenant, home=tenant)
        used = own.filter(state__in=[ChunkState.PENDING, ChunkState.LIVE]).aggregate(sum=Sum("stored_size"))
        held = own.exclude(state__in=[ChunkState.PENDING, ChunkState.LIVE]).aggregate(sum=Sum("stored_size"))
        assert tenant.used_bytes == (used["sum"] or 0)
        assert tenant.condemned_bytes == (held["sum"] or 0)
    for row in Chunk.objects.exclude(state=ChunkState.DELETED):
        assert get_store().exists(store_key(row.home_id, bytes(row.digest))), row.state


def collect_all(now: datetime | None = None) -> tuple[Collected, datetime]:
    """Collect until nothing is left to free, each time when everything is due; the last answer and time."""
    now = now or timezone.now()
    while True:
        now += timedelta(days=40)
        done = collect_garbage(acting_user=None, now=now)
        if not (done.purged or done.condemned.chunks or done.swept.objects or done.swept.adopted):
            return done, now


def public_states() -> dict[str, int]:
    """How many public rows are in each state."""
    found: dict[str, int] = {}
    for state in Chunk.objects.filter(tenant=None).values_list("state", flat=True):
        found[state] = found.get(state, 0) + 1
    return found


def named_by(machine: Machine) -> set[str]:
    """The digests of all nodes and chunks of both devices."""
    return machine.disk.named() | machine.memory.named()


def public_digests() -> set[str]:
    """Those of all public rows, in any state."""
    return {
        bytes(digest).hex() for digest in Chunk.objects.filter(tenant=None).values_list("digest", flat=True)
    }


def after_undo() -> datetime:
    """When what is deleted now can be brought back no more."""
    return timezone.now() + undo_time() + timedelta(hours=1)


def loaded(snapshot: Snapshot) -> Snapshot:
    """The snapshot as it is by now, with what its devices need."""
    return Snapshot.objects.select_related("vm__image_version").get(pk=snapshot.pk)
