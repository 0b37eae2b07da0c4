"""Reading a device's index from a granted root down: the nodes on the way to some leaves, and URLs of what
they name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from storage.chunks import HomeId, find_rows, store_key
from storage.delivery import URL_SECONDS, chunk_url
from storage.errors import BadIndex, ChunkNotFound
from storage.index import FANOUT, LEAF_BLOCKS, Interior, Leaf, root_level
from storage.nodes import LoadedNode, load_nodes
from storage.signing import NOBODY


@dataclass
class Located:
    """`nodes`: raw index nodes by hex digest. `urls`: where to get each private chunk that the asked leaves
    name. `spaces`: the tenants below whose prefixes those are.
    """

    nodes: dict[str, bytes] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    spaces: set[UUID] = field(default_factory=set)
    expires_in: int = URL_SECONDS


def locate(root: str, home: HomeId, blocks: int, leaves: Iterable[int], member: int = NOBODY) -> Located:
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
            _add_urls(located, [(home, loaded) for (home, _), (loaded, _) in found.items()], member)
            return located
        ahead = defaultdict(lambda: defaultdict(set))
        for (home, _), (loaded, below) in found.items():
            assert isinstance(loaded.node, Interior)  # noqa: S101 - _nodes_at checked the level
            for leaf in below:
                digest = loaded.node.child(leaf // FANOUT ** (level - 1) % FANOUT)
                if digest:
                    ahead[home].setdefault(digest, set()).add(leaf)
        level -= 1


def _nodes_at(
    level: int, ahead: dict[HomeId, dict[bytes, set[int]]]
) -> dict[tuple[HomeId, bytes], tuple[LoadedNode, set[int]]]:
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


def _add_urls(located: Located, leaves: list[tuple[HomeId, LoadedNode]], member: int) -> None:
    named: dict[HomeId, set[bytes]] = defaultdict(set)
    for home, loaded in leaves:
        assert isinstance(loaded.node, Leaf)  # noqa: S101 - _nodes_at checked the level
        named[home].update(loaded.node.refs)
    for home, digests in named.items():
        if home is None:
            continue  # what a public node names is public
        rows = find_rows(home, digests)
        for digest in digests:
            place = rows.get(digest)
            if place is None:
                raise ChunkNotFound
            if place.home is not None and digest not in rows.public:
                located.urls[digest.hex()] = chunk_url(store_key(place.home, digest), member)
                located.spaces.add(place.home)
