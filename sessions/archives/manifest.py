"""The first member of an archive: what it is of. The format is in docs/design/archive.md."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from sessions.archives.errors import ArchiveVersion, BadArchive
from sessions.archives.machines import BLOCKS_PER_MIB, MachinePart, Strict, layout_of, machine_of
from sessions.devices import device_of
from sessions.models import Snapshot
from sessions.names import clean_message, clean_name
from sessions.thumbnails import decode_thumbnail
from storage.codec import BLOCK
from storage.devices import read_bytes
from webvm.errors import InvalidInput

FORMAT = "webvm-machine"
VERSION: Literal[1] = 1
MAX_MANIFEST_BYTES = 1 << 20
MEMBERS = ("manifest.json", "disk.raw", "memory.raw", "digests.json")
Root = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
Blocks = Annotated[int, Field(ge=1, le=1 << 31)]


def _one_line(text: str) -> str:
    """Without what cannot be shown on one line."""
    return "".join(char for char in text if char.isprintable())


class ImagePart(Strict):
    slug: Annotated[str, Field(pattern="^[-a-zA-Z0-9_]{1,63}$")]
    title: Annotated[str, Field(max_length=200), AfterValidator(_one_line)]
    version: Annotated[int, Field(ge=1)]
    disk_root: Root
    memory_root: Root


class DiskPart(Strict):
    blocks: Blocks
    root: Root


class MemoryPart(DiskPart):
    layout: int | None


class SnapshotPart(Strict):
    name: str
    message: str
    created_at: Annotated[datetime, Field(strict=False)]


class Manifest(Strict):
    format: Literal["webvm-machine"]
    version: Literal[1]
    name: str
    image: ImagePart
    machine: Annotated[MachinePart, Field(discriminator="kind")]
    disk: DiskPart
    memory: MemoryPart
    snapshot: SnapshotPart
    thumbnail: str | None


class Heading(Schema):
    """What every version of the format has."""

    model_config = ConfigDict(strict=True)

    format: str
    version: int


def describe_snapshot(snapshot: Snapshot) -> Manifest:
    """The manifest of a snapshot; `vm.image_version.image` and the picture should be loaded."""
    vm = snapshot.vm
    version = vm.image_version
    disk, memory = device_of(vm, snapshot, "disk"), device_of(vm, snapshot, "memory")
    machine = machine_of(version)
    ram_blocks = machine.memory_mib * BLOCKS_PER_MIB
    header = b"".join(
        read_bytes(memory.root, memory.home, memory.blocks, ram_blocks * BLOCK, ram_blocks * BLOCK + BLOCK)
    )
    return Manifest(
        format="webvm-machine",
        version=VERSION,
        name=vm.name,
        image=ImagePart(
            slug=version.image.slug,
            title=version.image.title,
            version=version.number,
            disk_root=version.disk_root,
            memory_root=version.memory_root,
        ),
        machine=machine,
        disk=DiskPart(blocks=disk.blocks, root=disk.root),
        memory=MemoryPart(blocks=memory.blocks, root=memory.root, layout=layout_of(machine, header)),
        snapshot=SnapshotPart(name=snapshot.name, message=snapshot.message, created_at=snapshot.created_at),
        thumbnail=base64.b64encode(snapshot.thumbnail).decode("ascii") if snapshot.thumbnail else None,
    )


def parse_manifest(raw: bytes) -> Manifest:
    """Raises `BadArchive`, `ArchiveVersion`."""
    try:
        heading = Heading.model_validate_json(raw)
        if heading.format != FORMAT:
            raise BadArchive("The archive's manifest is not one of a machine.")
        if heading.version != VERSION:
            raise ArchiveVersion(version=heading.version)
        manifest = Manifest.model_validate_json(raw)
        manifest.name = clean_name(manifest.name, required=True)
        manifest.snapshot.name = clean_name(manifest.snapshot.name)
        manifest.snapshot.message = clean_message(manifest.snapshot.message)
        decode_thumbnail(manifest.thumbnail)
    except ValidationError as error:
        raise BadArchive(f"The archive's manifest is not valid: {_first(error)}.") from None
    except InvalidInput as error:
        raise BadArchive(f"The archive's manifest is not valid: {error.text}") from None
    return manifest


def _first(error: ValidationError) -> str:
    problem: Any = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part)[:40] for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])
