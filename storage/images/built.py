"""The pipeline's first step: making the disk, with the result kept for a while."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from storage.errors import PublishCancelled
from storage.images.build import DiskBuild, build_disk
from storage.images.cut import cut_disk
from storage.images.recipe import Recipe
from storage.images.report import Report
from storage.images.work import cache_dir, locked, once, prune

# A run that goes on takes the disk as it was made; a later one asks the mirror for newer packages.
FRESH_S = 3600
TITLES = {
    "download": "Downloading packages",
    "unpack": "Unpacking packages",
    "compile": "Compiling Python's modules",
    "write": "Writing the disk",
}


@dataclass(frozen=True)
class BuiltDisk:
    """What the packages became: a raw disk that has not been booted, and what boots it.

    `firmware` is as in `DiskBuild`, `identity` a digest of all of it, `packages` has versions by name.
    """

    disk: Path
    firmware: dict[str, Path]
    identity: str
    packages: dict[str, str]


def build(recipe: Recipe, report: Report) -> BuiltDisk:
    """Makes the recipe's disk, or takes the one that was made within the last hour by the same code."""
    key = hashlib.sha256(
        json.dumps([repr(recipe.contents()), settings.DEBIAN_MIRROR, _code_version()]).encode()
    ).hexdigest()
    parent = cache_dir() / "built"
    folder = parent / f"{recipe.slug}-{key[:24]}"

    def make(out: Path) -> None:
        made = _build_in_thread(recipe, out, report)
        report.step("Checking the disk")
        identity = hashlib.sha256(cut_disk(made.disk, report).root.encode())
        for name, path in sorted(made.firmware.items()):
            identity.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
        facts: dict[str, Any] = {"identity": identity.hexdigest(), "packages": made.packages}
        facts["disk"] = made.disk.name
        facts["firmware"] = {name: path.name for name, path in made.firmware.items()}
        (out / "built.json").write_text(json.dumps(facts), encoding="utf-8")

    with locked(folder, report):
        out = folder / "out"
        if out.is_dir() and time.time() - (out / "built.json").stat().st_mtime > FRESH_S:
            shutil.rmtree(out)
        if not once(out, make):
            report.log("The disk was made within the last hour; it is taken from the cache.")
    prune(parent, keep=folder)
    facts = json.loads((out / "built.json").read_bytes())
    firmware = {name: out / file for name, file in facts["firmware"].items()}
    return BuiltDisk(out / facts["disk"], firmware, facts["identity"], facts["packages"])


def _code_version() -> str:
    """A digest of everything beside this file: the code that makes disks and the guest's own files."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted(here.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(here)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


class _Relay:
    """Takes `build_disk`'s reports from any of its threads; what it says is passed on by the thread of the
    job.
    """

    def __init__(self) -> None:
        self.is_stopped = False
        self.latest: tuple[str, int, int] | None = None
        self.notes: deque[str] = deque()

    def __call__(self, step: str, done: int, total: int, note: str) -> None:
        if self.is_stopped:
            raise PublishCancelled
        if note:
            self.notes.append(note)
        else:
            self.latest = (step, done, total)


def _build_in_thread(recipe: Recipe, out: Path, report: Report) -> DiskBuild:
    relay = _Relay()
    shown = ""
    with ThreadPoolExecutor(1, thread_name_prefix="build") as pool:
        future = pool.submit(
            build_disk,
            recipe,
            mirror=settings.DEBIAN_MIRROR or None,
            cache_dir=cache_dir() / "debian",
            work_dir=out,
            report=relay,
        )
        report.step("Looking for packages")
        try:
            while True:
                finished = wait([future], timeout=0.25).done
                while relay.notes:
                    report.log(relay.notes.popleft())
                if relay.latest:
                    step, done, total = relay.latest
                    if step != shown:
                        report.step(TITLES.get(step, step))
                        shown = step
                    report.progress(done, total, "bytes")
                if finished:
                    return future.result()
                report.tick()
        except BaseException:
            relay.is_stopped = True
            raise
