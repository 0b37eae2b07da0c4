"""Finding what nothing leads to: one run over one tenant's rows, in short steps that each leave a good state.

A run goes through the phases roots, walk and condemn. Its progress is in the tenant's `Collection` row and in
the rows' marks, so whoever comes next goes on where the last one stopped. Each step is one transaction under
the tenant's lock, bounded by a number of rows; nothing is held in between, and two collectors at once do each
other no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from storage.errors import BadChunk, BadIndex, ChunkNotFound
from storage.gc import roots
from storage.gc.barrier import reach
from storage.index import MAX_LEVEL
from storage.models import Chunk, ChunkState, Collection, CollectionPhase
from storage.nodes import load_nodes
from storage.states import batches, charge, lock_tenants, own_bytes, pin_time, revive

ROOTS_STEP = 500
WALK_STEP = 64
CONDEMN_STEP = 500


class DamagedNode(Exception):
    """A node cannot be read, so what it names is not known, and nothing of the tenant may be condemned."""


@dataclass(frozen=True)
class Condemned:
    """What a run condemned: rows, and the bytes that its tenant had been charged for them."""

    chunks: int = 0
    stored_bytes: int = 0

    def __add__(self, other: Condemned) -> Condemned:
        return Condemned(self.chunks + other.chunks, self.stored_bytes + other.stored_bytes)


def collect_tenant(tenant_id: UUID, *, now: datetime) -> Condemned:
    """Condemns what nothing leads to, from the start or from where a run before stopped.

    Raises `StoreUnavailable`; the run goes on another time. A damaged node ends it for now with
    `Collection.error`, and nothing more is condemned until it is mended.
    """
    run = _begin(tenant_id, now)
    condemned = Condemned()
    try:
        while True:
            step = _step(tenant_id, run, now)
            if step is None:
                return condemned
            condemned += step
    except DamagedNode as damaged:
        Collection.objects.filter(tenant=tenant_id).update(error=str(damaged), heartbeat_at=None)
        return condemned


def _begin(tenant_id: UUID, now: datetime) -> int:
    """The number of the run to go on with, or of a new one."""
    with transaction.atomic():
        lock_tenants(tenant_id)
        found, _ = Collection.objects.get_or_create(tenant_id=tenant_id)
        if found.phase == CollectionPhase.IDLE:
            found.run += 1
            found.phase, found.cursor, found.started_at = CollectionPhase.ROOTS, "", now
            # What becomes garbage from now on is noted anew.
            found.garbage_since = None
        found.heartbeat_at, found.error = timezone.now(), ""
        found.save()
    return found.run


def _step(tenant_id: UUID, run: int, now: datetime) -> Condemned | None:
    """One step of the run; None when it is over."""
    found = Collection.objects.get(tenant=tenant_id)
    if found.run != run or found.phase == CollectionPhase.IDLE:
        return None  # another collector has finished it
    if found.phase == CollectionPhase.ROOTS:
        _reach_roots(found)
    elif not _walk(tenant_id, run):
        return _condemn(tenant_id, run, now)
    return Condemned()


def _reach_roots(found: Collection) -> None:
    """Marks a page of the roots. The cursor is `<number of the source>:<cursor of the source>`."""
    number, _, after = found.cursor.partition(":")
    at = int(number or 0)
    if at < len(roots.sources):
        page = roots.sources[at].roots_in(found.tenant_id, after, ROOTS_STEP)
    elif at == len(roots.sources):
        page = _borrowed(found.tenant_id, after)
    else:
        _enter(found, CollectionPhase.WALK)
        return
    with transaction.atomic():
        lock_tenants(found.tenant_id)
        reach(found.tenant_id, found.run, {digest for _, digest in page})
        following = f"{at}:{page[-1][0]}" if page else f"{at + 1}:"
        Collection.objects.filter(tenant=found.tenant_id, run=found.run, phase=found.phase).update(
            cursor=following, heartbeat_at=timezone.now()
        )


def _borrowed(home: UUID, after: str) -> list[tuple[str, bytes]]:
    """Rows of other tenants that were adopted from this one: each is a reference, whatever its state."""
    rows = Chunk.objects.filter(home=home, digest__gt=bytes.fromhex(after)).exclude(tenant=home)
    page = rows.order_by("digest").values_list("digest", flat=True).distinct()[:ROOTS_STEP]
    return [(bytes(digest).hex(), bytes(digest)) for digest in page]


def _enter(found: Collection, phase: CollectionPhase) -> None:
    Collection.objects.filter(tenant=found.tenant_id, run=found.run, phase=found.phase).update(
        phase=phase, cursor="", heartbeat_at=timezone.now()
    )


def _walk(tenant_id: UUID, run: int) -> bool:
    """Marks what some nodes name; False when no node is left to be walked."""
    rows = Chunk.objects.filter(tenant=tenant_id, to_walk=True).order_by("id")
    nodes = {bytes(digest): pk for pk, digest in rows.values_list("pk", "digest")[:WALK_STEP]}
    if not nodes:
        return False
    try:
        loaded = load_nodes(dict.fromkeys(nodes, tenant_id))
    except (ChunkNotFound, BadChunk, BadIndex) as error:
        raise DamagedNode(
            "An index node is missing or broken, so nothing of this tenant is collected. Run "
            f"`manage.py verifystorage --repair`. ({error})"
        ) from error
    named = {digest for found in loaded.values() for digest in found.node.refs}
    with transaction.atomic():
        lock_tenants(tenant_id)
        if (
            not Collection.objects.filter(tenant=tenant_id, run=run)
            .exclude(phase=CollectionPhase.IDLE)
            .exists()
        ):
            return True
        # Nothing that a living node names is condemned. Should it be, then that was wrong.
        revive(tenant_id, named, ChunkState.LIVE)
        reach(tenant_id, run, named)
        Chunk.objects.filter(pk__in=nodes.values()).update(to_walk=False)
        Collection.objects.filter(tenant=tenant_id, run=run).update(heartbeat_at=timezone.now())
    return True


def _condemn(tenant_id: UUID, run: int, now: datetime) -> Condemned | None:
    """Condemns some rows that the run has not reached, nodes before what they name; None when that was all.

    From the top down, so that at no time a living node names a condemned chunk: a commit that names the node
    need not look below it.
    """
    with transaction.atomic():
        lock_tenants(tenant_id)
        found = Collection.objects.get(tenant=tenant_id)
        if found.run != run or found.phase in {CollectionPhase.IDLE, CollectionPhase.ROOTS}:
            return Condemned()
        # A commit has named something since; it holds the same lock, so that nothing can be named after this.
        if Chunk.objects.filter(tenant=tenant_id, to_walk=True).exists():
            return Condemned()
        number, _, after = found.cursor.partition(":")
        level = int(number) if number else MAX_LEVEL
        at = Q(node_level=level) if level >= 0 else Q(node_level=None)
        page = Chunk.objects.filter(at, tenant=tenant_id, id__gt=int(after or 0)).order_by("id")
        seen = list(page.values_list("pk", flat=True)[:CONDEMN_STEP])
        waiting = Q(state=ChunkState.PENDING, state_at__lt=now - pin_time())
        rows = Chunk.objects.filter(Q(state=ChunkState.LIVE) | waiting, pk__in=seen).exclude(reached=run)
        size = own_bytes(rows, tenant_id)
        count = rows.update(state=ChunkState.CONDEMNED, state_at=now)
        charge(tenant_id, used=-size, condemned=size)
        found.phase, found.heartbeat_at = CollectionPhase.CONDEMN, timezone.now()
        found.cursor = f"{level}:{seen[-1]}" if len(seen) == CONDEMN_STEP else f"{level - 1}:"
        is_over = found.cursor == "-2:"
        if is_over:
            found.phase, found.cursor, found.finished_at = CollectionPhase.IDLE, "", now
            found.heartbeat_at = None
        found.save()
    return Condemned(count, size) if not is_over or count else None


@dataclass(frozen=True)
class WouldFree:
    """For a dry run: the rows that a run would condemn, as digests, and their bytes."""

    digests: list[bytes]
    stored_bytes: int


def would_condemn(tenant_id: UUID, *, now: datetime) -> WouldFree:
    """What `collect_tenant` would condemn now, after a purge; changes nothing.

    Unlike the run it keeps what it has reached in memory: about 100 bytes for each row of the tenant.
    """
    reached: set[bytes] = set()
    ahead: set[bytes] = set()
    for number in range(len(roots.sources) + 1):
        after = ""
        gone = (
            roots.sources[number].purgeable_roots_in(tenant_id, now) if number < len(roots.sources) else set()
        )
        while True:
            if number < len(roots.sources):
                page = roots.sources[number].roots_in(tenant_id, after, ROOTS_STEP)
            else:
                page = _borrowed(tenant_id, after)
            if not page:
                break
            after = page[-1][0]
            ahead |= {digest for _, digest in page} - gone
    while ahead:
        below: set[bytes] = set()
        for batch in batches(ahead - reached, 200):
            nodes = Chunk.objects.filter(
                tenant=tenant_id, home=tenant_id, digest__in=batch, node_level__isnull=False
            )
            homes = {bytes(digest): tenant_id for digest in nodes.values_list("digest", flat=True)}
            for loaded in load_nodes(homes).values():
                below.update(loaded.node.refs)
            reached.update(batch)
        ahead = below - reached
    waiting = Q(state=ChunkState.PENDING, state_at__lt=now - pin_time())
    rows = Chunk.objects.filter(Q(state=ChunkState.LIVE) | waiting, tenant=tenant_id)
    free: list[bytes] = []
    size = 0
    for digest, stored_size, is_own in (
        rows.annotate(is_own=Q(home=F("tenant"))).values_list("digest", "stored_size", "is_own").iterator()
    ):
        if bytes(digest) not in reached:
            free.append(bytes(digest))
            size += stored_size if is_own else 0
    return WouldFree(free, size)
