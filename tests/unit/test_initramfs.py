"""The initramfs holds busybox, the modules that reach the disk in the order they need, and a script that
names them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.images.errors import BadTree
from storage.images.initramfs import build_initramfs, find_modules, load_order, write_cpio
from storage.images.tree import Spool, Tree

VERSION = "6.1.0-1-686"


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Spool(tmp_path / "spool") as spool:
        made = Tree(spool)
        made.make_directory("/usr/lib")
        made.link("/lib", "usr/lib")
        yield made


def add_module(tree: Tree, path: str, depends: str) -> None:
    tree.write(f"/lib/modules/{VERSION}/kernel/{path}.ko", module(f"depends={depends}\0license=GPL\0"))


def module(info: str) -> bytes:
    """A 32-bit ELF file of a section of names and a .modinfo section behind something that is not zero."""
    names = b"\0.shstrtab\0.modinfo\0"
    body = names + b"junk" + info.encode()
    at = 52
    sections = struct.pack("<10I", *[0] * 10)
    sections += struct.pack("<10I", 1, 3, 0, 0, at, len(names), 0, 0, 1, 0)
    sections += struct.pack("<10I", 11, 1, 0, 0, at + len(names) + 4, len(info.encode()), 0, 0, 1, 0)
    head = b"\x7fELF\1\1\1".ljust(16, b"\0") + struct.pack("<HHIIIII", 1, 3, 1, 0, 0, at + len(body), 0)
    return head + struct.pack("<6H", 52, 0, 0, 40, 3, 1) + body + sections


def add_disk_modules(tree: Tree) -> None:
    add_module(tree, "drivers/scsi/scsi_common", "")
    add_module(tree, "drivers/scsi/scsi_mod", "scsi_common")
    add_module(tree, "drivers/ata/libata", "scsi_mod,scsi-common")
    add_module(tree, "drivers/ata/ata_piix", "libata")
    add_module(tree, "drivers/scsi/sd_mod", "scsi_mod")
    add_module(tree, "lib/crc16", "")
    add_module(tree, "fs/mbcache", "")
    add_module(tree, "fs/jbd2/jbd2", "")
    add_module(tree, "fs/ext4/ext4", "jbd2,mbcache,crc16")
    add_module(tree, "drivers/virtio/virtio", "")
    add_module(tree, "drivers/virtio/virtio-ring", "virtio")
    add_module(tree, "drivers/virtio/virtio_pci", "virtio_ring,virtio")
    add_module(tree, "drivers/gpu/radeon", "missing_module")


def read_cpio(raw: bytes) -> dict[str, tuple[int, bytes]]:
    """An independent reader: name → (mode, body)."""
    entries: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert raw[at : at + 6] == b"070701"
        fields = [int(raw[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = raw[at + 110 : at + 110 + name_size - 1].decode()
        body_at = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return entries
        entries[name] = (mode, raw[body_at : body_at + size])
        at = (body_at + size + 3) & ~3


def test_it_works(tree: Tree) -> None:
    add_disk_modules(tree)
    entries = read_cpio(build_initramfs(tree, VERSION, b"busybox program"))
    assert entries["bin/busybox"] == (0o100755, b"busybox program")
    assert entries["bin/sh"] == (0o120777, b"busybox")
    assert entries["dev/console"][0] == 0o020600
    assert entries["init"][0] == 0o100755
    assert {"modules/ext4.ko", "modules/ata_piix.ko", "modules/virtio-ring.ko"} <= set(entries)
    assert "modules/radeon.ko" not in entries
    script = entries["init"][1].decode()
    assert script.startswith("#!/bin/sh\n")
    for name in entries:
        if name.startswith("modules/"):
            assert name.removeprefix("modules/") in script


def test_every_module_comes_behind_what_it_needs(tree: Tree) -> None:
    add_disk_modules(tree)
    modules = find_modules(tree, VERSION)
    order = [
        path.rpartition("/")[2] for path in load_order(tree, modules, ["ata_piix", "ext4", "virtio_pci"])
    ]
    for first, then in [
        ("scsi_common.ko", "scsi_mod.ko"),
        ("scsi_mod.ko", "libata.ko"),
        ("libata.ko", "ata_piix.ko"),
        ("jbd2.ko", "ext4.ko"),
        ("virtio-ring.ko", "virtio_pci.ko"),
    ]:
        assert order.index(first) < order.index(then)
    assert len(order) == len(set(order))


def test_a_builtin_module_is_not_missed_but_a_broken_dependency_is(tree: Tree) -> None:
    add_disk_modules(tree)
    modules = find_modules(tree, VERSION)
    assert load_order(tree, modules, ["builtin_driver"]) == []
    with pytest.raises(BadTree, match="missing_module"):
        load_order(tree, modules, ["radeon"])


def test_the_same_input_gives_the_same_bytes(tree: Tree) -> None:
    add_disk_modules(tree)
    first, second = (build_initramfs(tree, VERSION, b"x") for _ in range(2))
    assert first == second
    assert len(first) % 512 == 0


def test_records_are_aligned_for_odd_sizes() -> None:
    entries = [(f"n{'x' * n}", 0o100644, bytes([n]) * n, (0, 0)) for n in range(1, 9)]
    read = read_cpio(write_cpio(entries))
    assert {name: body for name, (_, body) in read.items()} == {name: body for name, _, body, _ in entries}
