"""A machine's states as files: what the peers back up. Needs Django set up on the service's data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sessions.models import VM
from storage.chunks import HomeId
from storage.codec import BLOCK
from storage.devices import read_pieces


@dataclass(frozen=True)
class Device:
    """A disk or memory: its root, where that is found, its size in blocks, and its file's name."""

    file: str
    root: str
    home: HomeId
    blocks: int


def states_of(vm_id: str) -> Iterator[tuple[Device, Device]]:
    """Disk and memory of the VM's image, then of each of its snapshots, oldest first."""
    vm = VM.objects.select_related("image_version").get(pk=vm_id)
    image = vm.image_version
    yield (
        Device("disk.raw", image.disk_root, None, image.disk_blocks),
        Device("memory.raw", image.memory_root, None, image.memory_blocks),
    )
    for snapshot in vm.snapshots.order_by("created_at"):
        yield (
            Device("disk.raw", snapshot.disk_root, snapshot.disk_home_id, image.disk_blocks),
            Device("memory.raw", snapshot.memory_root, snapshot.memory_home_id, image.memory_blocks),
        )


def write_device(device: Device, folder: Path) -> None:
    """The device as a sparse file, in place of the one before: a piece at a time, zeros as holes."""
    with (folder / device.file).open("wb") as file:
        file.truncate(device.blocks * BLOCK)
        at = 0
        for piece in read_pieces(device.root, device.home, device.blocks):
            if piece.raw is not None:
                file.seek(at)
                file.write(piece.raw)
            at += piece.size


def pack_bytes(vm_id: str) -> int:
    """Stored bytes of the image's packs, which hold chunks that are stored singly too."""
    image = VM.objects.select_related("image_version").get(pk=vm_id).image_version
    return image.warm_pack_bytes + image.boot_pack_bytes
