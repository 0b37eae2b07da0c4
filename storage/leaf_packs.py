"""Packs of leaves: the private chunks that a memory's leaf names as one object, which a CDN keeps for all who
open it (docs/design/delivery.md).

A pack is a chunk of the leaf's home, which counts and is collected like any other; what leads to it is the
leaf's row (`Chunk.pack`). It is only a faster way: nothing is lost with it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.db.models import F
from kombu.exceptions import KombuError

from storage.chunks import Rows, find_rows, put_pack, store_key
from storage.codec import BLOCK, decode_verified
from storage.errors import BadChunk, BadIndex, ChunkNotFound
from storage.index import Leaf
from storage.models import Chunk, ChunkState
from storage.nodes import load_nodes
from storage.packs import compress_pack, encode_pack
from storage.states import has_room, lock_tenants
from storage.stores import get_store
from webvm.accounts.models import Tenant
from webvm.errors import QuotaExceeded

# A chunk is in the packs of those leaves that use at least a quarter of it: in four at most, and a pack is
# never larger than four leaves, 16 MiB. A chunk with a few blocks for each of many leaves is had singly.
SHARE = 4
# Fewer raw bytes than this are four chunks or so, which are had as soon singly, once for all their leaves.
MIN_BYTES = 1024 * 1024
# Levels above it cost far more time than they save bytes (delivery.md).
LEVEL = 9
# This part of a quota is never filled with packs: a save that has no room is worse than a slow opening.
KEPT_FREE = 10
# The same leaves are not asked for again so soon.
AGAIN_S = 300
_READERS = 8

_log = logging.getLogger(__name__)


def is_served_elsewhere() -> bool:
    """Whether browsers get chunks at another address than the service's own, which has bundles instead."""
    base = settings.CHUNK_BASE_URL
    return not base.startswith("/") or base.startswith("//")


def chunks_to_pack(leaf: Leaf, home: UUID, rows: Rows) -> list[bytes]:
    """Which chunks belong into the pack of a leaf that was found in `home`, in order; none when it is not
    worth a pack. `rows`: what `find_rows(home, …)` found for all that it names. Only the home's own chunks:
    neither public ones nor what it has adopted.
    """
    chosen: list[bytes] = []
    size = 0
    for digest, used in zip(leaf.refs, leaf.blocks_used(), strict=True):
        place = rows.own.get(digest)
        if place is None or place.home != home or digest in rows.public:
            continue
        if used * BLOCK * SHARE >= place.raw_size:
            chosen.append(digest)
            size += place.raw_size
    return chosen if size >= MIN_BYTES else []


def queue_packs(wanted: dict[UUID, list[bytes]]) -> None:
    """Has a worker make the packs of these leaves, by home. A broker that is away is only logged: whoever
    opens the machine next asks again."""
    from storage.tasks import pack_leaves_task  # the task's module imports all of this

    for home, leaves in wanted.items():
        name = hashlib.sha256(b"".join(sorted(leaves))).hexdigest()
        if not cache.add(f"storage.packs.{home}.{name}", True, AGAIN_S):
            continue
        try:
            pack_leaves_task.delay(str(home), [digest.hex() for digest in leaves])
        except (KombuError, OSError) as error:
            _log.warning("Packs are made later: the broker does not take the task: %s", error)


def make_packs(home: UUID, leaves: Iterable[bytes]) -> int:
    """Makes the packs of those leaves of a tenant that are worth one and have none; how many it made.

    May be ended at any point and run any number of times, also at once. Ends quietly when the quota has no
    room to spare. Raises `StoreUnavailable`.
    """
    made = 0
    try:
        for digest in leaves:
            made += _make_pack(home, digest)
    except QuotaExceeded:
        _log.info("No more packs for tenant %s: its quota has no room to spare", home)
    return made


def _make_pack(home: UUID, digest: bytes) -> bool:
    if not _living_leaf(home, digest):
        return False
    # Before the work: a tenant without room costs a look.
    _tenant_with_room(home, 0)
    try:
        leaf = load_nodes({digest: home})[digest].node
        if not isinstance(leaf, Leaf):
            return False
        chunks = chunks_to_pack(leaf, home, find_rows(home, leaf.refs))
        if not chunks:
            return False
        keys = [(chunk, store_key(home, chunk)) for chunk in chunks]
        with ThreadPoolExecutor(_READERS, thread_name_prefix="packs") as pool:
            pack = encode_pack(list(pool.map(_read, keys)))
    except (ChunkNotFound, BadChunk, BadIndex) as error:
        _log.error("No pack for the leaf %s of tenant %s: %s", digest.hex(), home, error)
        return False
    frame = compress_pack(pack, level=LEVEL)
    stored = put_pack(_tenant_with_room(home, len(frame)), pack, frame)
    return _give(home, digest, bytes(stored.digest))


def _living_leaf(home: UUID, digest: bytes) -> bool:
    """Whether it is a leaf of the tenant's own that is alive and has no pack."""
    return Chunk.objects.filter(
        tenant=home, home=home, digest=digest, node_level=0, state=ChunkState.LIVE, pack=None
    ).exists()


def _tenant_with_room(home: UUID, size: int) -> Tenant:
    """Raises `QuotaExceeded` when that would take of what is kept free."""
    free = F("quota_bytes") - F("quota_bytes") / KEPT_FREE
    tenant = has_room(home, size).filter(used_bytes__lte=free - size, deleted_at=None).first()
    if tenant is None:
        raise QuotaExceeded
    return tenant


def _read(wanted: tuple[bytes, str]) -> bytes:
    digest, key = wanted
    return decode_verified(get_store().get(key), digest)


def _give(home: UUID, leaf_digest: bytes, pack_digest: bytes) -> bool:
    """The pack is alive from here on, as long as the leaf is. Not when the leaf is garbage by now: the pack
    then goes as an upload does that nobody named."""
    with transaction.atomic():
        lock_tenants(home)
        own = Chunk.objects.filter(tenant=home, home=home)
        leaf = own.filter(digest=leaf_digest, node_level=0, state=ChunkState.LIVE, pack=None).first()
        pack = own.filter(digest=pack_digest, state__in=[ChunkState.PENDING, ChunkState.LIVE]).first()
        if leaf is None or pack is None:
            return False
        pack.state, pack.state_at = ChunkState.LIVE, None
        # A run under way that has reached the leaf may be past it; one that has not finds the pack by it.
        pack.reached = max(pack.reached, leaf.reached)
        pack.save(update_fields=["state", "state_at", "reached"])
        leaf.pack = pack_digest
        leaf.save(update_fields=["pack"])
    return True
