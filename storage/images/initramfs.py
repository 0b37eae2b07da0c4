"""The first root file system: busybox, the modules that reach the disk, and a script that mounts it and hands
over.

A cpio archive in the `newc` format (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from storage.images.errors import BadTree
from storage.images.tree import Node, Tree

# The disk of the emulated PC, its file system, and virtio for a machine that has it. ext4 asks for crc32c by
# itself.
ALWAYS = ("crc32c_generic", "ata_piix", "sd_mod", "ext4")
VIRTIO = ("virtio_pci", "virtio_blk")


def find_modules(tree: Tree, version: str) -> dict[str, str]:
    """The modules of a kernel on the tree: name (with underscores) → path."""
    prefix = f"/lib/modules/{version}/kernel/"
    base = tree.find(prefix)
    found: dict[str, str] = {}
    stack: list[tuple[str, Node]] = [(prefix.rstrip("/"), base)] if base else []
    while stack:
        path, node = stack.pop()
        for name, child in node.children.items():
            if child.kind == "directory":
                stack.append((f"{path}/{name}", child))
            elif name.endswith(".ko"):
                found[name.removesuffix(".ko").replace("-", "_")] = f"{path}/{name}"
    return found


def modinfo(raw: bytes, field: str) -> list[str]:
    """The values of a field in the .modinfo section of a module, a 32-bit little-endian ELF file.

    Raises `BadTree` for what is none.
    """
    try:
        if raw[:6] != b"\x7fELF\x01\x01":
            raise BadTree("A kernel module is not a 32-bit ELF file.")
        table, size, count, names = *struct.unpack_from("<I", raw, 32), *struct.unpack_from("<HHH", raw, 46)
        sections = [struct.unpack_from("<IIIIII", raw, table + number * size) for number in range(count)]
        names_at = sections[names][4]
        for name, _, _, _, offset, length in sections:
            if raw.startswith(b".modinfo\0", names_at + name):
                pairs = [item.partition(b"=") for item in raw[offset : offset + length].split(b"\0")]
                return [value.decode("utf-8", "replace") for key, _, value in pairs if key == field.encode()]
    except (struct.error, IndexError) as error:
        raise BadTree("A kernel module is damaged.") from error
    return []


def module_dependencies(raw: bytes) -> list[str]:
    """What a module names in the `depends` field of its .modinfo section."""
    return [name.replace("-", "_") for text in modinfo(raw, "depends") for name in text.split(",") if name]


def load_order(tree: Tree, modules: dict[str, str], wanted: Iterable[str]) -> list[str]:
    """The paths of the wanted modules and all that they need, each behind what it depends on.

    Raises `BadTree` for a module that the kernel neither has as a file nor builtin.
    """
    ordered: list[str] = []
    seen: set[str] = set()

    def visit(name: str, builtin_allowed: bool) -> None:
        if name in seen:
            return
        seen.add(name)
        if name not in modules:
            if builtin_allowed:
                return
            raise BadTree(f"The kernel lacks the module {name}, which another one needs.")
        raw = tree.read(modules[name]) or b""
        for dependency in module_dependencies(raw):
            visit(dependency, False)
        ordered.append(modules[name])

    for name in wanted:
        visit(name, True)
    return ordered


def _record(number: int, name: str, mode: int, body: bytes, device: tuple[int, int] = (0, 0)) -> bytes:
    raw_name = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(body), 0, 0, *device, len(raw_name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    head = header + raw_name
    return head + b"\0" * (-len(head) % 4) + body + b"\0" * (-len(body) % 4)


def write_cpio(entries: Iterable[tuple[str, int, bytes, tuple[int, int]]]) -> bytes:
    """Packs (name, mode with file type, body, device numbers) in order. The result is not compressed: in the
    emulator, unpacking costs more than the bytes do.
    """
    parts = [_record(number, *entry) for number, entry in enumerate(entries, 1)]
    raw = b"".join(parts) + _record(0, "TRAILER!!!", 0, b"")
    return raw + b"\0" * (-len(raw) % 512)


def _entries(
    busybox: bytes, script: str, order: list[str], tree: Tree
) -> Iterator[tuple[str, int, bytes, tuple[int, int]]]:
    for name in ("bin", "dev", "proc", "sys", "root", "modules"):
        yield name, 0o040755, b"", (0, 0)
    yield "dev/console", 0o020600, b"", (5, 1)
    yield "bin/busybox", 0o100755, busybox, (0, 0)
    yield "bin/sh", 0o120777, b"busybox", (0, 0)
    yield "init", 0o100755, script.encode(), (0, 0)
    for path in order:
        yield f"modules/{PurePosixPath(path).name}", 0o100644, tree.read(path) or b"", (0, 0)


def build_initramfs(tree: Tree, version: str, busybox: bytes) -> bytes:
    """The initramfs for the kernel `version` whose modules are on the tree."""
    modules = find_modules(tree, version)
    always = load_order(tree, modules, ALWAYS)
    virtio = [path for path in load_order(tree, modules, VIRTIO) if path not in always]
    script = SCRIPT.format(
        always=" ".join(PurePosixPath(path).name for path in always),
        virtio=" ".join(PurePosixPath(path).name for path in virtio),
    )
    return write_cpio(_entries(busybox, script, [*always, *virtio], tree))


SCRIPT = """\
#!/bin/sh
# Mounts the root that the kernel command line names and hands over to its init.
PATH=/bin
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
for m in {always}; do $b insmod /modules/$m; done
if $b grep -qs 0x1af4 /sys/bus/pci/devices/*/vendor; then
    for m in {virtio}; do $b insmod /modules/$m; done
fi
root=/dev/sda type=ext4 flags=ro init=/sbin/init
for word in $($b cat /proc/cmdline); do
    case $word in
        root=*) root=${{word#root=}} ;;
        rootfstype=*) type=${{word#rootfstype=}} ;;
        init=*) init=${{word#init=}} ;;
        rw) flags=rw ;;
    esac
done
tries=0
until [ -b "$root" ] && $b mount -t "$type" -o $flags "$root" /root; do
    tries=$((tries + 1))
    if [ $tries -gt 200 ]; then
        echo "The root disk $root cannot be mounted."
        exec $b setsid $b cttyhack /bin/sh
    fi
    $b usleep 100000
done
$b mount --move /dev /root/dev
$b mount --move /proc /root/proc
$b mount --move /sys /root/sys
exec $b switch_root /root "$init"
"""
