"""The file tree of a guest before it becomes a disk: names and attributes in memory, contents in one spool
file.

Nothing is unpacked to the host's file system, so owners, device nodes and case-sensitive names need neither
root nor a particular host, and a hostile archive cannot reach outside: every path is a path in this tree.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from storage.images.errors import BadTree

PIECE = 1 << 20
MAX_LINKS = 32  # symbolic links followed in one lookup, as Linux allows 40

Kind = Literal["file", "directory", "symlink", "character", "block"]


class Spool:
    """An append-only scratch file that holds file contents; safe to add to from several threads."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._end = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def _reserve(self, size: int) -> int:
        with self._lock:
            offset = self._end
            self._end += size
        return offset

    def add(self, data: bytes) -> Content:
        offset = self._reserve(len(data))
        _write_all(self._fd, data, offset)
        return Content(self, offset, len(data))

    def add_stream(self, stream: BinaryIO, size: int) -> Content:
        """Copies exactly `size` bytes; a shorter stream raises `BadTree`."""
        offset = self._reserve(size)
        done = 0
        while done < size:
            piece = stream.read(min(PIECE, size - done))
            if not piece:
                raise BadTree("A file in an archive ends early.")
            _write_all(self._fd, piece, offset + done)
            done += len(piece)
        return Content(self, offset, size)

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of one file, kept in a spool."""

    spool: Spool
    offset: int
    size: int

    def pieces(self) -> Iterator[bytes]:
        for done in range(0, self.size, PIECE):
            yield self.spool.read(self.offset + done, min(PIECE, self.size - done))

    def read(self) -> bytes:
        return self.spool.read(self.offset, self.size)


@dataclass(slots=True, eq=False)
class Node:
    """One inode. Hard links are several names for one node."""

    kind: Kind
    mode: int  # permission bits only, with setuid, setgid and sticky
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    content: Content | None = None
    target: str = ""
    device: tuple[int, int] = (0, 0)
    children: dict[str, Node] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return self.content.size if self.content else 0


def split_path(path: str) -> list[str]:
    """The parts of a path, relative to the root; raises `BadTree` for what climbs out or cannot be a name."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for part in parts:
        if part == ".." or "\0" in part or len(part.encode("utf-8", "surrogateescape")) > 255:
            raise BadTree(f"{path!r} is not a path inside the image.")
    return parts


class Tree:
    """A root directory and what is below it. Paths may be given with or without the leading slash."""

    def __init__(self, spool: Spool, mtime: int = 0) -> None:
        self.spool = spool
        self.mtime = mtime
        self.root = Node("directory", 0o755, mtime=mtime)

    def find(self, path: str, *, follow: bool = True) -> Node | None:
        """The node at a path, through symbolic links (the last one only with `follow`), or None."""
        parts = split_path(path)
        stack = [self.root]
        budget = MAX_LINKS
        while parts:
            part = parts.pop(0)
            if part == "..":
                if len(stack) > 1:
                    stack.pop()
                continue
            node = stack[-1].children.get(part)
            if node is None:
                return None
            if node.kind == "symlink" and (parts or follow):
                budget -= 1
                if budget < 0:
                    raise BadTree(f"Too many symbolic links at {path!r}.")
                if node.target.startswith("/"):
                    stack = [self.root]
                parts = [p for p in node.target.split("/") if p not in ("", ".")] + parts
                continue
            if parts and node.kind != "directory":
                return None
            stack.append(node)
        return stack[-1]

    def make_directory(self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Node:
        """The directory at a path, made with its parents if it is not there."""
        done: list[str] = []
        node = self.root
        for part in split_path(path):
            done.append(part)
            found = self.find("/".join(done))
            if found is None:
                if part in node.children:
                    raise BadTree(f"/{'/'.join(done)} is a link to nowhere, a directory is needed.")
                found = Node("directory", 0o755, mtime=self.mtime)
                node.children[part] = found
                if len(done) == len(split_path(path)):
                    found.mode, found.uid, found.gid = mode, uid, gid
            if found.kind != "directory":
                raise BadTree(f"/{'/'.join(done)} is not a directory.")
            node = found
        return node

    def put(self, path: str, node: Node) -> None:
        """Gives a node a (further) name. Replaces what is there, but never a directory by something else."""
        parts = split_path(path)
        if not parts:
            raise BadTree("The root directory cannot be replaced.")
        parent = self.make_directory("/".join(parts[:-1]))
        old = parent.children.get(parts[-1])
        if old is not None and old.kind == "directory":
            raise BadTree(f"/{'/'.join(parts)} is a directory and cannot be replaced.")
        parent.children[parts[-1]] = node

    def write(self, path: str, data: bytes | str, mode: int = 0o644, uid: int = 0, gid: int = 0) -> Node:
        raw = data.encode() if isinstance(data, str) else data
        node = Node("file", mode, uid, gid, self.mtime, self.spool.add(raw))
        self.put(path, node)
        return node

    def link(self, path: str, target: str) -> None:
        self.put(path, Node("symlink", 0o777, mtime=self.mtime, target=target))

    def read(self, path: str) -> bytes | None:
        node = self.find(path)
        return node.content.read() if node is not None and node.content is not None else None

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Every name below the root, parents first, in byte order of names."""
        stack = [("", self.root)]
        while stack:
            path, node = stack.pop()
            if path:
                yield path, node
            if node.kind == "directory":
                stack.extend(
                    (f"{path}/{name}", node.children[name])
                    for name in sorted(node.children, key=os.fsencode, reverse=True)
                )
