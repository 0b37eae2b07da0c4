"""Finding what nothing leads to: one run over one tenant's rows, or the public's, in short steps that each
leave a good state.

A run goes through the phases roots, walk and condemn. Its progress is in the home's `Collection` row and in
the rows' marks, so whoever comes next goes on where the last one stopped. Each step is one transaction under
the home's lock, bounded by a number of rows; nothing is held in between, and two collectors at once do each
other no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from storage.chunks import HomeId
from storage.errors import BadChunk, BadIndex, ChunkNotFound
from storage.gc import roots
from storage.gc.barrier import borrowed_public, collection_of, drop_public_references, reach
from storage.gc.versions import version_roots
from storage.index import MAX_LEVEL
from storage.models import (
    Chunk,
    ChunkState,
    Collection,
    CollectionPhase,
    PublicCollection,
    PublishJob,
    PublishState,
)
from storage.nodes import load_nodes
from storage.states import batches, charge, lock_home, lock_public, own_bytes, revive

ROOTS_STEP = 500
WALK_STEP = 64
CONDEMN_STEP = 500

_Run = Collection | PublicCollection


WHAT_TO_DO = (
    "Run `manage.py verifystorage --repair`; what no copy can mend is in the way until the snapshots that it "
    "names are deleted and can no longer be brought back."
)


class DamagedNode(Exception):
    """A node cannot be read, so what it names is not known, and nothing of its home may be condemned."""


@dataclass(frozen=True)
class Condemned:
    """What a run condemned: rows, and their bytes (of a tenant's what it had been charged)."""

    chunks: int = 0
    stored_bytes: int = 0

    def __add__(self, other: Condemned) -> Condemned:
        return Condemned(self.chunks + other.chunks, self.stored_bytes + other.stored_bytes)


def collect_home(home: HomeId, *, now: datetime) -> Condemned:
    """Condemns what nothing leads to, from the start or from where a run before stopped.

    Raises `StoreUnavailable`; the run goes on another time. A damaged node ends it for now with
    `Collection.error`, and nothing more is condemned until it is mended.
    """
    run = begin(home, now)
    condemned = Condemned()
    try:
        while True:
            step = make_step(home, run, now)
            if step is None:
                return condemned
            condemned += step
    except DamagedNode as damaged:
        collection_of(home).update(error=str(damaged), heartbeat_at=None)
        return condemned


def begin(home: HomeId, now: datetime) -> int:
    """The number of the run to go on with, or of a new one."""
    with transaction.atomic():
        lock_home(home)
        found: _Run
        if home is None:
            found, _ = PublicCollection.objects.get_or_create(pk=1)
        else:
            found, _ = Collection.objects.get_or_create(tenant_id=home)
        if found.error and found.garbage_since and found.phase != CollectionPhase.IDLE:
            # Perhaps what led to the damaged node has gone: only a run from the start can tell.
            Chunk.objects.filter(tenant=home, to_walk=True).update(to_walk=False)
            found.phase = CollectionPhase.IDLE
        if found.phase == CollectionPhase.IDLE:
            found.run += 1
            found.phase, found.cursor, found.started_at = CollectionPhase.ROOTS, "", now
            # What becomes garbage from now on is noted anew.
            found.garbage_since = None
            if isinstance(found, PublicCollection):
                found.has_borrowed = False
        found.heartbeat_at, found.error = timezone.now(), ""
        found.save()
    return found.run


def make_step(home: HomeId, run: int, now: datetime) -> Condemned | None:
    """One step of the run; None when it is over, or cannot go on for now."""
    found = collection_of(home).get()
    if found.run != run or found.phase == CollectionPhase.IDLE:
        return None  # another collector has finished it, or a publisher made it begin anew
    if found.phase == CollectionPhase.ROOTS:
        _reach_roots(home, found)
    elif not _walk(home, found):
        if home is None and is_publishing():
            return None  # it may rely on any chunk that is there
        return _condemn(home, run, now)
    return Condemned()


def is_publishing() -> bool:
    return PublishJob.objects.filter(state__in=[PublishState.QUEUED, PublishState.RUNNING]).exists()


def _reach_roots(home: HomeId, found: _Run) -> None:
    """Marks a page of the roots. The cursor is `<number of the source>:<cursor of the source>`."""
    number, _, after = found.cursor.partition(":")
    at = int(number or 0)
    page = roots_page(home, at, after)
    if page is None:
        _mine(home, found).update(phase=CollectionPhase.WALK, cursor="", heartbeat_at=timezone.now())
        return
    with transaction.atomic():
        lock_home(home)
        reach(home, found.run, {digest for _, digest in page})
        following = f"{at}:{page[-1][0]}" if page else f"{at + 1}:"
        _mine(home, found).update(cursor=following, heartbeat_at=timezone.now())


def _mine(home: HomeId, found: _Run) -> QuerySet[Collection] | QuerySet[PublicCollection]:
    """The row, unless somebody has taken the run further meanwhile."""
    return collection_of(home).filter(run=found.run, phase=found.phase)


def roots_page(home: HomeId, number: int, after: str) -> list[tuple[str, bytes]] | None:
    """The next page of a source of roots; empty at its end, None when there is no such source."""
    if home is None:
        return version_roots(after, ROOTS_STEP) if number == 0 else None
    if number < len(roots.sources):
        return roots.sources[number].roots_in(home, after, ROOTS_STEP)
    return _borrowed(home, after) if number == len(roots.sources) else None


def _borrowed(home: UUID, after: str) -> list[tuple[str, bytes]]:
    """Rows of other tenants that were adopted from this one: each is a reference, whatever its state."""
    rows = Chunk.objects.filter(home=home, digest__gt=bytes.fromhex(after)).exclude(tenant=home)
    page = rows.order_by("digest").values_list("digest", flat=True).distinct()[:ROOTS_STEP]
    return [(bytes(digest).hex(), bytes(digest)) for digest in page]


def _walk(home: HomeId, found: _Run) -> bool:
    """Marks what some nodes name; False when no node is left to be walked."""
    rows = Chunk.objects.filter(tenant=home, to_walk=True).order_by("id")
    page = list(rows.values_list("pk", "digest", "pack")[:WALK_STEP])
    nodes = {bytes(digest): pk for pk, digest, _ in page}
    if not nodes:
        return False
    try:
        loaded = load_nodes(dict.fromkeys(nodes, home))
    except (ChunkNotFound, BadChunk, BadIndex) as error:
        whose = "public chunk" if home is None else "of this tenant"
        raise DamagedNode(
            f"An index node is missing or broken, so nothing {whose} is collected. {WHAT_TO_DO} ({error})"
        ) from error
    named = {digest for node in loaded.values() for digest in node.node.refs}
    # Whoever gives a leaf a pack after this sees that the leaf was reached (`leaf_packs`).
    named.update(bytes(pack) for _, _, pack in page if pack)
    with transaction.atomic():
        lock_home(home)
        mine = collection_of(home).filter(run=found.run).exclude(phase=CollectionPhase.IDLE)
        if not mine.exists():
            return True
        if isinstance(found, Collection) and found.unwritten_up_to is not None:
            _write_down_public(found.tenant_id, named)
        # Nothing that a living node names is condemned. Should it be, then that was wrong.
        revive(home, named, ChunkState.LIVE)
        reach(home, found.run, named)
        Chunk.objects.filter(pk__in=nodes.values()).update(to_walk=False)
        mine.update(heartbeat_at=timezone.now())
    return True


def _write_down_public(tenant_id: UUID, named: set[bytes]) -> None:
    """The tenant adopts what it names of the public: for nodes of commits that did not."""
    lock_public(shared=True)
    for batch in batches(named):
        own = Chunk.objects.filter(tenant=tenant_id, digest__in=batch).values_list("digest", flat=True)
        lacking = set(batch) - {bytes(digest) for digest in own}
        public = Chunk.objects.filter(tenant=None, digest__in=lacking).exclude(state=ChunkState.DELETED)
        rows = [adopted_from_public(tenant_id, row) for row in public]
        Chunk.objects.bulk_create(rows, ignore_conflicts=True)


def adopted_from_public(tenant_id: UUID, row: Chunk) -> Chunk:
    return Chunk(
        tenant_id=tenant_id,
        digest=row.digest,
        raw_size=row.raw_size,
        stored_size=row.stored_size,
        node_level=row.node_level,
    )


def _condemn(home: HomeId, run: int, now: datetime) -> Condemned | None:
    """Condemns some rows that the run has not reached, nodes before what they name; None when that was all.

    From the top down, so that at no time a living node names a condemned chunk: a commit that names the node
    need not look below it.
    """
    with transaction.atomic():
        lock_home(home)
        found = collection_of(home).get()
        if found.run != run or found.phase in {CollectionPhase.IDLE, CollectionPhase.ROOTS}:
            return Condemned()
        # A commit has named something since; it holds the same lock, so that nothing can be named after this.
        if Chunk.objects.filter(tenant=home, to_walk=True).exists():
            return Condemned()
        number, _, after = found.cursor.partition(":")
        level = int(number) if number else MAX_LEVEL
        at = Q(node_level=level) if level >= 0 else Q(node_level=None)
        page = Chunk.objects.filter(at, tenant=home, id__gt=int(after or 0)).order_by("id")
        seen = list(page.values_list("pk", flat=True)[:CONDEMN_STEP])
        rows = Chunk.objects.filter(state=ChunkState.LIVE, pk__in=seen).exclude(reached=run)
        if isinstance(found, PublicCollection):
            # What tenants name is looked for only here, where no version leads: what is below is walked next.
            borrowed = borrowed_public([bytes(digest) for digest in rows.values_list("digest", flat=True)])
            reach(None, run, borrowed)
            found.has_borrowed = found.has_borrowed or bool(borrowed)
        size = own_bytes(rows, home)
        count = rows.update(state=ChunkState.CONDEMNED, state_at=now)
        charge(home, used=-size, condemned=size)
        found.phase, found.heartbeat_at = CollectionPhase.CONDEMN, timezone.now()
        found.cursor = f"{level}:{seen[-1]}" if len(seen) == CONDEMN_STEP else f"{level - 1}:"
        is_over = found.cursor == "-2:"
        if is_over:
            found.phase, found.cursor, found.finished_at = CollectionPhase.IDLE, "", now
            found.heartbeat_at = None
            if isinstance(found, Collection) and found.unwritten_up_to is not None:
                found.unwritten_up_to = None
                drop_public_references(now)  # what was kept because the tenant might name it
        # Not `garbage_since`: public garbage is noted without this lock.
        mark = "unwritten_up_to" if isinstance(found, Collection) else "has_borrowed"
        found.save(update_fields=["phase", "cursor", "heartbeat_at", "finished_at", mark])
    return Condemned(count, size) if not is_over or count else None
