"""Index nodes and trees against a naive model: a dictionary of blocks."""

from __future__ import annotations

import hashlib
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.codec import CHUNK_BLOCKS
from storage.errors import BadIndex
from storage.index import (
    Extent,
    Interior,
    InteriorEntry,
    Leaf,
    LeafEntry,
    Node,
    build_index,
    decode_node,
    encode_node,
    make_interior,
    make_leaf,
    node_span,
    root_level,
)

A, B, C = (hashlib.sha256(name).digest() for name in (b"a", b"b", b"c"))
# block → (chunk, block in the chunk)
Model = dict[int, tuple[bytes, int]]


@st.composite
def devices(draw: st.DrawFn) -> tuple[int, list[Extent]]:
    """A size, and extents that do not overlap."""
    blocks = draw(st.sampled_from([1, 64, 1000, 1024, 1025, 5000, 300_000, 70_000_000]))
    extents: list[Extent] = []
    at = 0
    for _ in range(draw(st.integers(0, 30))):
        at += draw(st.one_of(st.integers(0, 3), st.integers(0, max(blocks // 4, 1))))
        count = draw(st.integers(1, CHUNK_BLOCKS))
        if at + count > blocks:
            break
        digest = draw(st.sampled_from([A, B, C]))
        extents.append(Extent(at, count, digest, draw(st.integers(0, CHUNK_BLOCKS - count))))
        at += count
    return blocks, draw(st.permutations(extents))


def model_of(extents: list[Extent]) -> Model:
    return {e.first + i: (e.digest, e.offset + i) for e in extents for i in range(e.count)}


def read_tree(root: str, nodes: dict[str, bytes], blocks: int) -> Model:
    found: Model = {}

    def visit(digest: bytes, level: int, first: int) -> None:
        raw = nodes[digest.hex()]
        assert hashlib.sha256(raw).digest() == digest
        node = decode_node(raw)
        assert node.level == level
        if isinstance(node, Interior):
            for slot, ref in node.entries:
                visit(node.refs[ref], level - 1, first + slot * node_span(level - 1))
        else:
            for e in node.entries:
                for i in range(e.count):
                    found[first + e.first + i] = (node.refs[e.ref], e.offset + i)

    if root:
        visit(bytes.fromhex(root), root_level(blocks), 0)
    return found


@given(devices())
def test_a_tree_says_what_it_was_built_from(device: tuple[int, list[Extent]]) -> None:
    blocks, extents = device
    root, nodes = build_index(extents, blocks)
    assert read_tree(root, nodes, blocks) == model_of(extents)


@given(devices())
def test_the_same_blocks_have_the_same_root(
    device: tuple[int, list[Extent]],
) -> None:
    blocks, extents = device
    single = [Extent(e.first + i, 1, e.digest, e.offset + i) for e in extents for i in range(e.count)]
    assert build_index(extents, blocks) == build_index(single, blocks)


@given(devices())
def test_every_node_is_canonical(device: tuple[int, list[Extent]]) -> None:
    blocks, extents = device
    for raw in build_index(extents, blocks)[1].values():
        assert encode_node(decode_node(raw)) == raw


@pytest.mark.parametrize(
    ("blocks", "level"),
    [(1, 0), (1024, 0), (1025, 1), (1024 * 256, 1), (1024 * 256 + 1, 2), (1024 * 256**2, 2)],
)
def test_the_roots_level(blocks: int, level: int) -> None:
    assert root_level(blocks) == level


def test_a_device_of_zeros_has_no_root() -> None:
    assert build_index([], 5000) == ("", {})


def test_the_bytes_of_a_leaf_are_those_of_the_format() -> None:
    leaf = make_leaf([Extent(3, 2, A, 1), Extent(0, 1, B, 0)])
    entries = struct.pack("<8H", 0, 1, 0, 0, 3, 2, 1, 1)
    assert encode_node(leaf) == b"WVN1" + bytes([0, 0, 2, 0, 2, 0, 0, 0]) + B + A + entries


def test_the_bytes_of_an_interior_node_are_those_of_the_format() -> None:
    node = make_interior(1, [(7, A), (2, B), (255, A)])
    entries = struct.pack("<6H", 2, 0, 7, 1, 255, 1)
    assert encode_node(node) == b"WVN1" + bytes([1, 0, 2, 0, 3, 0, 0, 0]) + B + A + entries


def leaf(refs: list[bytes], *entries: tuple[int, int, int, int]) -> Node:
    return Leaf(tuple(refs), tuple(LeafEntry(*entry) for entry in entries))


def interior(level: int, refs: list[bytes], *entries: tuple[int, int]) -> Node:
    return Interior(level, tuple(refs), tuple(InteriorEntry(*entry) for entry in entries))


NOT_CANONICAL = {
    "empty leaf": leaf([]),
    "ref without use": leaf([A, B], (0, 1, 0, 0)),
    "ref twice": leaf([A, A], (0, 1, 0, 0), (5, 1, 1, 0)),
    "refs out of order": leaf([A, B], (0, 1, 1, 0), (5, 1, 0, 0)),
    "ref that is not there": leaf([A], (0, 1, 1, 0)),
    "count of none": leaf([A], (0, 0, 0, 0)),
    "behind the leaf": leaf([A], (1000, 25, 0, 0)),
    "behind the chunk": leaf([A], (0, 33, 0, 32)),
    "overlap": leaf([A], (0, 4, 0, 0), (3, 1, 0, 9)),
    "out of order": leaf([A], (5, 1, 0, 0), (0, 1, 0, 9)),
    "not merged": leaf([A], (0, 2, 0, 0), (2, 1, 0, 2)),
    "empty interior": interior(1, []),
    "slot twice": interior(1, [A], (3, 0), (3, 0)),
    "slots out of order": interior(1, [A], (3, 0), (2, 0)),
    "slot too large": interior(1, [A], (256, 0)),
    "child without use": interior(1, [A, B], (0, 0)),
    "level too high": interior(8, [A], (0, 0)),
}


def raw_of(node: Node) -> bytes:
    """The bytes, without the checks of `encode_node`."""
    if isinstance(node, Leaf):
        entries = b"".join(struct.pack("<4H", e.first, e.count, e.ref, e.offset) for e in node.entries)
    else:
        entries = b"".join(struct.pack("<2H", *e) for e in node.entries)
    header = struct.pack("<4sBBHI", b"WVN1", node.level, 0, len(node.refs), len(node.entries))
    return header + b"".join(node.refs) + entries


@pytest.mark.parametrize("node", NOT_CANONICAL.values(), ids=NOT_CANONICAL)
def test_what_is_not_canonical_is_refused(node: Node) -> None:
    with pytest.raises(BadIndex):
        decode_node(raw_of(node))
    with pytest.raises(BadIndex):
        encode_node(node)


GOOD = raw_of(leaf([A], (0, 1, 0, 0)))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        GOOD[:11],
        GOOD[:-1],
        GOOD + b"x",
        b"WVN2" + GOOD[4:],
        GOOD[:5] + b"\1" + GOOD[6:],
        GOOD + bytes(300_000),
    ],
)
def test_broken_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(BadIndex):
        decode_node(raw)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_node_or_refused(tail: bytes) -> None:
    for raw in (tail, GOOD[:12] + tail, b"WVN1" + tail):
        with suppress(BadIndex):
            assert encode_node(decode_node(raw)) == raw


def test_blocks_behind_the_end_are_refused() -> None:
    with pytest.raises(BadIndex):
        build_index([Extent(90, 20, A, 0)], 100)
    with pytest.raises(BadIndex):
        build_index([Extent(0, 4, A, 0), Extent(3, 1, B, 0)], 100)
