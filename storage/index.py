"""The Merkle index of a block device: its nodes' one canonical form, and building a whole tree.

Pure: no store, no database. The format is in docs/design/formats.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from storage.codec import CHUNK_BLOCKS, CHUNK_BYTES, digest_of
from storage.errors import BadIndex

LEAF_BLOCKS = 1024
FANOUT = 256
MAX_LEVEL = 7
_HEADER = struct.Struct("<4sBBHI")
_MAGIC = b"WVN1"


@dataclass(frozen=True, slots=True)
class LeafEntry:
    """Blocks `first … first + count - 1` of the leaf are blocks `offset …` of the chunk `refs[ref]`."""

    first: int
    count: int
    ref: int
    offset: int


class InteriorEntry(NamedTuple):
    slot: int
    ref: int


@dataclass(frozen=True)
class Leaf:
    """1024 blocks. `refs` are 32-byte digests of data chunks."""

    refs: tuple[bytes, ...]
    entries: tuple[LeafEntry, ...]
    level: int = 0

    def blocks_of_refs(self) -> list[int]:
        """For each ref, how many blocks its chunk must have at least."""
        needed = [0] * len(self.refs)
        for entry in self.entries:
            needed[entry.ref] = max(needed[entry.ref], entry.offset + entry.count)
        return needed

    def blocks_used(self) -> list[int]:
        """For each ref, how many of the leaf's blocks are in its chunk."""
        used = [0] * len(self.refs)
        for entry in self.entries:
            used[entry.ref] += entry.count
        return used


@dataclass(frozen=True)
class Interior:
    """256 children of the level below. `refs` are 32-byte digests of nodes."""

    level: int
    refs: tuple[bytes, ...]
    entries: tuple[InteriorEntry, ...]

    def child(self, slot: int) -> bytes | None:
        """The digest of the child at `slot`, or None where every block is zero."""
        for entry in self.entries:
            if entry.slot == slot:
                return self.refs[entry.ref]
        return None


Node = Leaf | Interior


@dataclass(frozen=True, slots=True)
class Extent:
    """Blocks `first … first + count - 1` of the device are blocks `offset …` of the chunk `digest` (32
    bytes).
    """

    first: int
    count: int
    digest: bytes
    offset: int


def root_level(blocks: int) -> int:
    """The level of the root of a device of `blocks` 4 KiB blocks."""
    level, span = 0, LEAF_BLOCKS
    while span < blocks:
        level, span = level + 1, span * FANOUT
    return level


def node_span(level: int) -> int:
    """How many blocks a node of `level` covers."""
    return LEAF_BLOCKS << (8 * level)


def decode_node(raw: bytes) -> Node:
    """The node, when `raw` is in canonical form; else raises `BadIndex`."""
    if not _HEADER.size <= len(raw) <= CHUNK_BYTES:
        raise BadIndex("An index node has an impossible length.")
    magic, level, zero, ref_count, entry_count = _HEADER.unpack_from(raw)
    if magic != _MAGIC or zero or level > MAX_LEVEL:
        raise BadIndex("Not an index node.")
    size = 8 if level == 0 else 4
    start = _HEADER.size + 32 * ref_count
    if entry_count == 0 or len(raw) != start + size * entry_count:
        raise BadIndex("An index node's length does not match its counts.")
    refs = tuple(raw[at : at + 32] for at in range(_HEADER.size, start, 32))
    if len(set(refs)) != len(refs):
        raise BadIndex("An index node names a chunk twice.")
    if level == 0:
        leaf = Leaf(refs, tuple(LeafEntry(*entry) for entry in struct.iter_unpack("<HHHH", raw[start:])))
        _check_leaf(leaf)
        return leaf
    node = Interior(
        level, refs, tuple(InteriorEntry(*entry) for entry in struct.iter_unpack("<HH", raw[start:]))
    )
    _check_interior(node)
    return node


def encode_node(node: Node) -> bytes:
    """The node's bytes. Raises `BadIndex` when it is not canonical (make nodes with `make_leaf`,
    `make_interior`).
    """
    if len(set(node.refs)) != len(node.refs) or not node.entries:
        raise BadIndex("An index node is empty or names a chunk twice.")
    if isinstance(node, Leaf):
        _check_leaf(node)
        entries = b"".join(struct.pack("<HHHH", e.first, e.count, e.ref, e.offset) for e in node.entries)
    else:
        _check_interior(node)
        entries = b"".join(struct.pack("<HH", *entry) for entry in node.entries)
    header = _HEADER.pack(_MAGIC, node.level, 0, len(node.refs), len(node.entries))
    return header + b"".join(node.refs) + entries


def make_leaf(extents: Iterable[Extent]) -> Leaf:
    """A canonical leaf from extents whose `first` counts from the leaf's own first block; overlaps are
    refused.
    """
    merged: list[Extent] = []
    for extent in sorted(extents, key=lambda each: each.first):
        last = merged[-1] if merged else None
        if (
            last
            and last.digest == extent.digest
            and last.first + last.count == extent.first
            and last.offset + last.count == extent.offset
        ):
            merged[-1] = replace(last, count=last.count + extent.count)
        else:
            merged.append(extent)
    numbers: dict[bytes, int] = {}
    entries = [
        LeafEntry(e.first, e.count, numbers.setdefault(e.digest, len(numbers)), e.offset) for e in merged
    ]
    leaf = Leaf(tuple(numbers), tuple(entries))
    _check_leaf(leaf)
    return leaf


def make_interior(level: int, children: Iterable[tuple[int, bytes]]) -> Interior:
    """A canonical interior node from `(slot, digest)` pairs."""
    numbers: dict[bytes, int] = {}
    entries = [
        InteriorEntry(slot, numbers.setdefault(digest, len(numbers))) for slot, digest in sorted(children)
    ]
    node = Interior(level, tuple(numbers), tuple(entries))
    _check_interior(node)
    return node


def build_index(extents: Iterable[Extent], blocks: int) -> tuple[str, dict[str, bytes]]:
    """The whole tree of a device: `(root, {digest: raw node})`, digests in hex. The root of all zeros is
    `""`.
    """
    by_leaf: dict[int, list[Extent]] = {}
    for extent in extents:
        if extent.first < 0 or extent.first + extent.count > blocks:
            raise BadIndex("An extent lies outside the device.")
        for number, part in _split(extent):
            by_leaf.setdefault(number, []).append(part)
    nodes: dict[str, bytes] = {}

    def put(raw: bytes) -> bytes:
        digest = digest_of(raw)
        nodes[digest.hex()] = raw
        return digest

    tree = TreeBuilder(blocks, put)
    for number in sorted(by_leaf):
        tree.add_leaf(number, make_leaf(by_leaf[number]))
    return tree.finish(), nodes


class TreeBuilder:
    """A tree from its leaves in order. Holds one unfinished node of each level; `put` gets every node's bytes
    once it is finished and answers their digest.
    """

    def __init__(self, blocks: int, put: Callable[[bytes], bytes]) -> None:
        self._put = put
        self._root = b""
        self._top = root_level(blocks)
        # By level: the unfinished node's position and its children.
        self._open: dict[int, tuple[int, list[tuple[int, bytes]]]] = {}

    def add_leaf(self, number: int, leaf: Leaf) -> None:
        self._add(0, number, self._put(encode_node(leaf)))

    def finish(self) -> str:
        """The root in hex, `""` without any leaf."""
        for level in range(1, self._top + 1):
            self._close(level)
        return self._root.hex()

    def _add(self, level: int, position: int, digest: bytes) -> None:
        """A finished node goes into the one above it."""
        if level == self._top:
            self._root = digest
            return
        above, slot = divmod(position, FANOUT)
        if level + 1 in self._open and self._open[level + 1][0] != above:
            self._close(level + 1)
        self._open.setdefault(level + 1, (above, []))[1].append((slot, digest))

    def _close(self, level: int) -> None:
        if level in self._open:
            position, children = self._open.pop(level)
            self._add(level, position, self._put(encode_node(make_interior(level, children))))


def _split(extent: Extent) -> Iterator[tuple[int, Extent]]:
    """The extent's parts by leaf number, `first` counted from the leaf's first block."""
    first, count, offset = extent.first, extent.count, extent.offset
    while count > 0:
        number, at = divmod(first, LEAF_BLOCKS)
        taken = min(count, LEAF_BLOCKS - at)
        yield number, Extent(at, taken, extent.digest, offset)
        first, count, offset = first + taken, count - taken, offset + taken


def _check_leaf(leaf: Leaf) -> None:
    end, used, previous = 0, 0, LeafEntry(0, 0, -1, 0)
    for entry in leaf.entries:
        first, count, ref, offset = entry.first, entry.count, entry.ref, entry.offset
        if count < 1 or first < end or first + count > LEAF_BLOCKS or offset + count > CHUNK_BLOCKS:
            raise BadIndex("A leaf's entries overlap, are out of order or leave their bounds.")
        used = _next_used(ref, used, len(leaf.refs))
        if ref == previous.ref and first == end and offset == previous.offset + previous.count:
            raise BadIndex("A leaf has two entries that should be one.")
        end, previous = first + count, entry
    if used != len(leaf.refs) or not leaf.entries:
        raise BadIndex("A leaf is empty or names a chunk that it does not use.")


def _check_interior(node: Interior) -> None:
    if not 1 <= node.level <= MAX_LEVEL:
        raise BadIndex("An interior node has an impossible level.")
    last, used = -1, 0
    for slot, ref in node.entries:
        if not last < slot < FANOUT:
            raise BadIndex("An interior node's slots are out of order or too large.")
        last, used = slot, _next_used(ref, used, len(node.refs))
    if used != len(node.refs) or not node.entries:
        raise BadIndex("An interior node is empty or names a child that it does not use.")


def _next_used(ref: int, used: int, refs: int) -> int:
    """Refs stand in order of first use: the next entry uses a known one or exactly the next new one."""
    if ref > used or ref >= refs:
        raise BadIndex("An index node's refs are not in order of first use.")
    return used + 1 if ref == used else used
