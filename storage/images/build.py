"""From a recipe to what a machine boots: a raw disk and, for a PC, a kernel, an initramfs and firmware."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from storage.images.apt import Selection, fetch_packages
from storage.images.bytecode import compile_python
from storage.images.deb import read_deb
from storage.images.debroot import PathFilter, merge_usr, unpack_packages
from storage.images.depmod import write_module_indexes
from storage.images.errors import BadRecipe, BadTree
from storage.images.ext4 import write_image
from storage.images.ext4_layout import BLOCK
from storage.images.guest_package import NAME, guest_package, make_guest_deb
from storage.images.guest_programs import HERE
from storage.images.initramfs import build_initramfs
from storage.images.recipe import Recipe
from storage.images.resolve import Package, compare_versions
from storage.images.sources import PUBLIC_MIRROR, find_sources
from storage.images.tree import Spool, Tree

BASE_PACKAGES = ("usr-is-merged",)  # the alternative would convert a tree that is merged already
BUSYBOX, FIRMWARE = "busybox-static", "seabios"
BIOS_FILE = "/usr/share/seabios/bios-256k.bin"
VGA_BIOS_FILE = "/usr/share/seabios/vgabios-stdvga.bin"
ROOT_DEVICES = {"pc": "/dev/sda", "linux": "/dev/vda"}

Report = Callable[[str, int, int, str], None]
"""`report(step, done, total, note)`: bytes of a step (download, unpack, write); a note is a line for the log,
or "".
"""


@dataclass(frozen=True)
class DiskBuild:
    """The parts of a bootable machine, as files in the work directory.

    `firmware` has those beside the disk by their names in the descriptor: `bios`, `vga_bios`, `kernel` and
    `initrd` for `pc`, nothing for `linux`.
    """

    disk: Path
    disk_blocks: int  # of 4 KiB
    firmware: dict[str, Path]
    packages: dict[str, str]  # name → version of everything on the disk


def build_disk(
    recipe: Recipe, *, mirror: str | None, cache_dir: Path, work_dir: Path, report: Report
) -> DiskBuild:
    """Makes the disk of a recipe: packages unpacked, not yet configured (`recipe.commands()` does that in the
    guest).

    `mirror` is as in `find_sources`. Downloads go to `cache_dir` by digest and are reused, `work_dir` gets
    the result and takes about twice the size of the files while it is made. Raises `ImageBuildError`s.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    selection = fetch_packages(
        find_sources(mirror, recipe.suite),
        recipe.architecture,
        [*BASE_PACKAGES, *recipe.packages],
        cache_dir,
        lambda done, total: report("download", done, total, ""),
        note=lambda text: report("download", 0, 0, text),
        loose=[BUSYBOX, FIRMWARE] if recipe.kind == "pc" else [],
        extra=[guest_package(recipe)],
    )
    timestamp = int(selection.date.timestamp())
    spool_path = work_dir / "spool"
    try:
        with Spool(spool_path) as spool:
            return _build(recipe, selection, Tree(spool, timestamp), work_dir, report)
    finally:
        spool_path.unlink(missing_ok=True)


def _build(recipe: Recipe, selection: Selection, tree: Tree, work_dir: Path, report: Report) -> DiskBuild:
    merge_usr(tree, recipe.architecture)
    unpack_packages(
        tree,
        selection.packages,
        selection.files,
        {NAME: make_guest_deb(recipe, tree)},
        PathFilter(recipe.exclude, recipe.include),
        lambda done, total: report("unpack", done, total, ""),
    )
    _write_settings(recipe, tree)
    firmware = _make_firmware(selection, tree, work_dir) if recipe.kind == "pc" else {}
    if not compile_python(tree, lambda done, total: report("compile", done, total, "")):
        report(
            "compile",
            0,
            0,
            "The guest compiles Python's common modules itself: this Python is another version.",
        )
    disk = work_dir / "disk.img"
    size = recipe.settings.disk_mib << 20
    write_image(
        disk,
        tree,
        size,
        identity=_identity(recipe, selection.packages),
        timestamp=tree.mtime,
        label=recipe.slug[:16],
        report=lambda done, total: report("write", done, total, ""),
    )
    packages = {package.name: package.version for package in selection.packages}
    return DiskBuild(disk, size // BLOCK, firmware, packages)


def _make_firmware(selection: Selection, tree: Tree, work_dir: Path) -> dict[str, Path]:
    """What the emulated PC is given beside its disk. Completes the kernel's modules on the tree."""
    version = _kernel_version(tree)
    write_module_indexes(tree, version)
    busybox = _loose_file(tree, selection, BUSYBOX, "/bin/busybox")
    parts = {
        "bios": _loose_file(tree, selection, FIRMWARE, BIOS_FILE),
        "vga_bios": _loose_file(tree, selection, FIRMWARE, VGA_BIOS_FILE),
        "kernel": tree.read(f"/boot/vmlinuz-{version}") or b"",
        "initrd": build_initramfs(tree, version, busybox),
    }
    paths = {name: work_dir / name for name in parts}
    for name, path in paths.items():
        path.write_bytes(parts[name])
    return paths


def _write_settings(recipe: Recipe, tree: Tree) -> None:
    """What an installer would have written, then the recipe's own files."""
    for name, mode in (("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("run", 0o755), ("tmp", 0o1777)):
        tree.make_directory(f"/{name}").mode = mode
    hostname = recipe.settings.hostname
    tree.write("/etc/hostname", f"{hostname}\n")
    tree.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {hostname}\n::1 localhost ip6-localhost\n")
    tree.write("/etc/fstab", f"{ROOT_DEVICES[recipe.kind]} / ext4 defaults 0 1\n")
    tree.write("/etc/resolv.conf", "")
    main, security = PUBLIC_MIRROR.split()
    lines = [
        f"deb {main} {recipe.suite} main",
        f"deb {main} {recipe.suite}-updates main",
        f"deb {security} {recipe.suite}-security main",
    ]
    tree.write("/etc/apt/sources.list", "".join(f"{line}\n" for line in lines))
    tree.write("/root/.bashrc", (HERE / "bashrc").read_bytes())
    tree.write("/root/.profile", '[ -n "$BASH" ] && . ~/.bashrc\n')
    # The shell is there before base-passwd is configured, which would copy the same lists.
    for name in ("passwd", "group"):
        if tree.find(f"/etc/{name}") is None:
            tree.write(f"/etc/{name}", tree.read(f"/usr/share/base-passwd/{name}.master") or b"")
    for file in recipe.files:
        tree.write(file.path, file.content, file.mode, file.uid, file.gid)


def _kernel_version(tree: Tree) -> str:
    """The newest kernel on the tree; raises `BadRecipe` when there is none."""
    boot = tree.find("/boot")
    prefix = "vmlinuz-"
    versions = [
        name.removeprefix(prefix) for name in (boot.children if boot else ()) if name.startswith(prefix)
    ]
    if not versions:
        raise BadRecipe("The recipe's packages bring no kernel: add linux-image-686.", key="packages")
    newest = versions[0]
    for version in versions[1:]:
        if compare_versions(version, newest) > 0:
            newest = version
    return newest


def _loose_file(tree: Tree, selection: Selection, name: str, path: str) -> bytes:
    """One file out of a package that is not installed. `path` is where it is after the merge of /usr."""
    package = next(package for package in selection.loose if package.name == name)
    for entry in read_deb(selection.files[package.name], tree.spool, partial(_is, path)).entries:
        if entry.path == path and entry.node is not None and entry.node.content is not None:
            return entry.node.content.read()
    raise BadTree(f"The package {name} has no {path}.")


def _is(path: str, other: str) -> bool:
    return path == other


def _identity(recipe: Recipe, packages: Sequence[Package]) -> bytes:
    """16 bytes that follow from all inputs."""
    digests = [package.fields.get("sha256", package.version) for package in packages]
    return hashlib.sha256("\n".join([repr(recipe.contents()), *digests]).encode()).digest()[:16]
