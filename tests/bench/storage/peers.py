"""restic and borg, each with a repository of its own that gets one backup for each state."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

from tests.bench.storage.work import size_of


class Peer(ABC):
    """A backup program and its repository. Nothing of it stays outside of `folder`."""

    program: str
    package: str

    def __init__(self, name: str, folder: Path) -> None:
        if not shutil.which(self.program):
            raise SystemExit(
                f"{self.program} is missing: apt-get install --no-install-recommends {self.package}"
            )
        self.name = name
        self.repository = folder / name
        self.seconds: list[float] = []
        self._environ = {
            **os.environ,
            "RESTIC_PASSWORD": "benchmark",
            "BORG_BASE_DIR": f"{folder / name}-own",
        }
        self.init()

    def version(self) -> str:
        """What the program calls itself."""
        flag = "version" if self.program == "restic" else "--version"
        return self.run(flag).strip()

    def back_up(self, number: int, folder: Path) -> int:
        """Store the files of `folder` as state `number`; the repository's bytes."""
        began = time.perf_counter()
        self.create(number, folder)
        self.seconds.append(round(time.perf_counter() - began, 1))
        return size_of(self.repository)

    def run(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [self.program, *arguments],
            cwd=cwd,
            env=self._environ,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{self.program} {' '.join(arguments)} failed:\n{done.stderr}")
        return done.stdout

    @abstractmethod
    def init(self) -> None:
        """Make the repository."""

    @abstractmethod
    def create(self, number: int, folder: Path) -> None:
        """Make one backup."""


class Restic(Peer):
    """Its own chunking (content-defined, 1 MiB on average), and `auto` compression: zstd at level 3."""

    program = package = "restic"

    def init(self) -> None:
        self.run("init", "--repo", str(self.repository), "--repository-version", "2")

    def create(self, number: int, folder: Path) -> None:
        options = ["--repo", str(self.repository), "--compression", "auto", "--no-cache", "--quiet"]
        self.run(*options, "backup", "--tag", str(number), ".", cwd=folder)


class Borg(Peer):
    """Level 3 of zstd and no encryption; its own chunking (content-defined, 2 MiB on average), or another."""

    program, package = "borg", "borgbackup"

    def __init__(self, name: str, folder: Path, *chunker: str) -> None:
        self._chunker = chunker
        super().__init__(name, folder)

    def init(self) -> None:
        self.run("init", "--encryption", "none", str(self.repository))

    def create(self, number: int, folder: Path) -> None:
        options = ["--compression", "zstd,3", "--files-cache", "disabled", *self._chunker]
        self.run("create", *options, f"{self.repository}::{number}", ".", cwd=folder)
