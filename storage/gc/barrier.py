"""What everybody else does so that a collection under way misses nothing: see "The barrier" in
docs/design/storage.md.

Small on purpose: commits and purges import it, and it imports no part of the collector.
"""

from __future__ import annotations

from collections.abc import Collection as Digests
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from django.db.models import Case, Exists, F, Max, OuterRef, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from storage.models import Chunk, ChunkState, Collection, CollectionPhase, PublicCollection
from storage.states import batches, lock_public, lock_tenants

_UNDER_WAY = ~Q(phase=CollectionPhase.IDLE)


def collection_of(home: UUID | None) -> QuerySet[Collection] | QuerySet[PublicCollection]:
    """The row that says how far the collection of a tenant's chunks, or of the public's, is."""
    if home is None:
        return PublicCollection.objects.filter(pk=1)
    return Collection.objects.filter(tenant=home)


def running_collection(home: UUID | None) -> int | None:
    """The number of the run that is collecting these chunks. The caller holds the home's lock."""
    return collection_of(home).filter(_UNDER_WAY).values_list("run", flat=True).first()


def shade(home: UUID | None, digests: Digests[bytes]) -> None:
    """The run under way, if there is one, reaches these rows of the home and goes on below them. The caller
    holds the home's lock."""
    run = running_collection(home)
    if run is not None:
        reach(home, run, digests)


def reach(home: UUID | None, run: int, digests: Digests[bytes]) -> None:
    """Marks the home's rows with these digests, and those that are its nodes to be walked."""
    is_node = Q(node_level__isnull=False, home=home)
    for batch in batches(digests):
        Chunk.objects.filter(tenant=home, digest__in=batch).exclude(reached=run).update(
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


def note_public_garbage(now: datetime, *, where: Q | None = None) -> None:
    """Public chunks may have become garbage. `where`: only if that is true of their collection."""
    if where is None:
        PublicCollection.objects.get_or_create(pk=1)
    # Written even if it is noted already: a run that begins waits for this transaction, and sees what it did.
    PublicCollection.objects.filter(where or Q()).update(garbage_since=Coalesce("garbage_since", now))


def drop_references(references: Mapping[UUID, Digests[bytes]], *, now: datetime | None = None) -> None:
    """In the transaction that takes references away: by home, the digests that they named.

    Locks the homes. Whoever copied a reference before it went did so from one that a run under way reaches:
    by this, if not by finding it in time.
    """
    lock_tenants(*references)
    for home, digests in references.items():
        shade(home, digests)
        note_garbage(home, now)


def drop_public_references(now: datetime) -> None:
    """In the transaction that removes rows of a tenant that may have named public chunks. It matters only
    where such names are all that keeps some of them, or when that is being found out."""
    note_public_garbage(now, where=Q(has_borrowed=True) | _UNDER_WAY)


def borrowed_public(digests: Digests[bytes]) -> set[bytes]:
    """Those of these public chunks that some tenant names, or a node above them: one look-up in an index for
    each, however many tenants do; and all that are older than a commit that has not written down what it
    names. The caller holds the public's lock."""
    unwritten = Collection.objects.aggregate(last=Max("unwritten_up_to"))["last"] or 0
    adopted = Chunk.objects.filter(home=None, digest=OuterRef("digest"), tenant__isnull=False)
    followed = Chunk.objects.filter(based_on=OuterRef("digest"))
    found: set[bytes] = set()
    for batch in batches(digests):
        named = Exists(adopted) | Exists(followed) | Q(pk__lte=unwritten)
        rows = Chunk.objects.filter(named, tenant=None, digest__in=batch)
        found.update(bytes(digest) for digest in rows.values_list("digest", flat=True))
    return found


def take_back_public(now: datetime) -> None:
    """In the transaction that publishes a version, which may name anything public: what is condemned is live
    again, and a run under way begins anew, so that it finds the version."""
    lock_public()
    if Chunk.objects.filter(tenant=None, state=ChunkState.CONDEMNED).update(
        state=ChunkState.LIVE, state_at=None
    ):
        note_public_garbage(now)
    PublicCollection.objects.filter(_UNDER_WAY).update(
        run=F("run") + 1, phase=CollectionPhase.ROOTS, cursor=""
    )
