"""The states of a tenant's chunk rows and what they count (docs/design/storage.md, "States").

Whoever moves rows between states that count differently holds the lock of the tenant's row, so that

    used_bytes == sum of stored_size over rows with home == tenant that are pending or live
    condemned_bytes == the same over those that are condemned or being deleted

is true at the end of every transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Collection as Digests
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.core.cache import cache
from django.db import connection, transaction
from django.db.models import F, QuerySet, Sum
from django.utils import timezone
from kombu.exceptions import KombuError

from storage.errors import ChunkBusy
from storage.models import Chunk, ChunkState, Collection
from webvm.accounts.models import Tenant
from webvm.errors import QuotaExceeded

# Database parameters in one query; SQLite and PostgreSQL both take far more.
BATCH = 2000

_log = logging.getLogger(__name__)

# Whoever has claimed rows for deletion issues no delete later than this after the claim …
DELETE_WITHIN_S = 60.0
# … so that after this nothing is under way any more, and somebody else may finish or take the name back.
CLAIM_LASTS = timedelta(minutes=10)

# A full quota asks for a collection, no more often than this.
SOON_S = 300

# PostgreSQL's advisory lock of the public chunks' states; nothing else takes this number.
_PUBLIC_LOCK = 0x57565075

# A tenant may have this many times its quota waiting to be deleted, no more.
HELD_QUOTAS = 3


def pin_time() -> timedelta:
    """How long an upload, or what a negotiate said is there, waits for its commit."""
    return timedelta(hours=settings.GC_PIN_HOURS)


def lock_tenants(*tenants: UUID | None) -> list[Tenant]:
    """Locks the rows until the transaction ends, in one order, so that two callers cannot wait for each
    other."""
    wanted = {tenant for tenant in tenants if tenant is not None}
    return list(Tenant.objects.select_for_update().filter(pk__in=wanted).order_by("pk"))


def lock_public(*, shared: bool = False) -> None:
    """Locks the states of the public chunks until the transaction ends, always after the tenants' locks.

    Commits share it with each other; a collector and a publisher have it alone. SQLite has one writer anyway.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            name = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
            cursor.execute(f"SELECT {name}(%s)", [_PUBLIC_LOCK])


def lock_home(home: UUID | None) -> None:
    """The lock under which the chunks of a home change their states."""
    if home is None:
        lock_public()
    else:
        lock_tenants(home)


def has_room(tenant_id: UUID, size: int) -> QuerySet[Tenant]:
    """The tenant's row, if `size` more bytes fit its quota and what waits to be deleted is not too much."""
    return Tenant.objects.filter(
        pk=tenant_id,
        used_bytes__lte=F("quota_bytes") - size,
        condemned_bytes__lte=F("quota_bytes") * (HELD_QUOTAS + 1) - F("used_bytes") - size,
    )


def quota_exceeded(tenant_id: UUID) -> QuotaExceeded:
    """The error, with what a person wants to know. What the tenant has deleted is collected soon."""
    collect_soon(tenant_id)
    used, quota = Tenant.objects.values_list("used_bytes", "quota_bytes").get(pk=tenant_id)
    return QuotaExceeded(used_bytes=used, quota_bytes=quota)


def collect_soon(tenant_id: UUID) -> None:
    """Queue a collection when that may make room, at most every few minutes. A broker that is away is only
    logged: the schedule comes by anyway."""
    from storage.tasks import collect_garbage_task  # the task's module imports all of this

    if not Collection.objects.filter(tenant=tenant_id, garbage_since__isnull=False).exists():
        return
    if not cache.add(f"storage.collect_soon.{tenant_id}", True, SOON_S):
        return
    try:
        collect_garbage_task.delay()
    except (KombuError, OSError) as error:
        _log.warning("Garbage is collected later: the broker does not take the task: %s", error)


def charge(home: UUID | None, *, used: int = 0, condemned: int = 0) -> None:
    """Adds to the tenant's counters; public chunks count for nobody."""
    if home is not None and (used or condemned):
        Tenant.objects.filter(pk=home).update(
            used_bytes=F("used_bytes") + used, condemned_bytes=F("condemned_bytes") + condemned
        )


def own_bytes(rows: QuerySet[Chunk], home: UUID | None) -> int:
    """The stored bytes of those rows that are of this home's own: what they count, if it is a tenant."""
    return rows.filter(home=home).aggregate(sum=Sum("stored_size"))["sum"] or 0


def revive(home: UUID | None, digests: Digests[bytes], to: ChunkState) -> set[bytes]:
    """Takes condemned rows of a tenant, or of the public, back: as `PENDING` (to be named by a commit; a
    tenant's only) or as `LIVE` (named by one).

    What is pending is looked at anew by the commit, so a node is no accepted node any more: what it names may
    have been deleted. A leaf's pack is not taken back with it. Answers which were revived. Raises
    `QuotaExceeded` for `PENDING` without room.
    """
    with transaction.atomic():
        lock_home(home)
        revived: set[bytes] = set()
        for batch in batches(digests):
            rows = Chunk.objects.filter(tenant=home, digest__in=batch, state=ChunkState.CONDEMNED)
            found = list(rows.values_list("pk", "digest"))
            if not found:
                continue
            size = own_bytes(rows, home)
            if to == ChunkState.PENDING and home is not None:
                if size and not has_room(home, size).exists():
                    raise quota_exceeded(home)
                rows.filter(home=home).update(node_level=None)
            since = timezone.now() if to == ChunkState.PENDING else None
            Chunk.objects.filter(pk__in=[pk for pk, _ in found]).update(state=to, state_at=since, pack=None)
            charge(home, used=size, condemned=-size)
            revived.update(bytes(digest) for _, digest in found)
    return revived


def pin(tenant_id: UUID, digests: Digests[bytes]) -> None:
    """Pending rows wait `pin_time` from now on; written only when half of it is over."""
    now = timezone.now()
    for batch in batches(digests):
        Chunk.objects.filter(
            tenant=tenant_id,
            digest__in=batch,
            state=ChunkState.PENDING,
            state_at__lt=now - pin_time() / 2,
        ).update(state_at=now)


def take_back_name(row: Chunk) -> None:
    """Ends a deletion that its claimer did not finish, so that the digest can be uploaded anew.

    Raises `ChunkBusy` while the claimer may still be at work.
    """
    now = timezone.now()
    if row.tenant_id is None or row.state_at is None or row.state_at > now - CLAIM_LASTS:
        raise ChunkBusy
    forget_deleted(row.tenant_id, [row.pk], row.state_at)


def forget_deleted(home: UUID | None, pks: Digests[int], claimed_at: datetime) -> int:
    """Removes rows whose objects are gone, by the claim that deleted them; answers the bytes given back."""
    with transaction.atomic():
        lock_home(home)
        rows = Chunk.objects.filter(tenant=home, pk__in=pks, state=ChunkState.DELETED, state_at=claimed_at)
        size = own_bytes(rows, home)
        rows.delete()
        charge(home, condemned=-size)
    return size


def batches(digests: Iterable[bytes], size: int = BATCH) -> Iterator[list[bytes]]:
    """The distinct digests in sorted lists of at most `size`."""
    ordered = sorted(set(digests))
    for at in range(0, len(ordered), size):
        yield ordered[at : at + size]
