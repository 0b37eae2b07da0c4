"""The tree is as dpkg would have left it: files, database, and which scripts the guest still has to run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.images.deb import Deb, Entry
from storage.images.debroot import DEFAULTS, PREINST_LIST, PathFilter, merge_usr, unpack_packages
from storage.images.errors import BadPackage
from storage.images.guest_package import guest_package, make_guest_deb
from storage.images.recipe import parse_recipe
from storage.images.resolve import Package
from storage.images.scripts import has_work
from storage.images.tree import Node, Spool, Tree

ALL = PathFilter([], [])
HELPER = b"""#!/bin/sh
set -e
# Automatically added by dh_installdeb/13.11.4
dpkg-maintscript-helper rm_conffile /etc/old 1.0~ -- "$@"
# End automatically added section
# Automatically added by dh_installsystemd/13.11.4
if [ "$1" = "configure" ]; then
    deb-systemd-helper enable x.timer
fi
# End automatically added section
exit 0
"""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Spool(tmp_path / "spool") as spool:
        made = Tree(spool, mtime=5)
        merge_usr(made, "i386")
        yield made


def unpack(tree: Tree, debs: dict[str, Deb], wanted: PathFilter = ALL) -> None:
    packages = [Package(deb.control["control"].decode().rstrip("\n")) for deb in debs.values()]
    unpack_packages(tree, packages, {}, debs, wanted, lambda done, total: None)


def make(tree: Tree, name: str, files: dict[str, bytes], fields: str = "", **control: bytes) -> Deb:
    stanza = f"Package: {name}\nVersion: 1\nArchitecture: i386\n{fields}Description: x\n"
    entries = [Entry("/", Node("directory", 0o755))]
    for path, body in files.items():
        entries.append(Entry(path, Node("file", 0o644, content=tree.spool.add(body))))
    return Deb({"control": stanza.encode(), **control}, entries)


def status(tree: Tree, name: str) -> str:
    text = (tree.read("/var/lib/dpkg/status") or b"").decode()
    return next(stanza for stanza in text.split("\n\n") if stanza.startswith(f"Package: {name}\n"))


def test_it_works(tree: Tree) -> None:
    plain = make(tree, "plain", {"/bin/tool": b"t", "/etc/plain.conf": b"c"}, conffiles=b"/etc/plain.conf\n")
    pending = make(tree, "pending", {}, preinst=b"#!/bin/sh\ntouch /x\n", postinst=b"#!/bin/sh\ntouch /y\n")
    unpack(tree, {"plain": plain, "pending": pending})
    assert tree.read("/usr/bin/tool") == b"t"
    assert "Status: install ok installed\n" in status(tree, "plain")
    assert f" /etc/plain.conf {hashlib.md5(b'c', usedforsecurity=False).hexdigest()}" in status(tree, "plain")
    assert "Status: install ok unpacked\n" in status(tree, "pending")
    assert tree.read("/var/lib/dpkg/info/plain.list") == b"/.\n/bin/tool\n/etc/plain.conf\n"
    script = tree.find("/var/lib/dpkg/info/pending.postinst")
    assert script is not None
    assert script.mode == 0o755
    assert tree.read(PREINST_LIST) == b"/var/lib/dpkg/info/pending.preinst\n"


def test_what_several_architectures_may_share_is_named_with_its_own(tree: Tree) -> None:
    unpack(tree, {"libx": make(tree, "libx", {}, "Multi-Arch: same\n", md5sums=b"")})
    assert tree.read("/var/lib/dpkg/info/libx:i386.list") is not None
    assert tree.read("/var/lib/dpkg/info/libx.list") is None


def test_triggers_and_defaults_are_registered(tree: Tree) -> None:
    triggers = b"# comment\ninterest-noawait /usr/share/icons\ninterest ldconfig\nactivate other\n"
    templates = b"Template: a/b\nType: boolean\nDefault: true\nDescription: x\n\nTemplate: a/c\nType: note\n"
    unpack(tree, {"t": make(tree, "t", {}, triggers=triggers, templates=templates)})
    assert tree.read("/var/lib/dpkg/triggers/File") == b"/usr/share/icons t/noawait\n"
    assert tree.read("/var/lib/dpkg/triggers/ldconfig") == b"t\n"
    assert b"a/b\ttrue\n" in (tree.read(DEFAULTS) or b"")
    assert b"a/c" not in (tree.read(DEFAULTS) or b"")


def test_excluded_paths_are_left_out_but_listed_as_dpkg_does(tree: Tree) -> None:
    wanted = PathFilter(["/usr/share/doc/*"], ["/usr/share/doc/*/copyright"])
    deb = make(
        tree, "d", {"/usr/share/doc/d/copyright": b"c", "/usr/share/doc/d/README": b"r", "/usr/share/x": b"x"}
    )
    unpack(tree, {"d": deb}, wanted)
    assert tree.find("/usr/share/doc/d/README") is None
    assert tree.read("/usr/share/doc/d/copyright") == b"c"
    assert tree.read("/usr/share/x") == b"x"
    assert b"README" in (tree.read("/var/lib/dpkg/info/d.list") or b"")


def test_a_hard_link_is_a_second_name_and_must_have_a_first(tree: Tree) -> None:
    deb = make(tree, "h", {"/usr/bin/one": b"1"})
    unpack(tree, {"h": Deb(deb.control, [*deb.entries, Entry("/usr/bin/two", None, "/usr/bin/one")])})
    assert tree.find("/usr/bin/one") is tree.find("/usr/bin/two")
    with pytest.raises(BadPackage, match="hard link"):
        unpack(tree, {"h": Deb(deb.control, [Entry("/usr/bin/three", None, "/etc/shadow")])})


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (b"", False),
        (HELPER, False),
        (HELPER.replace(b"#!/bin/sh", b"#!/usr/bin/perl"), True),
        (HELPER + b"touch /x\n", True),
        (HELPER.replace(b"dh_installsystemd", b"dh_installalternatives"), True),
        (b"#!/bin/sh\n. /usr/share/debconf/confmodule\ndb_version 2.0\nexit 0\n", False),
        (b'#!/bin/sh\ndpkg-maintscript-helper rm_conffile /a \\\n  1.0 -- "$@"\n', False),
        (b"\x7fELF", True),
    ],
)
def test_only_scripts_with_work_are_left_to_the_guest(script: bytes, expected: bool) -> None:
    assert has_work(script) is expected


def test_only_64_bit_debian_has_a_directory_for_its_loader(tree: Tree) -> None:
    assert tree.find("/lib64") is None
    merge_usr(other := Tree(tree.spool), "amd64")
    link = other.find("/lib64", follow=False)
    assert link is not None
    assert link.target == "usr/lib64"


@pytest.mark.parametrize(
    ("machine", "programs", "others", "fields"),
    [
        (
            "pc",
            {"/sbin/init": b"#!", "/usr/lib/webvm/agent": b"\x7fELF", "/usr/lib/webvm/console": b"#!"},
            (),
            "Provides: linux-initramfs-tool",
        ),
        (
            "linux",
            {"/sbin/init": b"\x7fELF"},
            ("/usr/lib/webvm/agent", "/usr/lib/webvm/console", "/etc/kernel-img.conf"),
            "Architecture: amd64",
        ),
    ],
)
def test_our_own_package_is_a_package_like_any_other(
    tree: Tree, machine: str, programs: dict[str, bytes], others: tuple[str, ...], fields: str
) -> None:
    recipe = parse_recipe(
        f'slug = "s"\ntitle = "S"\nmachine = "{machine}"\nsuite = "bookworm"\n'
        'exclude = ["/usr/share/man/*"]\n[boot]\nprompt = "#"\n'
    )
    unpack(tree, {guest_package(recipe).name: make_guest_deb(recipe, tree)})
    assert "Status: install ok installed" in status(tree, "webvm-guest")
    assert fields in status(tree, "webvm-guest")
    common = dict.fromkeys(("/usr/lib/webvm/configure", "/sbin/poweroff", "/sbin/policy-rc.d"), b"#!")
    for path, start in {**common, **programs}.items():
        program = tree.find(path)
        assert program is not None
        assert program.mode == 0o755
        assert (tree.read(path) or b"").startswith(start)
    assert [path for path in others if tree.find(path)] == []
    assert tree.read("/etc/dpkg/dpkg.cfg.d/webvm") == b"path-exclude=/usr/share/man/*\n"
    for line in (tree.read("/var/lib/dpkg/info/webvm-guest.md5sums") or b"").decode().splitlines():
        digest, path = line.split("  ")
        assert hashlib.md5(tree.read(f"/{path}") or b"", usedforsecurity=False).hexdigest() == digest
