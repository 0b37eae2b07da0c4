"""Reading an archive that anybody may have made: a member after the other, all checked, in bounded memory."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import zstandard
from pydantic import TypeAdapter, ValidationError

from sessions.archives.errors import ArchiveDamaged, BadArchive, BadMemory, ImageMissing
from sessions.archives.export import PieceDigest
from sessions.archives.machines import BLOCKS_PER_MIB, STATE_FORMATS, STATE_HEADER, can_resume, machine_of
from sessions.archives.manifest import MAX_MANIFEST_BYTES, MEMBERS, Manifest, parse_manifest
from storage.codec import BLOCK, CHUNK_BYTES, MAX_WINDOW_BYTES, digest_of
from storage.devices import LEAF_BYTES
from storage.models import ImageVersion

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZEROS = bytes(CHUNK_BYTES)
_DIGESTS = TypeAdapter(dict[str, str])
# What tar may put behind the end: its records are 10 KiB, or as `--blocking-factor` says.
_MAX_END_BYTES = 1 << 20
_PAX_BYTES = 64 * 1024
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Checked:
    """An archive that was read to its end and found right."""

    manifest: Manifest
    version: ImageVersion


class ArchiveReader:
    """The members of an archive in order. Every method raises `BadArchive` or `ArchiveDamaged`.

    `tick` hears how many raw bytes were read, some at a time, and may raise.
    """

    def __init__(self, file: BinaryIO, tick: Tick) -> None:
        if file.read(len(ZSTD_MAGIC)) != ZSTD_MAGIC:
            raise BadArchive("This file is not an archive of a machine: it is not compressed with zstd.")
        file.seek(0)
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        self._stream = decompressor.stream_reader(file, read_across_frames=True)
        self._tick = tick

    def small(self, name: str, limit: int = MAX_MANIFEST_BYTES) -> bytes:
        """A member that fits into memory."""
        size = self._header(name)
        if size > limit:
            raise BadArchive(f"The archive's {name} is too large.")
        raw = self._exactly(size)
        self._exactly(-size % tarfile.BLOCKSIZE)
        return raw

    def device(self, name: str, size: int) -> Iterator[bytes]:
        """A device of `size` bytes, in parts of 4 MiB but for the last one."""
        if self._header(name) != size:
            raise BadArchive(f"The archive's {name} does not have the size that its manifest says.")
        for at in range(0, size, LEAF_BYTES):
            yield self._exactly(min(LEAF_BYTES, size - at))

    def end(self) -> None:
        """Nothing but zeros may follow."""
        left = _MAX_END_BYTES
        rest = self._exactly(2 * tarfile.BLOCKSIZE)
        while rest:
            if any(rest) or left < 0:
                raise BadArchive("The archive has something behind its last member.")
            rest = self._read(CHUNK_BYTES)
            left -= len(rest)

    def _header(self, name: str) -> int:
        """The size of the next member, which must be the plain file `name`."""
        size: int | None = None
        member = self._block(name)
        if member.type == tarfile.XHDTYPE:
            if not 0 < member.size <= _PAX_BYTES:
                raise BadArchive("The archive has an extended header of an impossible size.")
            size = _pax_size(self._exactly(member.size))
            self._exactly(-member.size % tarfile.BLOCKSIZE)
            member = self._block(name)
        if member.type not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            raise BadArchive("The archive has a link, a device or another member that is no plain file.")
        if member.name.removeprefix("./") != name:
            raise BadArchive(f"The archive has another member where {name} should be.")
        size = member.size if size is None else size
        if size < 0:
            raise BadArchive("The archive has a member of an impossible size.")
        return size

    def _block(self, name: str) -> tarfile.TarInfo:
        try:
            return tarfile.TarInfo.frombuf(self._exactly(tarfile.BLOCKSIZE), "utf-8", "replace")
        except tarfile.HeaderError:
            raise BadArchive(f"The archive has no {name} where it should be.") from None

    def _exactly(self, count: int) -> bytes:
        raw = self._read(count)
        if len(raw) != count:
            raise ArchiveDamaged("The archive ends early. Download it again from where it was made.")
        return raw

    def _read(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count:
            try:
                part = self._stream.read(min(count, LEAF_BYTES))
            except zstandard.ZstdError:
                raise ArchiveDamaged from None
            if not part:
                break
            parts.append(part)
            count -= len(part)
            self._tick(len(part))
        return b"".join(parts)


def check_archive(file: BinaryIO, tick: Tick) -> Checked:
    """Reads all of an archive and changes nothing.

    Raises `BadArchive`, `ArchiveDamaged`, `ArchiveVersion`, `ImageMissing`, `BadMemory`.
    """
    reader = ArchiveReader(file, tick)
    raw_manifest = reader.small(MEMBERS[0])
    manifest = parse_manifest(raw_manifest)
    version = find_version(manifest)
    digests = {
        MEMBERS[0]: hashlib.sha256(raw_manifest).hexdigest(),
        MEMBERS[1]: _sum_up(reader.device(MEMBERS[1], manifest.disk.blocks * BLOCK)),
        MEMBERS[2]: _sum_up(_checked_memory(reader, manifest)),
    }
    try:
        given = _DIGESTS.validate_json(reader.small(MEMBERS[3]), strict=True)
    except ValidationError:
        raise BadArchive("The archive's digests.json is not valid.") from None
    reader.end()
    if given != digests:
        raise ArchiveDamaged
    return Checked(manifest, version)


def find_version(manifest: Manifest) -> ImageVersion:
    """The image version whose machine the archive's is: at best the very one it was made from. Withdrawn ones
    too, as for machines that exist. Raises `ImageMissing`.
    """
    same_size = ImageVersion.objects.filter(
        disk_blocks=manifest.disk.blocks, memory_blocks=manifest.memory.blocks, freed_at=None
    )
    versions = same_size.select_related("image").defer("recipe", "boot_trace", "facts")
    fitting = [
        version for version in versions.order_by("-published_at") if machine_of(version) == manifest.machine
    ]
    image = manifest.image
    if not fitting:
        raise ImageMissing(
            f"This site has no image with the machine that the archive is of: {image.title}, version "
            f"{image.version} ({image.slug}). Ask an admin of this site to publish that version, or import "
            "the archive where it was made.",
            slug=image.slug,
            title=image.title,
            version=image.version,
        )
    roots = (image.disk_root, image.memory_root)
    return max(
        fitting,
        key=lambda version: (
            (version.disk_root, version.memory_root) == roots,
            version.image.slug == image.slug,
            version.published_at,
        ),
    )


def _checked_memory(reader: ArchiveReader, manifest: Manifest) -> Iterator[bytes]:
    """The memory's parts; its device state must be one that the machine of this site can resume."""
    machine = manifest.machine
    at = machine.memory_mib * BLOCKS_PER_MIB * BLOCK
    layouts = STATE_FORMATS[machine.kind].layouts
    if manifest.memory.layout not in layouts or at + BLOCK > manifest.memory.blocks * BLOCK:
        raise BadMemory
    for start, raw in zip(
        range(0, manifest.memory.blocks * BLOCK, LEAF_BYTES),
        reader.device(MEMBERS[2], manifest.memory.blocks * BLOCK),
        strict=True,
    ):
        if start <= at < start + len(raw):
            header = bytes(raw[at - start : at - start + STATE_HEADER.size])
            if not can_resume(machine, header):
                raise BadMemory
        yield raw


def _sum_up(parts: Iterator[bytes]) -> str:
    total = PieceDigest()
    for part in parts:
        for at in range(0, len(part), CHUNK_BYTES):
            piece = memoryview(part)[at : at + CHUNK_BYTES]
            if piece == _ZEROS[: len(piece)]:
                total.add_zeros(len(piece))
            else:
                total.add(digest_of(piece))
    return total.hex()


def _pax_size(records: bytes) -> int | None:
    """The `size` of a pax header's records, `<length> <keyword>=<value>\\n` each; most mean nothing here."""
    size: int | None = None
    at = 0
    while at < len(records):
        length, _, _ = records[at : at + 20].partition(b" ")
        if not length.isdigit() or not len(length) < int(length) <= len(records) - at:
            raise BadArchive("The archive has an extended header that is not valid.")
        keyword, _, value = records[at + len(length) + 1 : at + int(length) - 1].partition(b"=")
        if keyword in {b"path", b"linkpath"} or keyword.startswith(b"GNU.sparse"):
            raise BadArchive("The archive has a name or a sparse file that does not belong there.")
        if keyword == b"size":
            if not value.isdigit() or len(value) > 18:
                raise BadArchive("The archive has a member of an impossible size.")
            size = int(value)
        at += int(length)
    return size
