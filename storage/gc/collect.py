"""The door to garbage collection, for the command, the schedule and tests: purge, condemn, delete."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from storage.chunks import HomeId
from storage.gc import roots
from storage.gc.abandoned import condemn_abandoned
from storage.gc.barrier import collection_of
from storage.gc.mark import Condemned, collect_home
from storage.gc.sweep import Swept, sweep
from storage.gc.versions import free_versions
from storage.images.publish import fail_lost_jobs
from storage.models import Collection, CollectionPhase, PublicCollection
from storage.uploads import remove_abandoned_uploads
from webvm.accounts.access import require_site_admin
from webvm.accounts.audit import record
from webvm.accounts.models import User

_log = logging.getLogger(__name__)
PURGE_STEP = 100
# A run whose last step was so short ago has somebody at work on it.
_AT_WORK = timedelta(minutes=2)


@dataclass
class Collected:
    """What a collection did."""

    purged: int = 0
    # Image versions whose data nobody needs any more.
    versions: int = 0
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
    require_site_admin(acting_user, "collect garbage")
    now = now or timezone.now()
    done = Collected()
    for source in roots.sources:
        while count := source.purge(now, PURGE_STEP):
            done.purged += count
            say(f"{done.purged} deleted things removed for good")
    done.versions = free_versions(now)
    done.condemned += condemn_abandoned(now)
    for tenant in due_tenants(now, waited, share=share):
        done.tenants += 1
        _collect(tenant, f"tenant {tenant}", now, done, say)
    # After the tenants: they may have to write down first what they name of the public.
    if is_public_due(now, waited, share=share):
        fail_lost_jobs()
        _collect(None, "public", now, done, say)
    try:
        done.swept = sweep(now=now)
        while remove_abandoned_uploads():
            pass
    finally:
        if done.purged or done.versions or done.condemned.chunks or done.swept.objects:
            record("collect_garbage", acting_user=acting_user, **asdict(done))
    return done


def _collect(home: HomeId, name: str, now: datetime, done: Collected, say: Callable[[str], None]) -> None:
    condemned = collect_home(home, now=now)
    done.condemned += condemned
    error = collection_of(home).values_list("error", flat=True).get()
    if error:
        done.blocked.append(str(home or "public"))
        _log.error("%s: %s", name, error)
    say(f"{name}: {error or f'{condemned.chunks} chunks condemned'}")


def due_tenants(now: datetime, waited: timedelta = timedelta(0), *, share: bool = False) -> Iterator[UUID]:
    """Tenants that may have garbage: it was noted since their last run began, or a run is under way."""
    found = Collection.objects.filter(_due(now, waited, share)).order_by("tenant_id")
    yield from list(found.values_list("tenant_id", flat=True))


def is_public_due(now: datetime, waited: timedelta = timedelta(0), *, share: bool = False) -> bool:
    """Whether public chunks may be garbage, or a run over them is under way."""
    return PublicCollection.objects.filter(_due(now, waited, share)).exists()


def _due(now: datetime, waited: timedelta, share: bool) -> Q:
    due = Q(garbage_since__lte=now - waited) | ~Q(phase=CollectionPhase.IDLE)
    at_work = Q(heartbeat_at__isnull=False, heartbeat_at__gt=timezone.now() - _AT_WORK)
    return due & ~at_work if share else due
