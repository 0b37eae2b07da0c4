"""Where publishing keeps what it has finished, so that a run that was killed goes on and nothing is done
twice.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from django.conf import settings

from storage.images.report import Report

# Finished work of the last few images; each takes about the size of its disk.
KEPT = 3
_COPY_BYTES = 4 * 1024 * 1024


def cache_dir() -> Path:
    """Downloads and built parts that any installation on this computer may share."""
    folder = settings.CACHE_DIR or Path(platformdirs.user_cache_dir("webvm", appauthor=False))
    folder.mkdir(parents=True, exist_ok=True)
    return Path(folder)


@contextmanager
def locked(folder: Path, report: Report) -> Iterator[None]:
    """Holds the folder against other processes; the system lets go of it when this one dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        announced = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not announced:
                    report.log("Waiting for another process that makes the same image.")
                    announced = True
                report.tick()
                time.sleep(0.5)
        yield


def once(folder: Path, make: Callable[[Path], None]) -> bool:
    """Makes `folder` by `make(temporary folder)` unless it is there already. True when it was made now.

    It appears by a rename when it is complete. The caller holds the lock of the folder above.
    """
    if folder.is_dir():
        os.utime(folder)
        return False
    for abandoned in folder.parent.glob(f"{folder.name}.part-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    temporary = folder.with_name(f"{folder.name}.part-{secrets.token_hex(4)}")
    temporary.mkdir(parents=True)
    try:
        make(temporary)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def prune(parent: Path, keep: Path) -> None:
    """Removes finished work but the latest, and never `keep`."""
    folders = [folder for folder in parent.iterdir() if folder.is_dir() and folder != keep]
    folders.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in folders[KEPT - 1 :]:
        with open(folder / ".lock", "w") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def copy_sparse(source: Path, target: Path, report: Report) -> None:
    """Copies a file and keeps its holes, where the system can tell them."""
    size = source.stat().st_size
    with source.open("rb") as read, target.open("xb") as write:
        write.truncate(size)
        for start, end in data_runs(read.fileno(), size):
            read.seek(start)
            write.seek(start)
            while start < end and (piece := read.read(min(_COPY_BYTES, end - start))):
                write.write(piece)
                start += len(piece)
                report.progress(start, size, "bytes")


def data_runs(handle: int, size: int) -> Iterator[tuple[int, int]]:
    """`(start, end)` of the file's parts that are no holes; the whole file where the system cannot tell."""
    if not hasattr(os, "SEEK_DATA"):
        yield 0, size
        return
    at = 0
    while at < size:
        try:
            start = os.lseek(handle, at, os.SEEK_DATA)
        except OSError:  # ENXIO: no data behind this
            return
        at = os.lseek(handle, start, os.SEEK_HOLE)
        yield start, at
