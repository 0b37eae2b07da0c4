"""Whether everything that living snapshots and images reach is there and is what its digest says.

The check is local, so it needs no walk and little memory: every object of a row is read and verified; every
node's row must find the rows of all that it names, alive; every root must find its own. Together that is the
whole tree of every snapshot.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from django.db.models import F, Max, Min, Q, QuerySet

from storage.chunks import HomeId, find_rows, store_key
from storage.codec import BLOCK, CHUNK_BYTES, decode_verified
from storage.errors import BadChunk, BadIndex, ChunkNotFound
from storage.gc import roots
from storage.gc.versions import digests_of, kept_versions
from storage.index import Interior, Leaf, decode_node, root_level
from storage.models import Chunk, ChunkState
from storage.stores import get_store

PAGE = 100
_AT_ONCE = 8

MISSING = "its object is missing"
BROKEN = "its object is broken"
NO_ROW = "something alive names it, but it has no row"
CONDEMNED = "something alive names it, but it is condemned"
TOO_SHORT = "something alive names more blocks than it has"

# In place of a node's level: a data chunk, the pack of a leaf.
_DATA, _PACK = -1, -2


@dataclass(frozen=True)
class Damage:
    """One chunk in the key space of `home` (None: the public's). `level`: which node it should be, if one."""

    home: HomeId
    digest: bytes
    what: str
    level: int | None = None
    # The pack of a leaf: nobody reads anything else for the want of it.
    is_pack: bool = False


@dataclass
class Checked:
    objects: int = 0
    stored_bytes: int = 0
    roots: int = 0
    damages: list[Damage] = field(default_factory=list)


def verify_all(say: Callable[[int], None] = lambda _: None) -> Checked:
    """Every object, row and root. `say` hears how many objects are done. Raises `StoreUnavailable`."""
    checked = Checked()
    after = 0
    while True:
        page = list(_objects().filter(pk__gt=after).order_by("pk")[:PAGE])
        if not page:
            break
        after = page[-1].pk
        _check_rows(page, checked)
        say(checked.objects)
    after = 0
    while True:
        adopted = Chunk.objects.exclude(home=F("tenant")).filter(tenant__isnull=False, pk__gt=after)
        page = list(adopted.order_by("pk")[: 10 * PAGE])
        if not page:
            break
        after = page[-1].pk
        _check_adopted(page, checked)
    _check_roots(checked)
    checked.damages = list(dict.fromkeys(checked.damages))
    return checked


def verify_sample(count: int, seed: int | None = None) -> Checked:
    """About `count` objects taken by chance, whatever the size of the storage. Raises `StoreUnavailable`."""
    checked = Checked()
    ends = _objects().aggregate(first=Min("pk"), last=Max("pk"))
    if ends["first"] is None:
        return checked
    chance = random.Random(seed)  # noqa: S311 - no secret
    wanted = {chance.randint(ends["first"], ends["last"]) for _ in range(count)}
    page: dict[int, Chunk] = {}
    for number in sorted(wanted):
        row = _objects().filter(pk__gte=number).order_by("pk").first()
        if row is not None:
            page[row.pk] = row
        if len(page) == PAGE:
            _check_rows(list(page.values()), checked)
            page.clear()
    _check_rows(list(page.values()), checked)
    checked.damages = list(dict.fromkeys(checked.damages))
    return checked


def read_object(home: HomeId, digest: bytes, raw_size: int) -> bytes:
    """The verified raw bytes, straight from the store. Raises `ChunkNotFound`, `BadChunk`,
    `StoreUnavailable`."""
    return decode_verified(get_store().get(store_key(home, digest)), digest, max(raw_size, 1))


def _objects() -> QuerySet[Chunk]:
    """The rows that have an object of their own."""
    return Chunk.objects.filter(Q(home=F("tenant")) | Q(tenant=None)).exclude(state=ChunkState.DELETED)


def _check_rows(page: list[Chunk], checked: Checked) -> None:
    for row in page:
        store_key(row.home_id, bytes(row.digest))  # the tenants' keys, before the threads need them
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="verify") as pool:
        outcomes = list(pool.map(_read_row, page))
    damaged: list[Damage] = []
    named: dict[HomeId, list[tuple[int, bytes, int]]] = defaultdict(list)
    for row, outcome in zip(page, outcomes, strict=True):
        checked.objects += 1
        checked.stored_bytes += row.stored_size
        if isinstance(outcome, str):
            if _is_there_still(row):
                is_pack = row.home_id is not None and row.raw_size > CHUNK_BYTES
                damaged.append(Damage(row.home_id, bytes(row.digest), outcome, row.node_level, is_pack))
        elif row.node_level is not None and row.state == ChunkState.LIVE:
            try:
                named[row.home_id].extend(_named_by(outcome, row.node_level))
            except BadIndex:
                damaged.append(Damage(row.home_id, bytes(row.digest), BROKEN, row.node_level))
            if row.pack:
                named[row.home_id].append((_PACK, bytes(row.pack), 0))
    found = [damage for home, refs in named.items() for damage in _check_named(home, refs)]
    if found:
        damaged.extend(_still_damaged(page, outcomes, found))
    _flag(page, damaged)
    checked.damages.extend(damaged)


def _still_damaged(page: list[Chunk], outcomes: list[bytes | str], damages: list[Damage]) -> Iterator[Damage]:
    """Those that a node names which is alive still; one that was purged since may name what is condemned."""
    pks = [row.pk for row in page]
    rows = Chunk.objects.filter(pk__in=pks, state=ChunkState.LIVE)
    living = dict(rows.values_list("pk", "pack"))
    named = {bytes(pack) for pack in living.values() if pack}
    for row, outcome in zip(page, outcomes, strict=True):
        if row.pk in living and row.node_level is not None and isinstance(outcome, bytes):
            named.update(decode_node(outcome).refs)
    yield from (damage for damage in damages if damage.digest in named)


def _read_row(row: Chunk) -> bytes | str:
    """A node's raw bytes, nothing of anything else, or what is wrong."""
    try:
        raw = read_object(row.home_id, bytes(row.digest), row.raw_size)
    except ChunkNotFound:
        return MISSING
    except BadChunk:
        return BROKEN
    return raw if row.node_level is not None else b""


def _is_there_still(row: Chunk) -> bool:
    """Not collected since it was listed."""
    return Chunk.objects.filter(pk=row.pk).exclude(state=ChunkState.DELETED).exists()


def _named_by(raw: bytes, level: int) -> Iterator[tuple[int, bytes, int]]:
    """`(level, digest, blocks)` of what a node names; of a data chunk how many blocks it has at least."""
    node = decode_node(raw)
    if node.level != level:
        raise BadIndex
    if isinstance(node, Leaf):
        for digest, blocks in zip(node.refs, node.blocks_of_refs(), strict=True):
            yield _DATA, digest, blocks
    elif isinstance(node, Interior):
        for digest in node.refs:
            yield level - 1, digest, 0


def _check_named(home: HomeId, refs: list[tuple[int, bytes, int]]) -> Iterator[Damage]:
    rows = find_rows(home, {digest for _, digest, _ in refs})
    for level, digest, blocks in dict.fromkeys(refs):
        place = rows.get(digest) if level < 0 else rows.get_node(digest, level)
        expected = level if level >= 0 else None
        if place is None:
            yield Damage(home, digest, NO_ROW, expected, level == _PACK)
        elif place.state == ChunkState.CONDEMNED:
            yield Damage(home, digest, CONDEMNED, expected, level == _PACK)
        elif level == _DATA and place.raw_size < blocks * BLOCK:
            yield Damage(place.home, digest, TOO_SHORT)


def _check_adopted(page: list[Chunk], checked: Checked) -> None:
    by_home: dict[HomeId, list[Chunk]] = defaultdict(list)
    for row in page:
        by_home[row.home_id].append(row)
    for home, rows in by_home.items():
        there = find_rows(home, [bytes(row.digest) for row in rows])
        of_home = there.public if home is None else there.own
        for row in rows:
            own = of_home.get(bytes(row.digest))
            if own is None or own.state == ChunkState.CONDEMNED:
                what = NO_ROW if own is None else CONDEMNED
                checked.damages.append(Damage(home, bytes(row.digest), what, row.node_level))


def _check_roots(checked: Checked) -> None:
    batch: list[tuple[HomeId, bytes, int]] = []
    for home, digest, level in _all_roots():
        checked.roots += 1
        batch.append((home, digest, level))
        if len(batch) == PAGE:
            checked.damages.extend(_damaged_roots(batch))
            batch.clear()
    checked.damages.extend(_damaged_roots(batch))


def _all_roots() -> Iterator[tuple[HomeId, bytes, int]]:
    """`(home, digest, level)`; what images name besides is data."""
    for version in kept_versions().iterator(chunk_size=PAGE):
        levels = {
            version.disk_root: root_level(version.disk_blocks),
            version.memory_root: root_level(version.memory_blocks),
        }
        for digest in digests_of(version):
            yield None, digest, levels.get(digest.hex(), _DATA)
    for source in roots.sources:
        for found in source.all_roots():
            yield found.home, bytes.fromhex(found.root), root_level(found.blocks)


def _damaged_roots(batch: Iterable[tuple[HomeId, bytes, int]]) -> Iterator[Damage]:
    by_home: dict[HomeId, list[tuple[int, bytes, int]]] = defaultdict(list)
    for home, digest, level in batch:
        by_home[home].append((level, digest, 0))
    for home, refs in by_home.items():
        yield from _check_named(home, refs)


def _flag(page: list[Chunk], damages: list[Damage]) -> None:
    """Damaged objects are marked, so that whoever has their bytes is asked for them; mended ones no more."""
    bad = {(damage.home, damage.digest) for damage in damages if damage.what in {MISSING, BROKEN}}
    for row in page:
        is_bad = (row.home_id, bytes(row.digest)) in bad
        if is_bad != row.is_damaged:
            Chunk.objects.filter(home=row.home_id, digest=row.digest).update(is_damaged=is_bad)
