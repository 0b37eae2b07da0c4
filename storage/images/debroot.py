"""Unpacking packages into a tree as dpkg would, with dpkg's database."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from storage.images.deb import Deb, Entry, read_deb
from storage.images.errors import BadPackage
from storage.images.resolve import Package
from storage.images.scripts import has_work
from storage.images.tree import Node, Tree

DATABASE = "/var/lib/dpkg"
# Directories of the root that an architecture has beside /lib: its dynamic loader is there.
MULTILIB = {"amd64": ("lib64",)}
THREADS = 2
# Control files that dpkg keeps elsewhere, or not at all.
NOT_INFO = ("control", "list")
# The preinst scripts that the guest is to run, one path a line; read and removed by guest/configure.
PREINST_LIST = "/var/lib/webvm/preinst"
# What debconf would answer: "template<TAB>default" lines, for the stand-ins of guest/configure.
DEFAULTS = "/var/lib/webvm/defaults"
OWN_DEFAULTS = {"tzdata/Areas": "Etc", "tzdata/Zones/Etc": "UTC"}  # templates without a default


class PathFilter:
    """dpkg's path-exclude and path-include: globs in which `*` matches `/` too; an include wins over the
    excludes.
    """

    def __init__(self, exclude: Sequence[str], include: Sequence[str]) -> None:
        self._exclude = self._compile(exclude)
        self._include = self._compile(include)

    @staticmethod
    def _compile(patterns: Sequence[str]) -> re.Pattern[str] | None:
        return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns)) if patterns else None

    def __call__(self, path: str) -> bool:
        if self._exclude is None or not self._exclude.match(path):
            return True
        return self._include is not None and self._include.match(path) is not None


def merge_usr(tree: Tree, architecture: str) -> None:
    """The merged /usr of every Debian since bookworm: /bin, /sbin and /lib are links."""
    for name in ("bin", "sbin", "lib", *MULTILIB.get(architecture, ())):
        tree.make_directory(f"/usr/{name}")
        tree.link(f"/{name}", f"usr/{name}")


def unpack_packages(
    tree: Tree,
    packages: Sequence[Package],
    files: dict[str, Path],
    ready: dict[str, Deb],
    wanted: PathFilter,
    report: Callable[[int, int], None],
) -> None:
    """Puts the packages' files on the tree and writes dpkg's database, in which a package whose postinst has
    no work counts as installed, others as unpacked: `dpkg --configure -a` in the guest does the rest.

    Packages that need no reading are in `ready`. `report(done, total)` counts bytes of packages read. Raises
    `BadPackage`, `BadTree`.
    """
    sizes = {
        package.name: 0 if package.name in ready else files[package.name].stat().st_size
        for package in packages
    }
    total = sum(sizes.values())
    done = 0
    status: list[str] = []
    preinst: list[str] = []
    defaults = dict(OWN_DEFAULTS)
    triggers: dict[str, list[str]] = {}

    def read(package: Package) -> Deb:
        return ready.get(package.name) or read_deb(files[package.name], tree.spool, wanted)

    with ThreadPoolExecutor(THREADS) as pool:
        for package, deb in zip(packages, pool.map(read, packages), strict=True):
            _place(tree, package, deb.entries, wanted)
            defaults |= _template_defaults(deb.control.get("templates", b"")) | OWN_DEFAULTS
            status.append(_register(tree, package, deb, triggers, preinst))
            done += sizes[package.name]
            report(done, total)
    _write_database(tree, status, triggers)
    tree.write(PREINST_LIST, "".join(f"{path}\n" for path in preinst))
    tree.write(DEFAULTS, "".join(f"{name}\t{value}\n" for name, value in defaults.items()))


def _template_defaults(raw: bytes) -> dict[str, str]:
    """The default of each template of a package's debconf templates file."""
    found: dict[str, str] = {}
    name = ""
    for line in raw.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(": ")
        if key == "Template":
            name = value.strip()
        elif key == "Default":
            found[name] = value.strip()
    return found


def _place(tree: Tree, package: Package, entries: Iterable[Entry], wanted: PathFilter) -> None:
    own: dict[str, Node] = {}
    for entry in entries:
        if entry.node is None:
            if entry.hardlink not in own:
                raise BadPackage(f"{package.name}: {entry.path} is a hard link to nothing in the package.")
            own[entry.path] = own[entry.hardlink]
        else:
            own[entry.path] = entry.node
        node = own[entry.path]
        if not wanted(entry.path):
            continue
        if node.kind != "directory":
            tree.put(entry.path, node)
            continue
        found = tree.find(entry.path)
        if found is None:
            found = tree.make_directory(entry.path)
            found.mode, found.uid, found.gid, found.mtime = node.mode, node.uid, node.gid, node.mtime


def _register(
    tree: Tree, package: Package, deb: Deb, triggers: dict[str, list[str]], preinst: list[str]
) -> str:
    """Writes the package's files of the database; returns its stanza of the status file."""
    same = package.fields.get("multi-arch") == "same"
    prefix = f"{DATABASE}/info/{package.name}{':' + package.architecture if same else ''}"
    for name, raw in deb.control.items():
        if name not in NOT_INFO:
            executable = name in ("preinst", "postinst", "prerm", "postrm", "config")
            tree.write(f"{prefix}.{name}", raw, 0o755 if executable else 0o644)
    names = ["/." if entry.path == "/" else entry.path for entry in deb.entries]
    tree.write(f"{prefix}.list", "".join(f"{name}\n" for name in names))
    for line in deb.control.get("triggers", b"").decode("utf-8", "replace").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] in ("interest", "interest-await", "interest-noawait"):
            suffix = "/noawait" if words[0] == "interest-noawait" else ""
            triggers.setdefault(words[1], []).append(f"{package.name}{suffix}")
    if has_work(deb.control.get("preinst", b"")):
        preinst.append(f"{prefix}.preinst")
    pending = has_work(deb.control.get("postinst", b""))
    control = deb.control["control"].decode("utf-8", "replace").rstrip("\n")
    head, _, rest = control.partition("\n")
    stanza = f"{head}\nStatus: install ok {'unpacked' if pending else 'installed'}\n{rest}"
    conffiles = deb.control.get("conffiles", b"").decode("utf-8", "replace").splitlines()
    lines: list[str] = []
    for line in conffiles:
        if not line.startswith("/"):  # "remove-on-upgrade /path"
            continue
        content = tree.read(line)
        digest = (
            hashlib.md5(content, usedforsecurity=False).hexdigest() if content is not None else "newconffile"
        )
        lines.append(f" {line} {digest}")
    if lines:
        stanza += "\nConffiles:\n" + "\n".join(lines)
    return stanza + "\n"


def _write_database(tree: Tree, status: Iterable[str], triggers: dict[str, list[str]]) -> None:
    for name in ("updates", "parts", "triggers", "alternatives", "info"):
        tree.make_directory(f"{DATABASE}/{name}")
    tree.write(f"{DATABASE}/status", "\n".join(status))
    for name in (
        "available",
        "diversions",
        "statoverride",
        "lock",
        "lock-frontend",
        "triggers/Lock",
        "triggers/Unincorp",
    ):
        tree.write(f"{DATABASE}/{name}", b"")
    tree.write(f"{DATABASE}/info/format", "1\n")
    on_files = [f"{path} {who}" for path, list_ in triggers.items() if path.startswith("/") for who in list_]
    tree.write(f"{DATABASE}/triggers/File", "".join(f"{line}\n" for line in on_files))
    for name, interested in triggers.items():
        if not name.startswith("/"):
            tree.write(f"{DATABASE}/triggers/{name}", "".join(f"{who}\n" for who in interested))
