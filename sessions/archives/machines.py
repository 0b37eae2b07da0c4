"""The machine that an archive is of, and the beginning of its device state."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal

from ninja import Schema
from pydantic import ConfigDict, Field

from storage.codec import BLOCK
from storage.models import ImageVersion

BLOCKS_PER_MIB = (1 << 20) // BLOCK
# Of a device state: magic, layout version, and two numbers that each kind of machine has its own of.
STATE_HEADER = struct.Struct("<4sIII")
# What is behind the memory, but for what belongs to the page.
MOST_LINUX_STATE = (8192 - 65) * BLOCK - STATE_HEADER.size

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Strict(Schema):
    model_config = ConfigDict(extra="forbid", strict=True)


class BlobPart(Strict):
    size: Annotated[int, Field(ge=0)]
    chunks: list[Digest]


class PcPart(Strict):
    kind: Literal["pc"]
    memory_mib: Annotated[int, Field(ge=1, le=1 << 20)]
    vga_memory_mib: Annotated[int, Field(ge=1, le=1 << 10)]
    cmdline: str
    bios: BlobPart
    vga_bios: BlobPart
    kernel: BlobPart
    initrd: BlobPart


class LinuxPart(Strict):
    kind: Literal["linux"]
    memory_mib: Annotated[int, Field(ge=1, le=1 << 20)]
    terminals: Annotated[int, Field(ge=1, le=1 << 10)]


# An image version's machine: an archive fits where all of it is the same.
MachinePart = PcPart | LinuxPart
_PARTS: dict[str, type[MachinePart]] = {"pc": PcPart, "linux": LinuxPart}


@dataclass(frozen=True)
class StateFormat:
    """How a kind of machine begins its state. `layouts` are those that this version's machine can resume."""

    magic: bytes
    layouts: tuple[int, ...]


STATE_FORMATS = {
    # frontend/src/machine/pc/state.ts; the numbers are bytes of RAM and of VGA memory.
    "pc": StateFormat(b"WVPC", (1,)),
    # frontend/engine/linux/state/state.ts; the numbers are bytes of the text and blocks of the memory.
    "linux": StateFormat(b"WLVM", (6,)),
}


def machine_of(version: ImageVersion) -> MachinePart:
    part = _PARTS[version.machine["kind"]]
    return part.model_validate({name: version.machine[name] for name in part.model_fields})


def layout_of(machine: MachinePart, header: bytes) -> int | None:
    """The layout version in the first block of such a machine's state; None where there is none."""
    if len(header) < STATE_HEADER.size:
        return None
    magic, layout, _, _ = STATE_HEADER.unpack_from(header)
    return int(layout) if magic == STATE_FORMATS[machine.kind].magic else None


def can_resume(machine: MachinePart, header: bytes) -> bool:
    """Whether a state that begins so is one of exactly that machine, in a layout that is known."""
    if layout_of(machine, header) not in STATE_FORMATS[machine.kind].layouts:
        return False
    first: int
    second: int
    _, _, first, second = STATE_HEADER.unpack_from(header)
    if isinstance(machine, LinuxPart):
        return 0 < first <= MOST_LINUX_STATE and second == machine.memory_mib * BLOCKS_PER_MIB
    return (first, second) == (machine.memory_mib << 20, machine.vga_memory_mib << 20)
