"""The package `webvm-guest`: what makes a minimal Debian a guest of ours, registered with dpkg like any
other.

For `pc` it provides `linux-initramfs-tool`, because the initramfs is made outside (see initramfs.py) and
nothing in the guest is to make one. `linux` has no kernel, and answers the page itself: no agent.
"""

from __future__ import annotations

import hashlib

from storage.images.deb import Deb, Entry
from storage.images.guest_programs import HERE, compile_program
from storage.images.recipe import Recipe
from storage.images.resolve import Package
from storage.images.tree import Node, Tree

NAME = "webvm-guest"
VERSION = "1"
OWN_FIELDS = {
    "pc": """\
Provides: linux-initramfs-tool
Depends: perl-base, bash, coreutils, util-linux, dpkg, passwd
Description: init, agent and consoles of a WebVM guest
 Starts the guest without a service manager and answers the page that runs it.
""",
    "linux": """\
Depends: perl-base, bash, coreutils, dpkg, passwd
Description: init of a WebVM guest
 Starts the guest without a service manager.
""",
}
# Under their names in guest/: scripts, and sources of programs.
PROGRAMS = {
    "pc": {"init": "/usr/sbin/init", "console": "/usr/lib/webvm/console", "agent.c": "/usr/lib/webvm/agent"},
    "linux": {"init.c": "/usr/sbin/init"},
}
COMMON_PROGRAMS = {
    "configure": "/usr/lib/webvm/configure",
    "power": "/usr/lib/webvm/power",
    "policy-rc.d": "/usr/sbin/policy-rc.d",
}
LIBRARIES = {
    "confmodule": "/usr/lib/webvm/confmodule",
    "ConfModule.pm": "/usr/lib/webvm/perl/Debconf/Client/ConfModule.pm",
}
POWER_NAMES = ("poweroff", "reboot", "halt", "shutdown")


def guest_package(recipe: Recipe) -> Package:
    return Package(_control(recipe).rstrip("\n"))


def _control(recipe: Recipe) -> str:
    return f"""\
Package: {NAME}
Version: {VERSION}
Architecture: {recipe.architecture}
Maintainer: WebVM <webvm@localhost>
Priority: optional
Section: admin
Multi-Arch: foreign
{OWN_FIELDS[recipe.kind]}"""


def _program(name: str, architecture: str) -> bytes:
    path = HERE / name
    return compile_program(path, architecture) if path.suffix == ".c" else path.read_bytes()


def make_guest_deb(recipe: Recipe, tree: Tree) -> Deb:
    """The package as `read_deb` would give it: its files are spooled, not yet on the tree."""
    files: dict[str, tuple[bytes, int]] = {
        path: (_program(name, recipe.architecture), mode)
        for group, mode in ((COMMON_PROGRAMS | PROGRAMS[recipe.kind], 0o755), (LIBRARIES, 0o644))
        for name, path in group.items()
    }
    if recipe.kind == "pc":
        # The kernel and its initramfs are given to the emulator, so there are no links to them.
        files["/etc/kernel-img.conf"] = (b"do_symlinks = no\ndo_initrd = no\n", 0o644)
    rules = [f"path-exclude={glob}" for glob in recipe.exclude] + [
        f"path-include={glob}" for glob in recipe.include
    ]
    if rules:
        files["/etc/dpkg/dpkg.cfg.d/webvm"] = ("".join(f"{rule}\n" for rule in rules).encode(), 0o644)
    entries: dict[str, Entry] = {}

    def add(path: str, node: Node) -> None:
        parent = path.rpartition("/")[0]
        if parent and parent not in entries:
            add(parent, Node("directory", 0o755, mtime=tree.mtime))
        entries[path] = Entry(path, node)

    for path, (raw, mode) in files.items():
        add(path, Node("file", mode, mtime=tree.mtime, content=tree.spool.add(raw)))
    for name in POWER_NAMES:
        add(f"/usr/sbin/{name}", Node("symlink", 0o777, mtime=tree.mtime, target="../lib/webvm/power"))
    sums = "".join(
        f"{hashlib.md5(raw, usedforsecurity=False).hexdigest()}  {path[1:]}\n"
        for path, (raw, _) in files.items()
        if not path.startswith("/etc/")
    )
    control = {"control": _control(recipe).encode(), "md5sums": sums.encode()}
    conffiles = [path for path in files if path.startswith("/etc/")]
    if conffiles:
        control["conffiles"] = "".join(f"{path}\n" for path in conffiles).encode()
    root = Entry("/", Node("directory", 0o755, mtime=tree.mtime))
    return Deb(control, [root, *(entries[path] for path in sorted(entries))])
