"""Who suffers from damaged chunks: found upwards from them, a level of the trees at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from uuid import UUID

from django.db.models import F, Q

from storage.chunks import HomeId, find_rows
from storage.errors import BadChunk, BadIndex, ChunkNotFound
from storage.gc import roots
from storage.gc.roots import Root
from storage.gc.verify import Damage
from storage.gc.versions import kept_versions
from storage.index import MAX_LEVEL, root_level
from storage.models import Chunk, ChunkState
from storage.nodes import load_nodes

PAGE = 200

# What leads to which damages, by the key space and digest of an object.
_Bad = dict[tuple[HomeId, bytes], set[Damage]]


def find_affected(damages: Iterable[Damage]) -> dict[Damage, list[Root]]:
    """The living devices that lead to each damage. Reads the nodes of every tenant that may name one."""
    bad: _Bad = defaultdict(set)
    damages = list(damages)
    for damage in damages:
        if damage.is_pack:
            continue  # what a pack has is there singly, too
        bad[damage.home, damage.digest].add(damage)
    suspects = {digest for _, digest in bad}
    for level in range(MAX_LEVEL + 1):
        for home, digest, named in _nodes(level, _tenants(bad)):
            below = suspects.intersection(named)
            if below and (led := _damages_of(home, below, level - 1, bad)):
                bad[home, digest] |= led
                suspects.add(digest)
    affected: dict[Damage, list[Root]] = {damage: [] for damage in damages}
    for root in _devices():
        digest = bytes.fromhex(root.root)
        if digest in suspects:
            for damage in _damages_of(root.home, {digest}, root_level(root.blocks), bad):
                affected[damage].append(root)
    return affected


def _tenants(bad: _Bad) -> set[UUID] | None:
    """Whose nodes may name what is bad; None: everybody's, because a public chunk is."""
    if any(home is None for home, _ in bad):
        return None
    tenants = {home for home, _ in bad if home is not None}
    for home, digest in bad:
        rows = Chunk.objects.filter(home=home, digest=digest)
        tenants.update(tenant for tenant in rows.values_list("tenant_id", flat=True) if tenant)
    return tenants


def _nodes(level: int, tenants: set[UUID] | None) -> Iterator[tuple[HomeId, bytes, tuple[bytes, ...]]]:
    """The living nodes of a level that can be read, by home and digest, with what they name."""
    rows = Chunk.objects.filter(Q(home=F("tenant")) | Q(tenant=None), state=ChunkState.LIVE, node_level=level)
    if tenants is not None:
        rows = rows.filter(tenant__in=tenants)
    after = 0
    while True:
        page = list(rows.filter(pk__gt=after).order_by("pk").values_list("pk", "home_id", "digest")[:PAGE])
        if not page:
            return
        after = page[-1][0]
        for _, home, digest in page:
            try:
                loaded = load_nodes({bytes(digest): home})
            except (ChunkNotFound, BadChunk, BadIndex):
                continue  # among the damages itself
            yield home, bytes(digest), loaded[bytes(digest)].node.refs


def _damages_of(named_in: HomeId, digests: Iterable[bytes], level: int, bad: _Bad) -> set[Damage]:
    """What is bad at or below these digests, as whoever stands in `named_in` finds them."""
    rows = find_rows(named_in, digests)
    found: set[Damage] = set()
    for digest in digests:
        place = rows.get(digest) if level < 0 else rows.get_node(digest, level)
        found |= bad.get((place.home if place else named_in, digest), set())
        found |= {damage for damage in bad.get((named_in, digest), set()) if place is None}
    return found


def _devices() -> Iterator[Root]:
    for version in kept_versions().select_related("image"):
        for device, root, blocks in (
            ("disk", version.disk_root, version.disk_blocks),
            ("memory", version.memory_root, version.memory_blocks),
        ):
            if root:
                yield Root(None, root, blocks, "public", f"image {version}", "", device)
    for source in roots.sources:
        yield from source.all_roots()
