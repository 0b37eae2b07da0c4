"""Objects that no row knows: what a crash between storing bytes and writing their row leaves behind.

They harm nobody and count against nobody, so they are looked for rarely, by listing the store. One is only
touched when it is a day old, and only behind a row that says that it is being deleted: whoever uploads the
same bytes at that moment waits for the end of it, as with any deletion.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from storage.chunks import store_key
from storage.codec import decode_frame, digest_of
from storage.errors import BadChunk, ChunkNotFound
from storage.gc.mark import is_publishing
from storage.gc.sweep import delete_claimed
from storage.models import Chunk, ChunkState
from storage.packs import MAX_PACK_BYTES
from storage.states import charge, lock_home
from storage.stores import StoredObject, get_store
from webvm.accounts.access import require_site_admin
from webvm.accounts.audit import record
from webvm.accounts.models import Tenant, User

ORPHAN_AGE = timedelta(days=1)
# Names of a tenant's rows that are in memory at one time, about; more are compared in several listings.
_NAMES_AT_ONCE = 100_000
_log = logging.getLogger(__name__)


def find_orphans(*, now: datetime | None = None) -> Iterator[StoredObject]:
    """Old objects without a row, space by space. Costs a listing of the store and the names of all rows."""
    now = now or timezone.now()
    for space in get_store().list_spaces():
        home = _home_of(space)
        if home is None and is_publishing():
            continue  # what is published is stored long before its rows
        count = Chunk.objects.filter(home=home, tenant=home).count()
        digits = 0 if count <= _NAMES_AT_ONCE else 1 if count <= 16 * _NAMES_AT_ONCE else 2
        for part in range(16**digits):
            prefix = f"{part:0{digits}x}" if digits else ""
            old = [
                found
                for found in get_store().list_objects(space, prefix)
                if found.modified_at < now - ORPHAN_AGE
            ]
            # Read after the listing, so that what was stored and then got its row is not taken for an orphan.
            known = _known_names(home, prefix) if old else set()
            yield from (found for found in old if bytes.fromhex(found.key[-64:]) not in known)


def delete_orphans(*, acting_user: User | None, now: datetime | None = None) -> tuple[int, int]:
    """Deletes them; how many, and their stored bytes. `acting_user` None is the command line or the schedule.

    Raises `PermissionDenied`, `StoreUnavailable`.
    """
    require_site_admin(acting_user, "collect garbage")
    now = now or timezone.now()
    count = size = 0
    for orphan in find_orphans(now=now):
        if _delete(orphan, now):
            count, size = count + 1, size + orphan.size
    if count:
        record("delete_orphans", acting_user=acting_user, objects=count, stored_bytes=size)
    return count, size


def _home_of(space: str) -> UUID | None:
    return None if space == "pub" else UUID(space.removeprefix("t/"))


def _known_names(home: UUID | None, prefix: str) -> set[bytes]:
    """The names of the objects that rows know, in any state. A tenant without a row has none."""
    if home is not None and not Tenant.objects.filter(pk=home).exists():
        return set()
    # A row that was adopted elsewhere keeps nothing: its home's own row does.
    rows = Chunk.objects.filter(home=home, tenant=home).values_list("digest", flat=True)
    names = (store_key(home, bytes(digest))[-64:] for digest in rows.iterator(chunk_size=5000))
    return {bytes.fromhex(name) for name in names if name.startswith(prefix)}


def _delete(orphan: StoredObject, now: datetime) -> bool:
    home = _home_of(orphan.key.rpartition("/")[0])
    store = get_store()
    try:
        raw = decode_frame(store.get(orphan.key), MAX_PACK_BYTES)
    except ChunkNotFound:
        return False
    except BadChunk:
        raw = b""
    digest = digest_of(raw)
    has_tenant = home is None or Tenant.objects.filter(pk=home).exists()
    if not has_tenant or not raw or store_key(home, digest) != orphan.key:
        # Nobody can upload to the space, or it is no chunk at all: no name to wait for.
        store.delete(orphan.key)
        return True
    row = Chunk(
        tenant_id=home,
        home_id=home,
        digest=digest,
        raw_size=len(raw),
        stored_size=orphan.size,
        state=ChunkState.DELETED,
        state_at=now,
    )
    try:
        with transaction.atomic():
            lock_home(home)
            charge(home, condemned=orphan.size)
            row.save(force_insert=True)
    except IntegrityError:
        return False  # somebody has uploaded the same bytes since, and uses the object
    # A job that begins from here on sees the row and waits; one that has begun may be using the object.
    if home is None and is_publishing():
        row.delete()
        return False
    return delete_claimed(home, [(row.pk, digest)], now).objects == 1
