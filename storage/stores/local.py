"""Chunks as files in sharded folders: `<folder>/pub/ab/abcd…`, `<folder>/t/<tenant>/ab/abcd…`."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from storage.errors import ChunkNotFound, StoreUnavailable
from storage.stores import KEY, StoredObject, check_key, check_space

ABANDONED_S = 24 * 3600


class LocalStore:
    """See `ChunkStore`. Objects appear by rename, when their bytes are on the disk."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._is_tidy = False

    def path(self, key: str) -> Path:
        """The file of a key."""
        space, name = check_key(key).rsplit("/", 1)
        return self.folder / space / name[:2] / name

    def put(self, key: str, stored: bytes) -> None:
        path = self.path(key)
        with suppress(OSError):
            if path.stat().st_size == len(stored):
                return
        # Beside the folders of the keys, so that an interrupted write never looks like an object.
        temporary = self.folder / "tmp" / secrets.token_hex(16)
        try:
            self._make_folder(temporary.parent)
            self._tidy(temporary.parent)
            self._make_folder(path.parent)
            with open(temporary, "xb") as file:
                file.write(stored)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise _unavailable(error) from error

    def get(self, key: str) -> bytes:
        try:
            return self.path(key).read_bytes()
        except FileNotFoundError:
            raise ChunkNotFound from None
        except OSError as error:
            raise _unavailable(error) from error

    def exists(self, key: str) -> bool:
        try:
            self.path(key).stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _unavailable(error) from error
        return True

    def delete(self, key: str) -> None:
        path = self.path(key)
        try:
            path.unlink()
            _sync_folder(path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unavailable(error) from error

    def list_spaces(self) -> Iterator[str]:
        if (self.folder / "pub").is_dir():
            yield "pub"
        for name in _names(self.folder / "t"):
            yield f"t/{name}"

    def list_objects(self, space: str, prefix: str = "") -> Iterator[StoredObject]:
        folder = self.folder / check_space(space, prefix)
        for shard in _names(folder):
            if not shard.startswith(prefix[:2]):
                continue
            for name in _names(folder / shard):
                key = f"{space}/{name}"
                if not name.startswith(prefix) or not KEY.fullmatch(key):
                    continue
                with suppress(FileNotFoundError):  # deleted since its folder was read
                    found = (folder / shard / name).stat()
                    yield StoredObject(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def _tidy(self, folder: Path) -> None:
        """Once in a process: removes what writes left that were cut off by a crash long ago."""
        if self._is_tidy:
            return
        self._is_tidy = True
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - ABANDONED_S:
                    path.unlink()

    def _make_folder(self, folder: Path) -> None:
        """Makes the folder and its parents, each durable in its parent before something is put into it."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _names(folder: Path) -> list[str]:
    """What is in a folder, sorted. There are at most 256 shards, and a shard has few of a tenant's chunks."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unavailable(error) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unavailable(error: OSError) -> StoreUnavailable:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreUnavailable(
            "The server's disk is full, so the data was not stored. Free some space and try again."
        )
    return StoreUnavailable(f"The server's chunk folder cannot be used: {error.strerror or error}.")
