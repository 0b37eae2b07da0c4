"""Reading a device's index from a granted root down: the nodes on the way to some leaves, and URLs of what
they name and of the packs of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from storage.chunks import HomeId, Rows, find_rows, store_key
from storage.delivery import URL_SECONDS, chunk_url
from storage.errors import BadIndex, ChunkNotFound
from storage.index import FANOUT, LEAF_BLOCKS, Interior, Leaf, root_level
from storage.leaf_packs import chunks_to_pack
from storage.models import ChunkState
from storage.nodes import LoadedNode, load_nodes
from storage.signing import NOBODY

# So many nodes are looked up and loaded at once when a whole tree is walked.
_NODES_AHEAD = 16


@dataclass
class Located:
    """`nodes`: raw index nodes by hex digest. `urls`: where to get each private chunk that the asked leaves
    name. `spaces`: the tenants below whose prefixes those are. `packs`: by number the leaves that have a
    pack of what is in `urls`, and its URL; `unpacked`: by home those that are worth one and have none.
    """

    nodes: dict[str, bytes] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    spaces: set[UUID] = field(default_factory=set)
    packs: dict[int, str] = field(default_factory=dict)
    unpacked: dict[UUID, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    expires_in: int = URL_SECONDS


# A node, and the numbers of the asked leaves that are it or below it.
_Found = tuple[LoadedNode, set[int]]


def locate(
    root: str,
    home: HomeId,
    blocks: int,
    leaves: Iterable[int],
    member: int = NOBODY,
    *,
    with_packs: bool = False,
) -> Located:
    """The path from `root` (found in `home`) to each of `leaves`; leaves of zeros have no node.

    `blocks` is the device's size, `member` the membership that gives the reader their right. Costs a few
    queries for each level, however many leaves. Raises `BadIndex` for a leaf outside the device,
    `ChunkNotFound` when the tree leads where the reader may not go.
    """
    wanted = set(leaves)
    located = Located()
    if any(not 0 <= leaf * LEAF_BLOCKS < max(blocks, 1) for leaf in wanted):
        raise BadIndex("The disk or memory has no such part.")
    if not root or not wanted:
        return located
    level = root_level(blocks)
    # Nodes to read at this level, by the home of the node that named them: {home: {digest: the leaves below
    # it}}.
    ahead: dict[HomeId, dict[bytes, set[int]]] = {home: {bytes.fromhex(root): wanted}}
    while True:
        found = _nodes_at(level, ahead)
        located.nodes.update((digest.hex(), loaded.raw) for (_, digest), (loaded, _) in found.items())
        if level == 0:
            _add_urls(located, found, member, with_packs)
            return located
        ahead = defaultdict(lambda: defaultdict(set))
        for (home, _), (loaded, below) in found.items():
            assert isinstance(loaded.node, Interior)  # noqa: S101 - _nodes_at checked the level
            for leaf in below:
                digest = loaded.node.child(leaf // FANOUT ** (level - 1) % FANOUT)
                if digest:
                    ahead[home].setdefault(digest, set()).add(leaf)
        level -= 1


def iter_leaves(
    root: str, home: HomeId, blocks: int, first: int = 0, end: int | None = None
) -> Iterator[tuple[int, HomeId, Leaf]]:
    """Every leaf of a device that is not all zeros, `(number, home where it was found, leaf)`, in order, with
    numbers from `first` up to but not `end`.

    Holds a few nodes of each level at a time. Raises `ChunkNotFound`, `BadChunk`, `StoreUnavailable`.
    """
    if root:
        level = root_level(blocks)
        past = -(-blocks // LEAF_BLOCKS) if end is None else end
        yield from _leaves_below(level, [(0, bytes.fromhex(root))], home, first, past)


def _leaves_below(
    level: int, wanted: list[tuple[int, bytes]], named_in: HomeId, first: int, end: int
) -> Iterator[tuple[int, HomeId, Leaf]]:
    """The leaves in or below these nodes of one level, which are given by position and digest."""
    for at in range(0, len(wanted), _NODES_AHEAD):
        some = wanted[at : at + _NODES_AHEAD]
        found = _nodes_at(level, {named_in: {digest: set() for _, digest in some}})
        by_digest = {digest: (home, loaded.node) for (home, digest), (loaded, _) in found.items()}
        for position, digest in some:
            home, node = by_digest[digest]
            if isinstance(node, Leaf):
                yield position, home, node
                continue
            span = FANOUT ** (level - 1)
            below = [(position * FANOUT + entry.slot, node.refs[entry.ref]) for entry in node.entries]
            inside = [pair for pair in below if pair[0] * span < end and (pair[0] + 1) * span > first]
            yield from _leaves_below(level - 1, inside, home, first, end)


def _nodes_at(level: int, ahead: dict[HomeId, dict[bytes, set[int]]]) -> dict[tuple[HomeId, bytes], _Found]:
    """The nodes by the home where they were found and their digest, each with the leaves asked below it."""
    homes: dict[tuple[HomeId, bytes], set[int]] = {}
    for named_in, digests in ahead.items():
        rows = find_rows(named_in, digests)
        for digest, below in digests.items():
            place = rows.get_node(digest, level)
            if place is None:
                raise ChunkNotFound
            homes.setdefault((place.home, digest), set()).update(below)
    loaded = load_nodes({digest: home for home, digest in homes})
    return {(home, digest): (loaded[digest], below) for (home, digest), below in homes.items()}


def _add_urls(
    located: Located, found: dict[tuple[HomeId, bytes], _Found], member: int, with_packs: bool
) -> None:
    by_home: dict[UUID, dict[bytes, _Found]] = defaultdict(dict)
    for (home, digest), leaf in found.items():
        if home is not None:  # what a public node names is public
            by_home[home][digest] = leaf
    for home, leaves in by_home.items():
        named = {digest for loaded, _ in leaves.values() for digest in loaded.node.refs}
        # The leaves too: their own rows say which packs they have.
        rows = find_rows(home, named.union(leaves))
        for digest in named:
            place = rows.get(digest)
            if place is None:
                raise ChunkNotFound
            if place.home is not None and digest not in rows.public:
                located.urls[digest.hex()] = chunk_url(store_key(place.home, digest), member)
                located.spaces.add(place.home)
        if with_packs:
            _add_packs(located, home, leaves, rows, member)


def _add_packs(located: Located, home: UUID, leaves: dict[bytes, _Found], rows: Rows, member: int) -> None:
    for digest, (loaded, numbers) in leaves.items():
        own = rows.own.get(digest)
        if own is None or own.state != ChunkState.LIVE:
            continue
        if own.pack:
            located.packs.update(dict.fromkeys(numbers, chunk_url(store_key(home, own.pack), member)))
        elif isinstance(loaded.node, Leaf) and chunks_to_pack(loaded.node, home, rows):
            located.unpacked[home].append(digest)
