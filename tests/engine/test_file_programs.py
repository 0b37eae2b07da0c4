"""Programs that use files: natively, on a directory of the host, on an ext4 image. Same output."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

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
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ext4 image with the utilities and their libraries, as mke2fs makes it from a directory."""
    folder = tmp_path_factory.mktemp("disk")
    tree = folder / "tree"
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
    disk = folder / "disk.ext4"
    environment = {**os.environ, "PATH": SYSTEM}
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-d", str(tree), str(disk), "96M"],
        env=environment,
        check=True,
    )
    return disk


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


def test_shell_on_an_ext4_image(image: Path, tmp_path: Path) -> None:
    expected = natively(scripted(), make(tmp_path / "native"))
    assert engine(["--disk", str(image), "--cwd", "/work"], scripted()) == expected


def test_python_on_a_host_directory(tmp_path: Path) -> None:
    command = ["/usr/bin/python3", str(PROGRAMS / "files.py")]
    expected = natively(command, make(tmp_path / "native"))
    assert "Traceback (most recent call last):" not in expected
    assert engine(["--root", "/", "--cwd", str(make(tmp_path / "engine"))], command) == expected


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder
