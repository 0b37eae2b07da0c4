"""What depmod(8) computes, from the modules' own .modinfo: which module needs which, and which alias names
which.

The `.bin` files are the index of kmod's libkmod/libkmod-index.c, big endian: a trie whose nodes hold a
prefix, a range of children and values with priorities.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

from storage.images.initramfs import find_modules, modinfo, module_dependencies
from storage.images.tree import Tree

MAGIC, VERSION = 0xB007F457, 0x00020001
PREFIX, VALUES, CHILDREN = 0x80000000, 0x40000000, 0x20000000

Index = Iterable[tuple[str, str, int]]  # key, value, priority


class _Node:
    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.values: list[tuple[int, str]] = []


def encode_index(entries: Index) -> bytes:
    """A `.bin` index; keys and values are ASCII."""
    root = _Node()
    for key, value, priority in entries:
        node = root
        for character in key:
            node = node.children.setdefault(character, _Node())
        node.values.append((priority, value))
    raw = bytearray(struct.pack(">III", MAGIC, VERSION, 0))
    struct.pack_into(">I", raw, 8, _write_node(root, "", raw))
    return bytes(raw)


def _write_node(node: _Node, prefix: str, raw: bytearray) -> int:
    """Appends a node behind its children; returns its offset with the flags of what it has."""
    while len(node.children) == 1 and not node.values:
        character, node = next(iter(node.children.items()))
        prefix += character
    codes = sorted(ord(character) for character in node.children)
    offsets = {code: _write_node(node.children[chr(code)], "", raw) for code in codes}
    offset = len(raw)
    if prefix:
        raw += prefix.encode() + b"\0"
        offset |= PREFIX
    if codes:
        raw += bytes((codes[0], codes[-1]))
        raw += b"".join(struct.pack(">I", offsets.get(code, 0)) for code in range(codes[0], codes[-1] + 1))
        offset |= CHILDREN
    if node.values:
        raw += struct.pack(">I", len(node.values))
        for priority, value in sorted(node.values):
            raw += struct.pack(">I", priority) + value.encode() + b"\0"
        offset |= VALUES
    return offset


def _underscores(pattern: str) -> str:
    """Aliases are compared with `_` for `-`, except inside brackets."""
    return "".join(
        part if part.startswith("[") else part.replace("-", "_")
        for part in re.split(r"(\[[^\]]*\])", pattern)
    )


def write_module_indexes(tree: Tree, version: str) -> None:
    """Writes modules.dep, modules.alias, modules.softdep, their `.bin` indexes and those of the builtin
    modules.
    """
    base = f"/lib/modules/{version}"
    modules = find_modules(tree, version)
    order = [line.strip() for line in (tree.read(f"{base}/modules.order") or b"").decode().splitlines()]
    rank = {path: number for number, path in enumerate(order)}
    short = {name: path.removeprefix(f"{base}/") for name, path in modules.items()}
    names = sorted(modules, key=lambda name: (rank.get(short[name], len(rank)), short[name]))
    info = {name: tree.read(modules[name]) or b"" for name in names}
    needs = {name: [other for other in module_dependencies(info[name]) if other in modules] for name in names}
    depends: list[tuple[str, str, int]] = []
    aliases: list[tuple[str, str, int]] = []
    soft: list[str] = []
    for priority, name in enumerate(names):
        # Those that must be loaded first stand last.
        lines = [short[other] for other in _all_needs(name, needs)]
        depends.append((name, f"{short[name]}:{''.join(f' {line}' for line in lines)}", priority))
        aliases += [(_underscores(alias), name, priority) for alias in modinfo(info[name], "alias")]
        soft += [f"softdep {name} {text}" for text in modinfo(info[name], "softdep")]
    builtin = [
        (re.sub(r"\.ko$", "", line.rpartition("/")[2]).replace("-", "_"), "", 0)
        for line in (tree.read(f"{base}/modules.builtin") or b"").decode().split()
    ]
    builtin_aliases = [
        (_underscores(alias), name, 0)
        for name, alias in re.findall(
            r"([\w-]+)\.alias=([^\0]*)",
            (tree.read(f"{base}/modules.builtin.modinfo") or b"").decode("utf-8", "replace"),
        )
    ]
    tree.write(f"{base}/modules.dep", "".join(f"{line}\n" for _, line, _ in depends))
    tree.write(f"{base}/modules.alias", "".join(f"alias {alias} {name}\n" for alias, name, _ in aliases))
    tree.write(f"{base}/modules.softdep", "".join(f"{line}\n" for line in soft))
    for name, entries in (
        ("dep", depends),
        ("alias", aliases),
        ("symbols", []),
        ("builtin", builtin),
        ("builtin.alias", builtin_aliases),
    ):
        tree.write(f"{base}/modules.{name}.bin", encode_index(entries))


def _all_needs(name: str, needs: dict[str, list[str]]) -> list[str]:
    """All that a module needs, directly or not, each before what it needs itself."""
    ordered: list[str] = []

    def visit(one: str) -> None:
        for other in needs[one]:
            if other not in ordered:
                visit(other)
                ordered.append(other)

    visit(name)
    return ordered[::-1]
