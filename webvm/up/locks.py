"""One `up` for a data directory, one build for a checkout, and what a running `up` tells about itself."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from webvm.up.errors import UpError

LEFTOVERS_S = 10.0


def try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def only_one(data_dir: Path) -> Iterator[IO[bytes]]:
    """Be the only `up` on this data directory; raises `UpError` when another one runs.

    Yields the open file that the children are to inherit. Its lock lasts until the last of them is gone, so
    that the next `up` does not meet the children of one that was killed a moment ago.
    """
    run = data_dir / "run"
    run.mkdir(exist_ok=True)
    with (run / "up.lock").open("wb") as mine, (run / "children.lock").open("wb") as children:
        if not try_lock(mine):
            raise UpError(already_running(data_dir))
        deadline = time.monotonic() + LEFTOVERS_S
        while not try_lock(children):
            if time.monotonic() > deadline:
                raise UpError(f"Processes of an earlier run still use {data_dir}: end them, then try again.")
            time.sleep(0.05)
        yield children


def already_running(data_dir: Path) -> str:
    status = read_status(data_dir)
    which = f" (process {status['pid']}, {status['url']})" if status else ""
    return (
        f"WebVM is already running on {data_dir}{which}: use that one, stop it, or choose another --data-dir."
    )


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for whoever has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` as a whole: a reader, or a later run after a crash, sees the old or the new text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def write_status(data_dir: Path, status: dict[str, Any]) -> None:
    """`run/status.json`: the process ids and the address, for people and programs."""
    write_atomically(data_dir / "run" / "status.json", json.dumps(status, indent=1) + "\n")


def read_status(data_dir: Path) -> dict[str, Any] | None:
    """What a running `up` wrote, or None."""
    try:
        status = json.loads((data_dir / "run" / "status.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return status if isinstance(status, dict) and {"pid", "url"} <= status.keys() else None


def remove_status(data_dir: Path) -> None:
    (data_dir / "run" / "status.json").unlink(missing_ok=True)
