"""Deleting what has been condemned for long enough: the row's state first, then the object, then the row.

A crash in between leaves a row that says that its object is being deleted; the next sweep ends that. No
object is ever deleted while a row says that it is there, and no row says so before the object is.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Q, Sum

from storage.chunks import HomeId, store_key
from storage.errors import StoreUnavailable
from storage.gc.barrier import borrowed_public, drop_public_references, drop_references
from storage.gc.mark import is_publishing
from storage.models import Chunk, ChunkState
from storage.states import CLAIM_LASTS, DELETE_WITHIN_S, forget_deleted, lock_home, lock_tenants
from storage.stores import get_store

_log = logging.getLogger(__name__)

SWEEP_STEP = 200
# Deletions are small requests; a few at once hide an object store's latency.
_AT_ONCE = 8


def grace_time() -> timedelta:
    """From condemned to deleted. Longer than anybody reads on from a state that was just superseded."""
    return timedelta(minutes=settings.GC_GRACE_MINUTES)


@dataclass(frozen=True)
class Swept:
    """Objects deleted and their stored bytes; adopted rows, which have no object, are only counted."""

    objects: int = 0
    stored_bytes: int = 0
    adopted: int = 0

    def __add__(self, other: Swept) -> Swept:
        return Swept(
            self.objects + other.objects,
            self.stored_bytes + other.stored_bytes,
            self.adopted + other.adopted,
        )


def sweep(*, now: datetime) -> Swept:
    """Deletes everything that is due. Raises `StoreUnavailable`; what is left is done the next time."""
    total = Swept()
    for state, until in _limits(now):
        at, after = datetime.min.replace(tzinfo=now.tzinfo), 0
        while True:
            behind = Q(state_at__gt=at) | Q(state_at=at, pk__gt=after)
            due = Chunk.objects.filter(behind, state=state, state_at__lte=until, state_at__gte=at)
            page = list(due.order_by("state_at", "pk")[:SWEEP_STEP])
            if not page:
                break
            at, after = page[-1].state_at or at, page[-1].pk
            total += _sweep_page(page, state, until, now)
    return total


def due_bytes(now: datetime) -> tuple[int, int]:
    """How many objects a sweep would delete, and their bytes."""
    count = size = 0
    for state, until in _limits(now):
        has_object = Q(home=F("tenant")) | Q(tenant=None)
        due = Chunk.objects.filter(has_object, state=state, state_at__lte=until)
        found = due.aggregate(count=Count("pk"), size=Sum("stored_size"))
        count, size = count + found["count"], size + (found["size"] or 0)
    return count, size


def _limits(now: datetime) -> list[tuple[ChunkState, datetime]]:
    """What is due: condemned long enough, or claimed by somebody who did not finish."""
    return [(ChunkState.CONDEMNED, now - grace_time()), (ChunkState.DELETED, now - CLAIM_LASTS)]


def _sweep_page(page: list[Chunk], state: ChunkState, until: datetime, now: datetime) -> Swept:
    own: dict[HomeId, list[int]] = defaultdict(list)
    adopted: dict[tuple[UUID, HomeId], list[int]] = defaultdict(list)
    for row in page:
        if row.tenant_id is None or row.tenant_id == row.home_id:
            own[row.home_id].append(row.pk)
        else:
            adopted[row.tenant_id, row.home_id].append(row.pk)
    total = Swept()
    for (tenant, home), pks in adopted.items():
        total += Swept(adopted=_drop_adopted(tenant, home, pks, until, now))
    for home, pks in own.items():
        total += delete_claimed(home, _claim(home, pks, state, until, now), now)
    return total


def _drop_adopted(tenant: UUID, home: HomeId, pks: list[int], until: datetime, now: datetime) -> int:
    """Removes references to another tenant's chunks, or the public's, which may become garbage by that."""
    with transaction.atomic():
        lock_tenants(tenant, home)
        rows = Chunk.objects.filter(
            pk__in=pks, tenant=tenant, home=home, state=ChunkState.CONDEMNED, state_at__lte=until
        )
        digests = [bytes(digest) for digest in rows.values_list("digest", flat=True)]
        rows.delete()
        if digests and home is not None:
            drop_references({home: digests}, now=now)
        elif digests:
            drop_public_references(now)
    return len(digests)


def _claim(
    home: HomeId, pks: list[int], state: ChunkState, until: datetime, now: datetime
) -> list[tuple[int, bytes]]:
    """From here on the rows say that their objects are being deleted, by this claim (`state_at == now`).

    Looks once more: what somebody revived in between stays, and so does what another tenant has a reference
    to. Nothing public is claimed while something is published: that may rely on an object that is there.
    """
    if home is None and is_publishing():
        return []
    with transaction.atomic():
        lock_home(home)
        rows = Chunk.objects.filter(pk__in=pks, tenant=home, state=state, state_at__lte=until)
        found = {bytes(digest): pk for pk, digest in rows.values_list("pk", "digest")}
        for digest in _borrowed(home, set(found)):
            if found.pop(digest, None):
                _log.error("condemned, but another tenant names it, or may: %s", digest.hex())
        Chunk.objects.filter(pk__in=found.values()).update(state=ChunkState.DELETED, state_at=now)
    if home is None and is_publishing():
        # It may have begun before the claim was to be seen. What begins after it waits (`images.shelf`).
        claimed = Chunk.objects.filter(pk__in=found.values(), state=ChunkState.DELETED, state_at=now)
        if state == ChunkState.CONDEMNED:
            claimed.update(state=state)
        return []
    return [(pk, digest) for digest, pk in found.items()]


def _borrowed(home: HomeId, digests: set[bytes]) -> set[bytes]:
    """Those of these chunks of a home that tenants which are not its own name. The caller holds its lock."""
    if home is None:
        return borrowed_public(digests)
    rows = Chunk.objects.filter(home=home, digest__in=digests).exclude(tenant=home)
    return {bytes(digest) for digest in rows.values_list("digest", flat=True)}


def delete_claimed(home: HomeId, claimed: list[tuple[int, bytes]], now: datetime) -> Swept:
    """Deletes the objects, then their rows. What the store refuses stays claimed, for a later sweep."""
    store = get_store()
    began = time.monotonic()

    keys = [(pk, store_key(home, digest)) for pk, digest in claimed]

    def delete(item: tuple[int, str]) -> int | None:
        if time.monotonic() - began > DELETE_WITHIN_S:
            return None  # the name may be somebody else's soon: `states.CLAIM_LASTS`
        try:
            store.delete(item[1])
        except StoreUnavailable as error:
            failures.append(error)
            return None
        return item[0]

    failures: list[StoreUnavailable] = []
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sweep") as pool:
        done = [pk for pk in pool.map(delete, keys) if pk is not None]
    with transaction.atomic():
        size = forget_deleted(home, done, now)
        if home is not None and done:
            drop_public_references(now)
    if failures:
        raise failures[0]
    return Swept(len(done), size)
