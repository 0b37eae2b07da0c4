"""A snapshot as one file: a tar of the raw devices, as a run of zstd frames (docs/design/archive.md)."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from functools import lru_cache

from sessions.archives.manifest import MEMBERS, describe_snapshot
from sessions.devices import DeviceName, device_of
from sessions.models import Snapshot
from storage.codec import BLOCK, CHUNK_BYTES, digest_of, encode_frame
from storage.devices import Piece, read_pieces

ZERO_PIECE_DIGEST = digest_of(bytes(CHUNK_BYTES))
SUFFIX = ".webvm.tar.zst"


def archive_parts(snapshot: Snapshot) -> Iterator[bytes]:
    """The archive, in parts of at most 288 KiB that are whole zstd frames; the same snapshot gives the same
    bytes.

    `vm.image_version.image` and the picture should be loaded. A chunk that is a whole piece is passed
    on as it is stored, once it is verified: what costs time is reading, not compressing. Raises
    as `read_pieces` does.
    """
    manifest = describe_snapshot(snapshot).model_dump_json(indent=1).encode()
    digests: dict[str, str] = {}
    for name in MEMBERS:
        if name == MEMBERS[-1]:
            yield from _small(snapshot, name, json.dumps(digests, indent=1).encode())
        elif name == MEMBERS[0]:
            digests[name] = hashlib.sha256(manifest).hexdigest()
            yield from _small(snapshot, name, manifest)
        else:
            yield from _device(snapshot, name, digests)
    yield encode_frame(bytes(2 * tarfile.BLOCKSIZE))


def file_name(snapshot: Snapshot, suffix: str) -> str:
    """What to call a download: the machine's name without anything that a file system minds."""
    return (re.sub(r"[^\w -]+", "-", snapshot.vm.name).strip(" -") or "machine") + suffix


class PieceDigest:
    """The digest of a device in an archive: SHA-256 of the SHA-256s of its 256 KiB pieces, in order.

    So zeros cost nothing, whatever a disk's size, and pieces that are chunks are hashed once.
    """

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def add(self, digest: bytes) -> None:
        self._sum.update(digest)

    def add_zeros(self, size: int) -> None:
        whole, rest = divmod(size, CHUNK_BYTES)
        self._sum.update(ZERO_PIECE_DIGEST * whole)
        if rest:
            self._sum.update(digest_of(bytes(rest)))

    def hex(self) -> str:
        return self._sum.hexdigest()


def _device(snapshot: Snapshot, name: str, digests: dict[str, str]) -> Iterator[bytes]:
    kind: DeviceName = "disk" if name == "disk.raw" else "memory"
    device = device_of(snapshot.vm, snapshot, kind)
    yield encode_frame(_header(snapshot, name, device.blocks * BLOCK))
    total = PieceDigest()
    for piece in read_pieces(device.root, device.home, device.blocks):
        if piece.raw is None:
            total.add_zeros(piece.size)
            yield _zero_frame(piece.size)
        else:
            total.add(digest_of(piece.raw))
            yield _frame(piece, piece.raw)
    digests[name] = total.hex()


def _frame(piece: Piece, raw: bytes) -> bytes:
    return piece.frame or encode_frame(raw)


def _small(snapshot: Snapshot, name: str, raw: bytes) -> Iterator[bytes]:
    padding = bytes(-len(raw) % tarfile.BLOCKSIZE)
    yield encode_frame(_header(snapshot, name, len(raw)) + raw + padding)


def _header(snapshot: Snapshot, name: str, size: int) -> bytes:
    """A plain ustar header; a disk of 8 GiB or more has its size in a pax header before it."""
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    member.mtime = int(snapshot.created_at.timestamp())
    return member.tobuf(tarfile.PAX_FORMAT)


@lru_cache(maxsize=64)
def _zero_frame(size: int) -> bytes:
    """Zeros of a device's end, or of a whole leaf, are few different sizes."""
    return encode_frame(bytes(size))
