"""Accepting a new disk or memory of a tenant: what its index may name, in time proportional to what is new.

The tree is compared with the parent snapshot's from the root down, a level at a time with a few queries each.
Where both name the same node at the same place nothing below is looked at; nodes that an earlier commit of
the tenant accepted (`Chunk.node_level`) are not looked at again either. What remains is new: it is read,
checked against the format, and everything it names must be the tenant's, public, or named by the parent at
the same place (then it is adopted).

Of the public, a new node may go on naming what the public node at its place names: it is based on that one,
which stays for as long as the new node's row does. Anything else of the public is adopted, too. So the public
never loses what a tenant names, without a row for each chunk of an image that a tenant's machines share.

Everything that is named becomes live: what was pending, and what the garbage collector had condemned. Nothing
below a condemned node may be relied on, so such a node is looked below like a new one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db.models import BinaryField, Case, Value, When

from storage.chunks import HomeId, Place, Rows, find_rows
from storage.codec import BLOCK, CHUNK_BYTES
from storage.errors import BadChunk, BadIndex, ChunkBusy, ChunkNotFound, MissingChunks
from storage.gc.barrier import running_collection, shade
from storage.index import FANOUT, Interior, Leaf, node_span, root_level
from storage.models import Chunk, ChunkState
from storage.nodes import LoadedNode, load_nodes
from storage.states import batches, lock_public, lock_tenants, revive
from webvm.accounts.models import Tenant

_ROOT = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class _Item:
    """A node of the new tree, and what the parent's tree has at the same place."""

    digest: bytes
    position: int
    parent: bytes | None
    # Where the parent's node above was found: in whose rows `parent` is looked up.
    parent_home: HomeId
    # Whether what the new node above is based on names it, too.
    is_kept: bool = False


@dataclass
class _Findings:
    missing: set[bytes] = field(default_factory=set)
    adopted: dict[bytes, Chunk] = field(default_factory=dict)
    accepted: dict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    # New nodes and the public nodes that they are based on.
    bases: dict[bytes, bytes] = field(default_factory=dict)
    # Rows of the tenant that the new tree names and that are not live yet, by their state.
    waiting: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))

    def name(self, digest: bytes, own: Place | None) -> None:
        if own and own.state != ChunkState.LIVE:
            self.waiting[own.state].add(digest)


def accept_device(tenant: Tenant, *, root: str, blocks: int, parent_root: str, parent_home: HomeId) -> None:
    """Verifies a device that `tenant` commits and adopts what its parent lets it name.

    Call it inside a transaction. `parent_root` (found in `parent_home`) is the same device in the parent
    snapshot. Afterwards the device's home is the tenant, or unchanged when `root == parent_root`. Raises
    `MissingChunks` with everything that has to be uploaded first, `BadIndex`.
    """
    if root in {"", parent_root}:
        return
    if not _ROOT.fullmatch(root):
        raise BadIndex("A root is not a digest.")
    # One writer of the tenant's rows at a time: an upload must not slip in between looking and adopting.
    # And no collector: it moves rows under the same lock.
    lock_tenants(tenant.pk)
    # Nor one of the public's: what is live there when it is looked at stays so until we are done.
    lock_public(shared=True)
    findings = _Findings()
    items = [_Item(bytes.fromhex(root), 0, bytes.fromhex(parent_root) or None, parent_home)]
    for level in range(root_level(blocks), -1, -1):
        items = _check_level(tenant, level, blocks, items, findings)
    if findings.missing:
        raise MissingChunks(findings.missing)
    _adopt_all(tenant, findings)
    revive(tenant.pk, findings.waiting[ChunkState.CONDEMNED], ChunkState.LIVE)
    for batch in batches(findings.waiting[ChunkState.PENDING]):
        pending = Chunk.objects.filter(tenant=tenant, digest__in=batch, state=ChunkState.PENDING)
        pending.update(state=ChunkState.LIVE, state_at=None)
    run = running_collection(tenant.pk)
    # A collector that is walking this moment must see what is new, and what was garbage until now.
    marks = {} if run is None else {"reached": run, "to_walk": True}
    for level, digests in findings.accepted.items():
        for batch in batches(digests):
            Chunk.objects.filter(tenant=tenant, digest__in=batch).update(node_level=level, **marks)
    _write_bases(tenant, findings.bases)
    if run is not None:
        shade(tenant.pk, [bytes.fromhex(root)])


def _write_bases(tenant: Tenant, bases: dict[bytes, bytes]) -> None:
    for batch in batches(bases, 200):
        base = [When(digest=digest, then=Value(bases[digest])) for digest in batch]
        Chunk.objects.filter(tenant=tenant, digest__in=batch).update(
            based_on=Case(*base, output_field=BinaryField())
        )


def _adopt_all(tenant: Tenant, findings: _Findings) -> None:
    for batch in batches(findings.adopted, 500):
        if Chunk.objects.filter(tenant=tenant, digest__in=batch, state=ChunkState.DELETED).exists():
            raise ChunkBusy
        Chunk.objects.bulk_create([findings.adopted[digest] for digest in batch], ignore_conflicts=True)


def _check_level(
    tenant: Tenant, level: int, blocks: int, items: list[_Item], findings: _Findings
) -> list[_Item]:
    """Checks the new tree's nodes of one level; returns those of the next level that have to be checked."""
    rows = find_rows(tenant.pk, {item.digest for item in items})
    parents = _find_parents(items)
    new: list[_Item] = []
    for item in items:
        own, place = rows.own.get(item.digest), parents.get(item)
        known = rows.get_node(item.digest, level)
        if known and known.is_damaged and item.digest != item.parent:
            findings.missing.add(item.digest)
        elif known and _may_rely_on(own, known, tenant):
            if own is None and not item.is_kept:
                findings.adopted[item.digest] = _adopt(tenant, item.digest, known, level)
            findings.name(item.digest, own)
        elif own is None and item.digest == item.parent and place:
            findings.adopted[item.digest] = _adopt(tenant, item.digest, place, level)
        elif own is None and item.digest not in rows.public:
            findings.missing.add(item.digest)
        elif own is None or own.home != tenant.pk or own.node_level not in {None, level}:
            raise BadIndex("The index names as a node what is none, or one of another level.")
        else:
            findings.name(item.digest, own)
            new.append(item)
    loaded = load_nodes({item.digest: tenant.pk for item in new})
    # The parent's nodes that we go down along.
    beside = {item: parents[item] for item in new if item in parents}
    loaded_beside = load_nodes({item.parent: place.home for item, place in beside.items() if item.parent})
    pairs: list[_Pair] = []
    for item in new:
        there = beside.get(item)
        old = None
        if there and item.parent:
            old = _Beside(there.home, loaded_beside[item.parent], _base_of(item.parent, there))
        pairs.append((item, loaded[item.digest], old))
    for item, node, old in pairs:
        if node.node.level != level:
            raise BadIndex("The index has a node of the wrong level.")
        _check_bounds(node, item.position, blocks)
        findings.accepted[level].add(item.digest)
        if old and old.base:
            findings.bases[item.digest] = old.base
    if level == 0:
        _check_leaves(tenant, pairs, findings)
        return []
    return list(dict.fromkeys(child for pair in pairs for child in _children(tenant, *pair)))


def _may_rely_on(own: Place | None, known: Place, tenant: Tenant) -> bool:
    """Whether nothing below a known node has to be looked at. A row of the tenant's own goes before the
    public's: it is what the collector will find."""
    if own is None or own.home != tenant.pk:
        return True
    return known is own and own.state == ChunkState.LIVE


@dataclass(frozen=True)
class _Beside:
    """The parent's node at the same place, the home where it was found, and the public node that a new one at
    this place is based on.
    """

    home: HomeId
    loaded: LoadedNode
    base: bytes | None

    def kept(self, tenant: Tenant) -> frozenset[bytes]:
        """What the base names; where the tenant's own node was made from it too, perhaps more, but nothing
        public that the tenant has no row for."""
        if self.base is None:
            return frozenset()
        if self.home is None or self.home == tenant.pk:
            return frozenset(self.loaded.node.refs)
        try:
            return frozenset(load_nodes({self.base: None})[self.base].node.refs)
        except (ChunkNotFound, BadChunk, BadIndex):
            return frozenset()  # all is adopted


def _base_of(digest: bytes, place: Place) -> bytes | None:
    return digest if place.home is None else place.based_on


_Pair = tuple[_Item, LoadedNode, _Beside | None]


def _find_parents(items: list[_Item]) -> dict[_Item, Place]:
    """Where the parent's node at each item's place is, for those that have one."""
    by_home: dict[HomeId, list[_Item]] = defaultdict(list)
    for item in items:
        if item.parent:
            by_home[item.parent_home].append(item)
    found: dict[_Item, Place] = {}
    for home, group in by_home.items():
        rows = find_rows(home, {item.parent for item in group if item.parent})
        for item in group:
            place = rows.get(item.parent) if item.parent else None
            if place:
                found[item] = place
    return found


def _children(tenant: Tenant, item: _Item, loaded: LoadedNode, beside: _Beside | None) -> Iterable[_Item]:
    node = loaded.node
    kept = beside.kept(tenant) if beside else frozenset()
    assert isinstance(node, Interior)  # noqa: S101 - the level was checked
    old = beside.loaded.node if beside else None
    old_children = {e.slot: old.refs[e.ref] for e in old.entries} if isinstance(old, Interior) else {}
    for entry in node.entries:
        yield _Item(
            node.refs[entry.ref],
            item.position * FANOUT + entry.slot,
            old_children.get(entry.slot),
            beside.home if beside else None,
            node.refs[entry.ref] in kept,
        )


def _check_bounds(loaded: LoadedNode, position: int, blocks: int) -> None:
    node, first = loaded.node, position * node_span(loaded.node.level)
    if isinstance(node, Leaf):
        end = first + node.entries[-1].first + node.entries[-1].count
    else:
        end = first + node.entries[-1].slot * node_span(node.level - 1) + 1
    if end > blocks:
        raise BadIndex("The index has blocks behind the device's end.")


def _check_leaves(tenant: Tenant, pairs: list[_Pair], findings: _Findings) -> None:
    """Every data chunk that the new leaves name is the tenant's, public, or adopted, and long enough."""
    rows = find_rows(tenant.pk, {digest for _, loaded, _ in pairs for digest in loaded.node.refs})
    offered = _offered_by_parent(pairs, rows)
    for _, loaded, beside in pairs:
        assert isinstance(loaded.node, Leaf)  # noqa: S101 - the level was checked
        kept = beside.kept(tenant) if beside else frozenset()
        for digest, needed in zip(loaded.node.refs, loaded.node.blocks_of_refs(), strict=True):
            place = rows.get(digest)
            by_parent = beside is not None and digest in beside.loaded.node.refs
            if place is None and beside and by_parent:
                place = offered.get((beside.home, digest))
                if place:
                    findings.adopted[digest] = _adopt(tenant, digest, place, None)
            # What is damaged and not new may stay damaged: the client need not have its bytes.
            if place is None or (place.is_damaged and not by_parent):
                findings.missing.add(digest)
            elif place.raw_size < needed * BLOCK or place.raw_size % BLOCK or place.raw_size > CHUNK_BYTES:
                raise BadIndex("A leaf names blocks outside the chunk, or a pack.")
            else:
                findings.name(digest, rows.own.get(digest))
                if digest not in rows.own and digest not in kept and digest not in findings.adopted:
                    findings.adopted[digest] = _adopt(tenant, digest, place, place.node_level)


def _offered_by_parent(pairs: list[_Pair], rows: Rows) -> dict[tuple[HomeId, bytes], Place]:
    """The chunks that the parent's leaves name and the tenant's rows lack, by the leaf's home and digest."""
    wanted: dict[HomeId, set[bytes]] = defaultdict(set)
    for _, loaded, beside in pairs:
        if beside:
            lacking = {digest for digest in loaded.node.refs if rows.get(digest) is None}
            wanted[beside.home] |= lacking.intersection(beside.loaded.node.refs)
    offered: dict[tuple[HomeId, bytes], Place] = {}
    for home, digests in wanted.items():
        found = find_rows(home, digests)
        offered.update({(home, digest): place for digest in digests if (place := found.get(digest))})
    return offered


def _adopt(tenant: Tenant, digest: bytes, place: Place, level: int | None) -> Chunk:
    return Chunk(
        tenant=tenant,
        digest=digest,
        home_id=place.home,
        raw_size=place.raw_size,
        stored_size=place.stored_size,
        node_level=level,
    )
