"""What everybody else does so that a collection under way misses nothing: see "The barrier" in
docs/design/storage.md.

Small on purpose: commits and purges import it, and it imports no part of the collector.
"""

from __future__ import annotations

from collections.abc import Collection as Digests
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from django.db.models import Case, F, Q, Value, When
from django.utils import timezone

from storage.models import Chunk, Collection, CollectionPhase
from storage.states import batches, lock_tenants


def running_collection(tenant_id: UUID) -> int | None:
    """The number of the run that is collecting this tenant's chunks. The caller holds the tenant's lock."""
    under_way = Collection.objects.filter(tenant=tenant_id).exclude(phase=CollectionPhase.IDLE)
    return under_way.values_list("run", flat=True).first()


def shade(tenant_id: UUID, digests: Digests[bytes]) -> None:
    """The run under way, if there is one, reaches these rows of the tenant and goes on below them. The caller
    holds the tenant's lock."""
    run = running_collection(tenant_id)
    if run is not None:
        reach(tenant_id, run, digests)


def reach(tenant_id: UUID, run: int, digests: Digests[bytes]) -> None:
    """Marks the tenant's rows with these digests, and those that are its nodes to be walked."""
    is_node = Q(node_level__isnull=False, home=F("tenant"))
    for batch in batches(digests):
        Chunk.objects.filter(tenant=tenant_id, digest__in=batch).exclude(reached=run).update(
            reached=run, to_walk=Case(When(is_node, then=Value(True)), default=Value(False))
        )


def note_garbage(tenant_id: UUID, now: datetime | None = None) -> None:
    """Something of the tenant may have become garbage: it is collected when its time comes. The caller holds
    the tenant's lock."""
    found, _ = Collection.objects.get_or_create(tenant_id=tenant_id)
    if found.garbage_since is None:
        Collection.objects.filter(tenant=tenant_id, garbage_since=None).update(
            garbage_since=now or timezone.now()
        )


def drop_references(references: Mapping[UUID, Digests[bytes]], *, now: datetime | None = None) -> None:
    """In the transaction that takes references away: by home, the digests that they named.

    Locks the homes. Whoever copied a reference before it went did so from one that a run under way reaches:
    by this, if not by finding it in time.
    """
    lock_tenants(*references)
    for home, digests in references.items():
        shade(home, digests)
        note_garbage(home, now)
