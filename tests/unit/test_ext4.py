"""The written file system is read back by an independent reader, and by e2fsck where there is one."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.images.errors import BadTree, DiskTooSmall
from storage.images.ext4 import write_image
from storage.images.ext4_layout import BLOCK, GROUP_BLOCKS
from storage.images.tree import Node, Spool, Tree

IDENTITY = bytes(range(16))
E2FSCK = shutil.which("e2fsck") or next(
    (path for path in ("/sbin/e2fsck", "/usr/sbin/e2fsck") if os.path.exists(path)), None
)
MIB = 1 << 20


@dataclass
class Found:
    """What the reader finds at a path."""

    inode: int
    mode: int
    uid: int
    gid: int
    mtime: int
    links: int
    body: bytes
    device: int
    extents: list[tuple[int, int]]


class Reader:
    """Reads ext4 with extents and 32-byte descriptors, written from the format's description, not from the
    writer.
    """

    def __init__(self, path: Path) -> None:
        self.raw = path.open("rb")
        head = self.at(1024, 1024)
        assert struct.unpack_from("<H", head, 56)[0] == 0xEF53
        self.inodes_per_group = struct.unpack_from("<I", head, 40)[0]
        self.free_blocks = struct.unpack_from("<I", head, 12)[0]
        self.inode_size = struct.unpack_from("<H", head, 88)[0]
        self.incompatible = struct.unpack_from("<I", head, 96)[0]
        self.compatible = struct.unpack_from("<I", head, 92)[0]
        self.read_only_compatible = struct.unpack_from("<I", head, 100)[0]

    def at(self, offset: int, size: int) -> bytes:
        self.raw.seek(offset)
        return self.raw.read(size)

    def extents(self, block: bytes) -> list[tuple[int, int, int]]:
        magic, entries, _, depth, _ = struct.unpack_from("<HHHHI", block)
        assert magic == 0xF30A
        found: list[tuple[int, int, int]] = []
        for number in range(entries):
            if depth:
                _, low, high, _ = struct.unpack_from("<IIHH", block, 12 + 12 * number)
                found += self.extents(self.at((high << 32 | low) * BLOCK, BLOCK))
            else:
                logical, count, high, low = struct.unpack_from("<IHHI", block, 12 + 12 * number)
                found.append((logical, count, high << 32 | low))
        return found

    def inode(self, number: int) -> Found:
        group, index = divmod(number - 1, self.inodes_per_group)
        table = struct.unpack("<I", self.at(BLOCK + 32 * group + 8, 4))[0]
        raw = self.at(table * BLOCK + index * self.inode_size, self.inode_size)
        mode, uid, size, _, _, mtime, _, gid, links = struct.unpack_from("<HHIIIIIHH", raw)
        flags = struct.unpack_from("<I", raw, 32)[0]
        size |= struct.unpack_from("<I", raw, 108)[0] << 32
        uid |= struct.unpack_from("<H", raw, 120)[0] << 16
        gid |= struct.unpack_from("<H", raw, 122)[0] << 16
        body, device, extents = b"", 0, []
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            device = struct.unpack_from("<I", raw, 40)[0]
        elif flags & 0x80000:
            expected = 0
            for logical, count, first in self.extents(raw[40:100]):
                assert logical == expected
                expected += count
                extents.append((first, count))
                body += self.at(first * BLOCK, count * BLOCK)
            assert size <= len(body)
            body = body[:size]
        else:
            body = raw[40 : 40 + size]
        return Found(number, mode, uid, gid, mtime, links, body, device, extents)

    def entries(self, directory: Found) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        at = 0
        while at < len(directory.body):
            number, length, name_length, kind = struct.unpack_from("<IHBB", directory.body, at)
            assert length >= 8 + name_length
            assert at // BLOCK == (at + length - 1) // BLOCK
            if number:
                found[os.fsdecode(directory.body[at + 8 : at + 8 + name_length])] = (number, kind)
            at += length
        return found

    def walk(self, number: int = 2, path: str = "", parent: int = 2) -> Iterator[tuple[str, Found]]:
        directory = self.inode(number)
        entries = self.entries(directory)
        assert entries.pop(".")[0] == number
        assert entries.pop("..")[0] == parent
        for name, (child, kind) in entries.items():
            found = self.inode(child)
            yield f"{path}/{name}", found
            assert (kind == 2) == stat.S_ISDIR(found.mode)
            if kind == 2:
                yield from self.walk(child, f"{path}/{name}", number)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Spool(tmp_path / "spool") as spool:
        yield Tree(spool, mtime=1_700_000_000)


def check(path: Path) -> None:
    """Asks e2fsck, where the host has it; the reader has checked the contents everywhere."""
    if E2FSCK is not None:
        done = subprocess.run([E2FSCK, "-fn", str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def write(path: Path, tree: Tree, size: int = 16 * MIB) -> Reader:
    write_image(path, tree, size, identity=IDENTITY, timestamp=1_700_000_000, label="test")
    return Reader(path)


def test_it_works(tmp_path: Path, tree: Tree) -> None:
    program = tree.write("/usr/bin/program", b"\x7fELF" * 5000, 0o4755, uid=1000, gid=100_000)
    tree.put("/usr/bin/same", program)
    tree.link("/bin", "usr/bin")
    tree.link("/long", "t" * 200)
    tree.write("/empty", b"", 0o600)
    tree.put("/dev/null", Node("character", 0o666, device=(1, 3)))
    tree.put("/dev/sda", Node("block", 0o660, gid=6, device=(8, 0)))
    tree.write("/etc/großes-ß", "ü")
    reader = write(tmp_path / "disk", tree)
    found = dict(reader.walk())
    assert set(found) == {"/lost+found", *(path for path, _ in tree.walk())}
    assert found["/usr/bin/program"].body == b"\x7fELF" * 5000
    assert found["/usr/bin/program"].mode == stat.S_IFREG | 0o4755
    assert (found["/usr/bin/program"].uid, found["/usr/bin/program"].gid) == (1000, 100_000)
    assert found["/usr/bin/program"].mtime == 1_700_000_000
    assert found["/usr/bin/same"].inode == found["/usr/bin/program"].inode
    assert found["/usr/bin/same"].links == 2
    assert (found["/bin"].mode, found["/bin"].body) == (stat.S_IFLNK | 0o777, b"usr/bin")
    assert found["/long"].body == b"t" * 200
    assert found["/empty"].body == b""
    assert found["/dev/null"].device == 0x103
    assert found["/dev/sda"].mode == stat.S_IFBLK | 0o660
    assert found["/usr"].links == 3
    assert found["/etc/großes-ß"].body == "ü".encode()
    check(tmp_path / "disk")


def test_the_features_are_those_that_the_guest_needs(tmp_path: Path, tree: Tree) -> None:
    reader = write(tmp_path / "disk", tree)
    assert reader.incompatible & 0x40  # extents
    assert not reader.incompatible & 0x80  # 64bit
    assert not reader.compatible & 0x4  # journal
    assert not reader.compatible & 0x10  # resize_inode
    assert not reader.read_only_compatible & 0x410  # uninit_bg, metadata_csum
    check(tmp_path / "disk")


def test_a_directory_of_many_names_spans_blocks(tmp_path: Path, tree: Tree) -> None:
    for number in range(700):
        tree.write(f"/many/{'n' * (number % 200)}-{number}", str(number))
    reader = write(tmp_path / "disk", tree, 32 * MIB)
    found = dict(reader.walk())
    assert len(found["/many"].body) > BLOCK
    for path, node in tree.walk():
        assert node.content is None or found[path].body == node.content.read()
    check(tmp_path / "disk")


def test_files_lie_in_one_run_in_the_order_of_their_paths(tmp_path: Path, tree: Tree) -> None:
    for number in range(50):
        tree.write(f"/d/{number:02}", bytes([number]) * (number * 1000 + 1))
    found = dict(write(tmp_path / "disk", tree).walk())
    files = [found[f"/d/{number:02}"] for number in range(50)]
    assert all(len(file.extents) == 1 for file in files)
    for before, after in pairwise(files):
        assert after.extents[0][0] == sum(before.extents[0])


def test_a_file_across_block_groups_goes_around_superblock_copies(tmp_path: Path, tree: Tree) -> None:
    body = os.urandom(MIB) * 300
    tree.write("/large", body)
    tree.write("/small", b"behind")
    reader = write(tmp_path / "disk", tree, 400 * MIB)
    found = dict(reader.walk())
    assert len(found["/large"].extents) > 1
    assert found["/large"].body == body
    assert found["/small"].body == b"behind"
    copy = reader.at(GROUP_BLOCKS * BLOCK, 1024)
    assert struct.unpack_from("<H", copy, 56)[0] == 0xEF53
    check(tmp_path / "disk")


@pytest.mark.parametrize("mib", [2, 100, 129, 513, 2048])
def test_any_size_is_a_valid_file_system(tmp_path: Path, tree: Tree, mib: int) -> None:
    tree.write("/file", b"x")
    assert dict(write(tmp_path / "disk", tree, mib * MIB).walk())["/file"].body == b"x"
    assert (tmp_path / "disk").stat().st_size == mib * MIB
    check(tmp_path / "disk")


def test_a_file_with_many_extents_gets_a_tree(tmp_path: Path, tree: Tree) -> None:
    # 1.2 GiB of a sparse file: nine groups, of which six hold a superblock copy.
    node = tree.write("/huge", b"")
    assert node.content is not None
    node.content = type(node.content)(tree.spool, tree.spool.add(b"begin").offset, 5)
    spool = tmp_path / "sparse"
    with Spool(spool) as sparse:
        with spool.open("r+b") as file:
            file.truncate(1200 * MIB)
            file.seek(1200 * MIB - 3)
            file.write(b"end")
        node.content = type(node.content)(sparse, 0, 1200 * MIB)
        reader = write(tmp_path / "disk", tree, 1400 * MIB)
    number = reader.entries(reader.inode(2))["huge"][0]
    raw = reader.inode(number)
    assert len(raw.extents) > 4
    assert raw.body[-3:] == b"end"
    check(tmp_path / "disk")


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path, tree: Tree) -> None:
    tree.write("/b/file", b"1")
    tree.write("/a", b"2")
    write(tmp_path / "one", tree)
    write(tmp_path / "two", tree)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_does_not_fit_is_refused(tmp_path: Path, tree: Tree) -> None:
    tree.write("/file", bytes(3 * MIB))
    with pytest.raises(DiskTooSmall):
        write(tmp_path / "disk", tree, 2 * MIB)
    with pytest.raises(BadTree):
        write(tmp_path / "disk", tree, 2 * MIB + 512)


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40
).filter(lambda name: name not in (".", "..", "lost+found"))
NODES = st.one_of(st.binary(max_size=20_000), st.text("abc/", min_size=1, max_size=100))


def body_of(node: Node) -> bytes | None:
    if node.kind == "symlink":
        return node.target.encode()
    return node.content.read() if node.content else None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=4), NODES), max_size=40))
def test_any_tree_is_read_back(tmp_path: Path, entries: list[tuple[list[str], bytes | str]]) -> None:
    with Spool(tmp_path / "spool") as spool:
        tree = Tree(spool)
        for parts, body in entries:
            try:
                if isinstance(body, bytes):
                    tree.write("/".join(parts), body)
                else:
                    tree.link("/".join(parts), body)
            except BadTree:
                continue  # the random paths contradict each other
        expected = {path: body_of(node) for path, node in tree.walk()}
        found = dict(write(tmp_path / "disk", tree).walk())
    assert set(found) == {"/lost+found", *expected}
    for path, wanted in expected.items():
        assert wanted is None or found[path].body == wanted
    check(tmp_path / "disk")
