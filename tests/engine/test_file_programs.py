"""Programs that use files: natively, on a directory of the host, on an ext4 image. Same output."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.images.ext4 import write_image
from storage.images.tree import Spool, Tree
from tests.engine.test_programs import NODE, PROGRAMS, RUNNER, core, finished

__all__ = ["core"]

UTILITIES = [
    "bash",
    "sh",
    "basename",
    "cat",
    "chgrp",
    "chmod",
    "chown",
    "cksum",
    "cmp",
    "cp",
    "cut",
    "dd",
    "diff",
    "env",
    "fallocate",
    "find",
    "grep",
    "gzip",
    "head",
    "install",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mknod",
    "mktemp",
    "mv",
    "od",
    "paste",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "sed",
    "shred",
    "sort",
    "split",
    "stat",
    "sync",
    "tail",
    "tar",
    "tee",
    "touch",
    "tr",
    "truncate",
    "wc",
    "mawk",
]
SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the utilities and their libraries."""
    tree = tmp_path_factory.mktemp("system")
    for name in ("usr/bin", "usr/lib", "usr/lib64", "tmp", "work", "dev", "proc", "sys", "etc"):
        (tree / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    for name in UTILITIES:
        program = shutil.which(name, path=SYSTEM)
        assert program is not None, name
        shutil.copy(program, tree / "usr/bin" / ("awk" if name == "mawk" else name))
        needed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"(/\S+) \(0x", needed):
            target = tree / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
    return tree


def made_by_mke2fs(system: Path, disk: Path) -> None:
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-d", str(system), str(disk), "96M"]
    subprocess.run(command, env={**os.environ, "PATH": SYSTEM}, check=True)


def made_by_the_pipeline(system: Path, disk: Path) -> None:
    with Spool(disk.with_suffix(".spool")) as spool:
        tree = Tree(spool, mtime=1_700_000_000)
        for path in sorted(system.rglob("*")):
            name = f"/{path.relative_to(system)}"
            if path.is_symlink():
                tree.link(name, os.readlink(path))
            elif path.is_dir():
                tree.make_directory(name)
            else:
                tree.write(name, path.read_bytes(), path.stat().st_mode & 0o777)
        write_image(disk, tree, 96 << 20, identity=bytes(range(16)), timestamp=1_700_000_000)


def lines(text: str) -> list[str]:
    # Which shell it is that complains differs with how it was called.
    return [
        re.sub(r"^(bash|environment|main|/\S*): line \d+: ", "shell: ", line) for line in text.splitlines()
    ]


def natively(command: list[str], folder: Path) -> list[str]:
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": SYSTEM, "LC_ALL": "C", "HOME": "/root"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    return lines(done.stdout)


def engine(options: list[str], command: list[str]) -> list[str]:
    wrapped = ["bash", "-c", 'exec "$@" 2>&1 < /dev/null', "-", *command]
    outcome, _ = finished(
        [str(NODE), str(RUNNER), *options, "--env", f"PATH={SYSTEM}", "--env", "LC_ALL=C", "--", *wrapped]
    )
    return lines(outcome.output)


def scripted() -> list[str]:
    return ["bash", "-c", (PROGRAMS / "files.sh").read_text()]


def test_shell_on_a_host_directory(tmp_path: Path) -> None:
    expected = natively(scripted(), make(tmp_path / "native"))
    assert len(expected) > 200
    assert engine(["--root", "/", "--cwd", str(make(tmp_path / "engine"))], scripted()) == expected


@pytest.mark.parametrize("make_disk", [made_by_mke2fs, made_by_the_pipeline])
def test_shell_on_an_ext4_image(
    make_disk: Callable[[Path, Path], None], system: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk.ext4"
    make_disk(system, disk)
    expected = natively(scripted(), make(tmp_path / "native"))
    assert engine(["--disk", str(disk), "--cwd", "/work"], scripted()) == expected


def test_python_on_a_host_directory(tmp_path: Path) -> None:
    command = ["/usr/bin/python3", str(PROGRAMS / "files.py")]
    expected = natively(command, make(tmp_path / "native"))
    assert "Traceback (most recent call last):" not in expected
    assert engine(["--root", "/", "--cwd", str(make(tmp_path / "engine"))], command) == expected


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder
