"""A package's files in the user's cache, from a Debian archive with verified signatures."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs

from storage.images.apt import fetch_packages
from storage.images.deb import read_deb
from storage.images.sources import find_sources
from storage.images.tree import Spool

CACHE = Path(os.environ.get("CACHE_DIR") or platformdirs.user_cache_dir("webvm", appauthor=False))
SUITES = CACHE / "suites"


def results_of(suite: str) -> Path:
    return SUITES / f"{suite}.json"


def unpack(names: list[str], prefix: str, folder: Path) -> Path:
    """The files below `prefix` of the packages, in `folder`; done once, and then whole."""
    if folder.is_dir():
        return folder
    chosen = fetch_packages(
        find_sources(os.environ.get("DEBIAN_MIRROR"), "bookworm"),
        "amd64",
        [],
        CACHE / "packages",
        lambda _done, _total: None,
        loose=names,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        target = Path(name) / "files"
        target.mkdir()
        for package in names:
            _write(chosen.files[package], target, lambda path: path.startswith(prefix), len(prefix))
        (target / ".versions").write_text(
            "".join(f"{package.name} {package.fields['version']}\n" for package in chosen.loose)
        )
        shutil.move(target, folder)
    return folder


def version(folder: Path) -> str:
    """Of the last of the packages there."""
    return (folder / ".versions").read_text().split()[-1]


def _write(deb: Path, target: Path, wanted: Callable[[str], bool], cut: int) -> None:
    with tempfile.TemporaryDirectory() as work, Spool(Path(work) / "spool") as spool:
        for entry in read_deb(deb, spool, wanted).entries:
            if not wanted(entry.path):
                continue
            path = target / entry.path[cut:].lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.node is None:
                os.link(target / entry.hardlink[cut:].lstrip("/"), path)
            elif entry.node.kind == "directory":
                path.mkdir(exist_ok=True)
            elif entry.node.kind == "symlink":
                path.symlink_to(entry.node.target)
            elif entry.node.content is not None:
                path.write_bytes(entry.node.content.read())
                path.chmod(entry.node.mode)
