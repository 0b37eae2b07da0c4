"""Reading Debian packages (deb(5): an ar archive of debian-binary, control.tar and data.tar) without trusting
them.
"""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

import zstandard

from storage.images.errors import BadPackage, BadTree
from storage.images.tree import Content, Node, Spool, split_path

AR_MAGIC = b"!<arch>\n"
MAX_CONTROL = 32 << 20  # bytes of all control files of one package
MAX_UNPACKED = 4 << 30  # bytes of all files of one package
MAX_MEMBERS = 200_000

DECOMPRESS: dict[str, Callable[[BinaryIO], IO[bytes]]] = {
    "": lambda raw: raw,
    ".gz": lambda raw: cast(IO[bytes], gzip.GzipFile(fileobj=raw)),
    ".xz": lambda raw: cast(IO[bytes], lzma.LZMAFile(raw)),  # noqa: SIM115 - `raw` closes
    ".zst": lambda raw: cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(raw)),
}
Wanted = Callable[[str], bool]  # says of a path whether its contents are kept


@dataclass(frozen=True)
class Deb:
    """An opened package: its control files (name → bytes) and what its data archive holds, in order."""

    control: dict[str, bytes]
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the data archive: a path with leading slash, and a node or the path of the hard link's
    target.
    """

    path: str
    node: Node | None
    hardlink: str = ""


class _Slice(io.RawIOBase):
    """A window of a file, as a readable stream."""

    def __init__(self, stream: BinaryIO, offset: int, size: int) -> None:
        self._stream, self._left = stream, size
        stream.seek(offset)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        data = self._stream.read(min(len(view), self._left))
        self._left -= len(data)
        view[: len(data)] = data
        return len(data)


class _Limited(io.RawIOBase):
    """Passes a decompressed stream on and refuses to give out more than `limit` bytes of it."""

    def __init__(self, stream: IO[bytes], limit: int, name: str) -> None:
        self._stream, self._left, self._name = stream, limit, name

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise BadPackage(f"{self._name} unpacks to more than is allowed.")
        return data


def _ar_members(stream: BinaryIO) -> Iterator[tuple[str, int, int]]:
    """Yields (name, offset, size) of each member."""
    if stream.read(8) != AR_MAGIC:
        raise BadPackage("The file is not a Debian package: no ar archive.")
    end = stream.seek(0, io.SEEK_END)
    position = 8
    while position + 60 <= end:
        stream.seek(position)
        header = stream.read(60)
        size_field = header[48:58].strip()
        if header[58:] != b"`\n" or not size_field.isdigit():
            raise BadPackage("The package's ar archive is damaged.")
        size = int(size_field)
        if position + 60 + size > end:
            raise BadPackage("The package is cut short.")
        yield header[:16].decode("ascii", "replace").rstrip().rstrip("/"), position + 60, size
        position += 60 + size + size % 2


@contextmanager
def _open_tar(raw: BinaryIO, name: str, limit: int) -> Iterator[tarfile.TarFile]:
    decompress = DECOMPRESS.get(name.rpartition(".tar")[2])
    if decompress is None:
        raise BadPackage(f"The package has a member {name!r} of unknown compression.")
    stream = decompress(raw)
    with tarfile.open(fileobj=cast(IO[bytes], _Limited(stream, limit, name)), mode="r|") as tar:
        yield tar


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for count, member in enumerate(tar):
        if count >= MAX_MEMBERS:
            raise BadPackage("The package holds more files than is allowed.")
        yield member


def _read_control(tar: tarfile.TarFile) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for member in _members(tar):
        parts = split_path(member.name)
        if not parts or member.isdir():
            continue
        if len(parts) != 1 or not member.isfile():
            raise BadPackage(f"The package's control archive holds {member.name!r}.")
        stream = tar.extractfile(member)
        files[parts[0]] = stream.read() if stream else b""
    if "control" not in files:
        raise BadPackage("The package has no control file.")
    return files


def _read_data(tar: tarfile.TarFile, spool: Spool, wanted: Wanted | None) -> Iterator[Entry]:
    for member in _members(tar):
        if member.name.startswith("/"):
            raise BadPackage(f"The package holds the absolute path {member.name!r}.")
        path = "/" + "/".join(split_path(member.name))
        node = Node("file", member.mode & 0o7777, member.uid, member.gid, int(member.mtime))
        if member.isdir():
            node.kind = "directory"
        elif member.issym():
            node.kind, node.mode, node.target = "symlink", 0o777, member.linkname
            if not 0 < len(member.linkname) < 4096:
                raise BadPackage(f"The package's symbolic link {path} is not valid.")
        elif member.islnk():
            yield Entry(path, None, "/" + "/".join(split_path(member.linkname)))
            continue
        elif member.isfile():
            stream = tar.extractfile(member)
            if wanted is None or wanted(path):
                node.content = spool.add_stream(cast(BinaryIO, stream), member.size)
            else:
                node.content = Content(spool, 0, 0)
        else:
            raise BadPackage(f"The package holds a device node, {path}: packages may not.")
        yield Entry(path, node)


def read_deb(path: Path, spool: Spool, wanted: Wanted | None = None) -> Deb:
    """Reads a whole package; file contents go to the spool, those that are not `wanted` are left out.

    Raises `BadPackage` for anything that is not a well-formed, harmless package.
    """
    control: dict[str, bytes] | None = None
    entries: list[Entry] | None = None
    try:
        with path.open("rb") as stream:
            for name, offset, size in list(_ar_members(stream)):
                raw = cast(BinaryIO, io.BufferedReader(_Slice(stream, offset, size), 1 << 18))
                if name == "debian-binary":
                    if not raw.read(4).startswith(b"2."):
                        raise BadPackage("The package is of an unknown format version.")
                elif name.startswith("control.tar") and control is None:
                    with _open_tar(raw, name, MAX_CONTROL) as tar:
                        control = _read_control(tar)
                elif name.startswith("data.tar") and entries is None:
                    with _open_tar(raw, name, MAX_UNPACKED) as tar:
                        entries = list(_read_data(tar, spool, wanted))
    except (tarfile.TarError, lzma.LZMAError, EOFError, zstandard.ZstdError, gzip.BadGzipFile) as error:
        raise BadPackage(f"{path.name} is damaged: {error}") from error
    except (BadPackage, BadTree) as error:
        raise BadPackage(f"{path.name}: {error.text}") from error
    if control is None or entries is None:
        raise BadPackage(f"{path.name} has no control or no data archive.")
    return Deb(control, entries)
