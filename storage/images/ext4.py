"""Writes a tree as an ext4 file system into a sparse file, in one pass and with bounded memory.

The layout follows the kernel's Documentation/filesystems/ext4: 4 KiB blocks, extents, no journal, no
checksums, flexible block groups. All bitmaps and inode tables stand together at the start, then the
directories, then the files in the order of their paths, each in one run: reading a directory's files in order
reads the disk in order, and few chunks hold all the metadata. The same tree and arguments give the same
bytes.
"""

from __future__ import annotations

import os
import stat
import struct
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from storage.images.errors import BadTree
from storage.images.ext4_layout import BLOCK, GROUP_BLOCKS, INODE_SIZE, Extent, Layout
from storage.images.tree import PIECE, Node, Tree

FIRST_INODE = 11  # lost+found; the ones below are reserved
ROOT_INODE = 2
INLINE_EXTENTS = 4  # extents that fit into the inode itself
LEAF_EXTENTS = (BLOCK - 12) // 12
LOST_AND_FOUND_BLOCKS = 4  # e2fsck wants room prepared

EXTENTS_FLAG = 0x80000
KINDS = {
    "file": (stat.S_IFREG, 1),
    "directory": (stat.S_IFDIR, 2),
    "character": (stat.S_IFCHR, 3),
    "block": (stat.S_IFBLK, 4),
    "symlink": (stat.S_IFLNK, 7),
}


@dataclass(slots=True)
class _Inode:
    """A node with what the disk adds to it."""

    number: int
    node: Node
    links: int = 0
    extents: list[Extent] = field(default_factory=list)
    leaves: list[int] = field(
        default_factory=list
    )  # blocks that hold extents which do not fit into the inode
    data: bytes | None = (
        None  # contents that are not the node's own: a directory's entries, a long link's target
    )

    @property
    def size(self) -> int:
        if self.data is not None:
            return len(self.data)
        return len(os.fsencode(self.node.target)) if self.node.kind == "symlink" else self.node.size


def write_image(
    path: Path,
    tree: Tree,
    size: int,
    *,
    identity: bytes,
    timestamp: int,
    label: str = "",
    report: Callable[[int, int], None] | None = None,
) -> None:
    """Writes the tree to `path`, a new sparse file of `size` bytes (a multiple of 4096).

    `identity` (16 bytes) becomes the file system's UUID and its directory hash seed, `timestamp` (Unix
    seconds) its times. `report(done, total)` hears of the bytes of contents written. Raises `DiskTooSmall`.
    """
    if size % BLOCK:
        raise BadTree("A disk's size must be a whole number of 4 KiB blocks.")
    inodes, names = _number_inodes(tree, timestamp)
    layout = Layout(size // BLOCK, len(inodes) + FIRST_INODE)
    _place(inodes, names, layout)
    total = sum(inode.size for inode in inodes)
    with path.open("w+b") as file:
        file.truncate(size)
        fd = file.fileno()
        done = 0
        for inode in inodes:
            done += _write_contents(fd, inode)
            if report is not None:
                report(done, total)
        _write_tables(fd, inodes, layout)
        _write_groups(fd, inodes, layout, identity, timestamp, label)


def _number_inodes(tree: Tree, timestamp: int) -> tuple[list[_Inode], dict[int, _Inode]]:
    """Gives every node a number: directories and files in the order of their paths, so that neighbours share
    a block.
    """
    if "lost+found" in tree.root.children:
        raise BadTree("/lost+found is made by the file system, it cannot be in the tree.")
    root = _Inode(ROOT_INODE, tree.root)
    lost = _Inode(FIRST_INODE, Node("directory", 0o700, mtime=timestamp))
    inodes = [root, lost]
    by_node = {id(tree.root): root, id(lost.node): lost}
    for _, node in tree.walk():
        if id(node) not in by_node:
            inode = _Inode(FIRST_INODE + len(inodes) - 1, node)
            by_node[id(node)] = inode
            inodes.append(inode)
    return inodes, by_node


def _entry(number: int, kind: int, name: bytes, length: int) -> bytes:
    return struct.pack("<IHBB", number, length, len(name), kind) + name.ljust(length - 8, b"\0")


def _directory_blocks(inode: _Inode, parent: _Inode, children: list[tuple[bytes, _Inode]]) -> bytes:
    """Linear directory blocks; the last entry of each reaches to the block's end."""
    entries = [(b".", inode), (b"..", parent), *children]
    blocks: list[bytes] = []
    current: list[tuple[int, int, bytes, int]] = []
    used = 0

    def close() -> None:
        body = b"".join(_entry(*entry) for entry in current[:-1])
        number, kind, name, _ = current[-1]
        blocks.append(body + _entry(number, kind, name, BLOCK - len(body)))

    for name, child in entries:
        length = 8 + -(-len(name) // 4) * 4
        if used + length > BLOCK:
            close()
            current, used = [], 0
        current.append((child.number, KINDS[child.node.kind][1], name, length))
        used += length
    close()
    return b"".join(blocks)


def _place(inodes: list[_Inode], by_node: dict[int, _Inode], layout: Layout) -> None:
    """Counts links, makes the directories' contents and gives everything its blocks: directories first, then
    files.
    """
    root, lost = inodes[0], inodes[1]
    parents = {root.number: root, lost.number: root}
    root.links, lost.links = 3, 2  # lost+found's ".." is the third
    for inode in inodes:
        if inode.node.kind != "directory":
            continue
        children = sorted(
            (os.fsencode(name), by_node[id(child)]) for name, child in inode.node.children.items()
        )
        for _, child in children:
            if child.node.kind == "directory":
                if child.number in parents:
                    raise BadTree("A directory has two names.")
                parents[child.number] = inode
                child.links += 2
                inode.links += 1
            else:
                child.links += 1
        if inode is root:
            children.append((b"lost+found", lost))
        inode.data = _directory_blocks(inode, parents[inode.number], children)
        if inode is lost:
            empty = struct.pack("<IHBB", 0, BLOCK, 0, 0).ljust(BLOCK, b"\0")
            inode.data += empty * (LOST_AND_FOUND_BLOCKS - 1)
    for directories in (True, False):
        for inode in inodes:
            if (inode.node.kind == "directory") != directories:
                continue
            target = os.fsencode(inode.node.target)
            if inode.node.kind == "symlink" and len(target) >= 60:
                inode.data = target
            if inode.data is not None or inode.node.kind == "file":
                inode.extents = layout.take(-(-inode.size // BLOCK))
                if len(inode.extents) > INLINE_EXTENTS:
                    count = -(-len(inode.extents) // LEAF_EXTENTS)
                    if count > INLINE_EXTENTS:
                        raise BadTree("A file is too large for this file system.")
                    inode.leaves = [layout.take(1)[0][0] for _ in range(count)]


def _pieces(inode: _Inode) -> Iterator[bytes]:
    if inode.data is not None:
        yield inode.data
    elif inode.node.content is not None:
        yield from inode.node.content.pieces()


def _write_contents(fd: int, inode: _Inode) -> int:
    """Writes an inode's contents to its extents; returns the bytes written."""
    extents = iter(inode.extents)
    offset = room = done = 0
    for piece in _pieces(inode):
        view = memoryview(piece)
        while view:
            if not room:
                first, count = next(extents)
                offset, room = first * BLOCK, count * BLOCK
            written = os.pwrite(fd, view[: min(room, PIECE)], offset)
            view = view[written:]
            offset, room, done = offset + written, room - written, done + written
    position = 0
    for number, block in enumerate(inode.leaves):
        part = inode.extents[number * LEAF_EXTENTS : (number + 1) * LEAF_EXTENTS]
        os.pwrite(fd, _extent_node(part, position, LEAF_EXTENTS), block * BLOCK)
        position += sum(count for _, count in part)
    return done


def _extent_node(extents: list[Extent], logical: int, room: int) -> bytes:
    """A leaf of the extent tree: header and entries (logical block, length, high and low half of the first
    block).
    """
    raw = struct.pack("<HHHHI", 0xF30A, len(extents), room, 0, 0)
    for first, count in extents:
        raw += struct.pack("<IHHI", logical, count, first >> 32, first & 0xFFFFFFFF)
        logical += count
    return raw


def _extent_root(inode: _Inode) -> bytes:
    if not inode.leaves:
        return _extent_node(inode.extents, 0, INLINE_EXTENTS)
    raw = struct.pack("<HHHHI", 0xF30A, len(inode.leaves), INLINE_EXTENTS, 1, 0)
    logical = 0
    for number, block in enumerate(inode.leaves):
        raw += struct.pack("<IIHH", logical, block & 0xFFFFFFFF, block >> 32, 0)
        part = inode.extents[number * LEAF_EXTENTS : (number + 1) * LEAF_EXTENTS]
        logical += sum(count for _, count in part)
    return raw


def _inode_bytes(inode: _Inode) -> bytes:
    node = inode.node
    flags = 0
    if node.kind in ("character", "block"):
        major, minor = node.device
        if major > 255 or minor > 255:
            raise BadTree("Device numbers above 255 are not supported.")
        block = struct.pack("<I", major << 8 | minor)
    elif node.kind == "symlink" and inode.data is None:
        block = os.fsencode(node.target)
    else:
        flags, block = EXTENTS_FLAG, _extent_root(inode)
    sectors = (sum(count for _, count in inode.extents) + len(inode.leaves)) * (BLOCK // 512)
    size, time = inode.size, max(0, min(node.mtime, 0x7FFFFFFF))
    raw = struct.pack(
        "<HHIIIIIHHIII",
        KINDS[node.kind][0] | node.mode & 0o7777,
        node.uid & 0xFFFF,
        size & 0xFFFFFFFF,
        time,  # access
        time,  # change
        time,  # modification
        0,  # deletion
        node.gid & 0xFFFF,
        inode.links,
        sectors,
        flags,
        0,
    )
    raw += block.ljust(60, b"\0")
    raw += struct.pack("<III", 0, 0, size >> 32)  # generation, extended attributes, size
    raw += struct.pack("<IHHHHI", 0, 0, 0, node.uid >> 16, node.gid >> 16, 0)
    raw += struct.pack("<HHIIIIIII", 32, 0, 0, 0, 0, time, 0, 0, 0)  # 32 extra bytes, creation time
    return raw.ljust(INODE_SIZE, b"\0")


def _write_tables(fd: int, inodes: list[_Inode], layout: Layout) -> None:
    buffers: dict[int, bytearray] = {}
    for inode in inodes:
        group, index = divmod(inode.number - 1, layout.inodes_per_group)
        table = buffers.setdefault(group, bytearray(layout.table_blocks * BLOCK))
        table[index * INODE_SIZE : (index + 1) * INODE_SIZE] = _inode_bytes(inode)
    for group, table in buffers.items():
        os.pwrite(fd, table.rstrip(b"\0").ljust(1, b"\0"), layout.tables[group] * BLOCK)


def _write_groups(
    fd: int, inodes: list[_Inode], layout: Layout, identity: bytes, timestamp: int, label: str
) -> None:
    """Writes bitmaps, group descriptors and superblocks."""
    numbers = {*range(1, FIRST_INODE), *(inode.number for inode in inodes)}
    directories = [0] * layout.groups
    for inode in inodes:
        if inode.node.kind == "directory":
            directories[(inode.number - 1) // layout.inodes_per_group] += 1
    descriptors = b""
    free_blocks = free_inodes = 0
    for group in range(layout.groups):
        first = group * GROUP_BLOCKS
        count = min(GROUP_BLOCKS, layout.blocks - first)
        bitmap = bytearray(layout.used[first // 8 : (first + count + 7) // 8].ljust(BLOCK, b"\0"))
        used = sum(byte.bit_count() for byte in bitmap)
        _fill(bitmap, count)
        os.pwrite(fd, bitmap, layout.block_bitmaps[group] * BLOCK)
        inode_bitmap = bytearray(BLOCK)
        low = group * layout.inodes_per_group + 1
        taken = [number - low for number in numbers if low <= number < low + layout.inodes_per_group]
        for bit in taken:
            inode_bitmap[bit >> 3] |= 1 << (bit & 7)
        _fill(inode_bitmap, layout.inodes_per_group)
        os.pwrite(fd, inode_bitmap, layout.inode_bitmaps[group] * BLOCK)
        free_blocks += count - used
        free_inodes += layout.inodes_per_group - len(taken)
        descriptors += struct.pack(
            "<IIIHHHHIHHHH",
            layout.block_bitmaps[group],
            layout.inode_bitmaps[group],
            layout.tables[group],
            count - used,
            layout.inodes_per_group - len(taken),
            directories[group],
            *(0,) * 6,
        )
    for group in range(layout.groups):
        if layout.has_superblock(group):
            raw = _superblock(layout, group, free_blocks, free_inodes, identity, timestamp, label)
            os.pwrite(fd, raw, group * GROUP_BLOCKS * BLOCK + (1024 if group == 0 else 0))
            os.pwrite(fd, descriptors, (group * GROUP_BLOCKS + 1) * BLOCK)


def _fill(bitmap: bytearray, count: int) -> None:
    """Sets the bits behind the last real one, as the format demands."""
    for bit in range(count, min(-(-count // 8) * 8, 8 * BLOCK)):
        bitmap[bit >> 3] |= 1 << (bit & 7)
    start = -(-count // 8)
    bitmap[start:] = b"\xff" * (BLOCK - start)


def _superblock(
    layout: Layout,
    group: int,
    free_blocks: int,
    free_inodes: int,
    identity: bytes,
    timestamp: int,
    label: str,
) -> bytes:
    raw = bytearray(1024)
    struct.pack_into(
        "<13I6H4I2H",
        raw,
        0,
        layout.inodes,
        layout.blocks,
        layout.blocks // 20,  # kept for root
        free_blocks,
        free_inodes,
        0,  # first data block
        2,  # log2(block size) - 10
        2,
        GROUP_BLOCKS,
        GROUP_BLOCKS,
        layout.inodes_per_group,
        0,  # mounted
        timestamp,  # written
        0,  # mounts
        0xFFFF,  # no check after a number of mounts
        0xEF53,
        1,  # clean
        1,  # go on after an error
        0,
        timestamp,  # checked
        0,  # no check after a time
        0,  # Linux
        1,  # dynamic inode sizes
        0,  # root may use what is kept
        0,
    )
    struct.pack_into(
        "<IHHIII",
        raw,
        84,
        FIRST_INODE,
        INODE_SIZE,
        group,
        0x20,  # compatible: dir_index
        0x2 | 0x40 | 0x200,  # incompatible: filetype, extents, flex_bg
        0x1 | 0x2 | 0x20 | 0x40,  # read-only compatible: sparse_super, large_file, dir_nlink, extra_isize
    )
    raw[104:120] = uuid.UUID(bytes=identity).bytes
    raw[120:136] = label.encode()[:16].ljust(16, b"\0")
    raw[236:252] = identity  # directory hash seed
    raw[252] = 1  # half-MD4
    struct.pack_into("<HII", raw, 254, 0, 0xC, 0)  # descriptors of 32 bytes; acl and user_xattr by default
    struct.pack_into("<I", raw, 264, timestamp)  # made
    struct.pack_into("<HHI", raw, 348, 32, 32, 0x1)  # extra inode bytes; signed directory hashes
    raw[372] = 4  # log2(groups of one flexible group)
    return bytes(raw)
