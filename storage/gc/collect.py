"""The door to garbage collection, for the command, the schedule and tests: purge, condemn, delete."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from storage.errors import StoreUnavailable
from storage.gc import roots
from storage.gc.mark import Condemned, collect_tenant, would_condemn
from storage.gc.sweep import Swept, due_bytes, sweep
from storage.models import Chunk, ChunkState, Collection, CollectionPhase
from storage.states import pin_time
from storage.uploads import remove_abandoned_uploads
from webvm.accounts.audit import record
from webvm.accounts.models import User
from webvm.errors import PermissionDenied

_log = logging.getLogger(__name__)
PURGE_STEP = 100
# A run whose last step was so short ago has somebody at work on it.
_AT_WORK = timedelta(minutes=2)


@dataclass
class Collected:
    """What a collection did."""

    purged: int = 0
    tenants: int = 0
    condemned: Condemned = field(default_factory=Condemned)
    swept: Swept = field(default_factory=Swept)
    # Tenants that are not collected until a damaged node of theirs is mended.
    blocked: list[str] = field(default_factory=list)


def collect_garbage(
    *,
    acting_user: User | None,
    now: datetime | None = None,
    waited: timedelta = timedelta(0),
    share: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Collected:
    """Removes what was deleted and can no longer be brought back, condemns what nothing leads to, and deletes
    what has been condemned for long enough. May be ended at any point and started again at any time.

    `now` decides what is due. `waited`: tenants whose garbage is younger are left for later. `share`: tenants
    that another collector is at work on are left to it. `acting_user` None is the command line or the
    schedule. Raises `PermissionDenied`, `StoreUnavailable`.
    """
    _require_site_admin(acting_user)
    now = now or timezone.now()
    done = Collected()
    for source in roots.sources:
        while count := source.purge(now, PURGE_STEP):
            done.purged += count
            say(f"{done.purged} deleted things removed for good")
    for tenant in due_tenants(now, waited, share=share):
        condemned = collect_tenant(tenant, now=now)
        done.tenants += 1
        done.condemned += condemned
        error = Collection.objects.values_list("error", flat=True).get(tenant=tenant)
        if error:
            done.blocked.append(str(tenant))
            _log.error("tenant %s: %s", tenant, error)
        say(f"tenant {tenant}: {error or f'{condemned.chunks} chunks condemned'}")
    try:
        done.swept = sweep(now=now)
        while remove_abandoned_uploads():
            pass
    finally:
        if done.purged or done.condemned.chunks or done.swept.objects:
            record("collect_garbage", acting_user=acting_user, **asdict(done))
    return done


def due_tenants(now: datetime, waited: timedelta = timedelta(0), *, share: bool = False) -> Iterator[UUID]:
    """Tenants that may have garbage: noted as such, a run under way, or uploads that nobody committed."""
    due = Q(garbage_since__lte=now - waited) | ~Q(phase=CollectionPhase.IDLE)
    found = Collection.objects.filter(due)
    if share:
        found = found.exclude(heartbeat_at__gt=timezone.now() - _AT_WORK)
    seen = set(found.values_list("tenant_id", flat=True))
    abandoned = Chunk.objects.filter(
        state=ChunkState.PENDING, state_at__lt=now - pin_time(), tenant__isnull=False
    )
    seen |= {
        tenant for tenant in abandoned.order_by().values_list("tenant_id", flat=True).distinct() if tenant
    }
    yield from sorted(seen)


@dataclass(frozen=True)
class Freeable:
    """A dry run's answer for one tenant."""

    tenant: UUID
    digests: list[str]
    stored_bytes: int


def preview_garbage(*, acting_user: User | None, now: datetime | None = None) -> Iterator[Freeable]:
    """What `collect_garbage` would condemn, tenant by tenant; nothing is changed. Raises `PermissionDenied`,
    and `BadChunk` or `ChunkNotFound` for a tenant with a damaged node."""
    _require_site_admin(acting_user)
    now = now or timezone.now()
    tenants = set(due_tenants(now))
    for source in roots.sources:
        tenants |= source.homes_to_purge(now)
    for tenant in sorted(tenants):
        found = would_condemn(tenant, now=now)
        yield Freeable(tenant, [digest.hex() for digest in found.digests], found.stored_bytes)


def preview_purge(now: datetime) -> dict[str, int]:
    """How many deleted things would be removed for good, by kind."""
    return {kind: count for source in roots.sources for kind, count in source.to_purge(now).items()}


def preview_sweep(now: datetime) -> tuple[int, int]:
    """How many objects would be deleted at once, and their stored bytes."""
    return due_bytes(now)


def _require_site_admin(acting_user: User | None) -> None:
    if acting_user is not None and not (acting_user.is_active and acting_user.is_staff):
        raise PermissionDenied("Only admins of this site collect garbage.")


__all__ = ["Collected", "Freeable", "StoreUnavailable", "collect_garbage", "due_tenants", "preview_garbage"]
