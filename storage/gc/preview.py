"""What a collection would do, for a dry run: nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from storage.chunks import HomeId
from storage.errors import BadChunk, BadIndex, ChunkNotFound
from storage.gc import roots
from storage.gc.abandoned import abandoned_uploads
from storage.gc.barrier import borrowed_public
from storage.gc.collect import due_tenants, is_public_due
from storage.gc.mark import roots_page
from storage.gc.sweep import due_bytes
from storage.gc.versions import digests_of, due_versions, kept_versions
from storage.models import Chunk, ChunkState
from storage.nodes import load_nodes
from storage.states import batches, pin_time
from webvm.accounts.access import require_site_admin
from webvm.accounts.models import User


@dataclass(frozen=True)
class Freeable:
    """What a run over one tenant, or over the public's chunks (None), would condemn."""

    tenant: UUID | None
    digests: list[str]
    stored_bytes: int
    # Nothing, because a node is damaged.
    is_blocked: bool = False


def preview_garbage(*, acting_user: User | None, now: datetime | None = None) -> Iterator[Freeable]:
    """What `collect_garbage` would condemn, tenant by tenant, and of the public.

    Raises `PermissionDenied`.
    """
    require_site_admin(acting_user, "collect garbage")
    now = now or timezone.now()
    tenants = set(due_tenants(now))
    for source in roots.sources:
        tenants |= source.homes_to_purge(now)
    for tenant in sorted(tenants):
        yield would_condemn(tenant, now=now)
    left = abandoned_uploads(now).exclude(tenant__in=tenants).order_by("tenant", "pk")
    for tenant, rows in groupby(left.iterator(), lambda row: row.tenant_id):
        yield _as_they_are(tenant, rows)
    if is_public_due(now) or due_versions(now):
        yield would_condemn(None, now=now)


def preview_purge(now: datetime) -> dict[str, int]:
    """How many deleted things would be removed for good, by kind."""
    return {kind: count for source in roots.sources for kind, count in source.to_purge(now).items()}


def preview_sweep(now: datetime) -> tuple[int, int]:
    """How many objects would be deleted at once, and their stored bytes."""
    return due_bytes(now)


def would_condemn(home: HomeId, *, now: datetime) -> Freeable:
    """What `mark.collect_home` would condemn now, after a purge.

    Unlike the run it keeps what it has reached in memory: about 100 bytes for each row of the home.
    """
    try:
        return _would_condemn(home, now)
    except (ChunkNotFound, BadChunk, BadIndex):
        return Freeable(home, [], 0, is_blocked=True)


def _would_condemn(home: HomeId, now: datetime) -> Freeable:
    reached: set[bytes] = set()
    _reach_below(home, _roots(home, now), reached)
    waiting = Q(state=ChunkState.PENDING, state_at__lt=now - pin_time())
    rows = Chunk.objects.filter(Q(state=ChunkState.LIVE) | waiting, tenant=home)
    if home is None:
        digests = {bytes(digest) for digest in rows.values_list("digest", flat=True).iterator()}
        _reach_below(None, borrowed_public(digests - reached), reached)
    free: list[str] = []
    size = 0
    for digest, stored_size, kept_at in rows.values_list("digest", "stored_size", "home").iterator():
        if bytes(digest) not in reached:
            free.append(bytes(digest).hex())
            size += stored_size if kept_at == home else 0
    return Freeable(home, free, size)


def _as_they_are(home: HomeId, rows: Iterable[Chunk]) -> Freeable:
    free, size = [], 0
    for row in rows:
        free.append(bytes(row.digest).hex())
        size += row.stored_size if row.home_id == home else 0
    return Freeable(home, free, size)


def _roots(home: HomeId, now: datetime) -> set[bytes]:
    if home is None:
        due = {version.pk for version in due_versions(now)}
        kept = (version for version in kept_versions() if version.pk not in due)
        return {digest for version in kept for digest in digests_of(version)}
    found: set[bytes] = set()
    number, after = 0, ""
    while (page := roots_page(home, number, after)) is not None:
        if page:
            after = page[-1][0]
            gone = (
                roots.sources[number].purgeable_roots_in(home, now) if number < len(roots.sources) else set()
            )
            found |= {digest for _, digest in page} - gone
        else:
            number, after = number + 1, ""
    return found


def _reach_below(home: HomeId, digests: set[bytes], reached: set[bytes]) -> None:
    """Adds these and all that they lead to among the home's own chunks."""
    ahead = digests
    while ahead:
        below: set[bytes] = set()
        for batch in batches(ahead - reached, 200):
            nodes = Chunk.objects.filter(tenant=home, home=home, digest__in=batch, node_level__isnull=False)
            found = list(nodes.values_list("digest", "pack"))
            homes = {bytes(digest): home for digest, _ in found}
            below.update(bytes(pack) for _, pack in found if pack)
            for loaded in load_nodes(homes).values():
                below.update(loaded.node.refs)
            reached.update(batch)
        ahead = below - reached
