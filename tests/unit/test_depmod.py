"""The module indexes answer what depmod's would, read by a reader of kmod's trie of its own."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from storage.images.depmod import encode_index

PREFIX, VALUES, CHILDREN = 0x80000000, 0x40000000, 0x20000000


def read_index(raw: bytes) -> dict[str, list[tuple[int, str]]]:
    """Key → values with their priorities, in the order of the file."""
    magic, version, root = struct.unpack_from(">III", raw)
    assert (magic, version) == (0xB007F457, 0x00020001)
    return dict(read_node(raw, root, ""))


def read_text(raw: bytes, at: int) -> tuple[str, int]:
    end = raw.index(0, at)
    return raw[at:end].decode(), end + 1


def read_node(raw: bytes, offset: int, key: str) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    at = offset & 0x0FFFFFFF
    if offset & PREFIX:
        text, at = read_text(raw, at)
        key += text
    children: list[tuple[str, int]] = []
    if offset & CHILDREN:
        first, last = raw[at], raw[at + 1]
        at += 2
        for code in range(first, last + 1):
            child = struct.unpack_from(">I", raw, at)[0]
            at += 4
            if child:
                children.append((chr(code), child))
        assert children[0][0] == chr(first)
        assert children[-1][0] == chr(last)
    if offset & VALUES:
        count = struct.unpack_from(">I", raw, at)[0]
        at += 4
        values: list[tuple[int, str]] = []
        for _ in range(count):
            priority = struct.unpack_from(">I", raw, at)[0]
            text, at = read_text(raw, at + 4)
            values.append((priority, text))
        yield key, values
    for character, child in children:
        yield from read_node(raw, child, key + character)


def test_it_works() -> None:
    index = encode_index(
        [("ext4", "e", 3), ("ext2", "f", 1), ("ext", "g", 2), ("ext4", "h", 0), ("vfat", "i", 9)]
    )
    assert read_index(index) == {
        "ext": [(2, "g")],
        "ext2": [(1, "f")],
        "ext4": [(0, "h"), (3, "e")],
        "vfat": [(9, "i")],
    }


def test_an_empty_index_is_one() -> None:
    assert read_index(encode_index([])) == {}


@given(st.dictionaries(st.text("abc_*:", min_size=1), st.text("xyz"), max_size=30))
def test_any_entries_are_read_back(entries: dict[str, str]) -> None:
    index = encode_index([(key, value, number) for number, (key, value) in enumerate(entries.items())])
    assert {key: values[0][1] for key, values in read_index(index).items()} == entries
