"""A machine's states as files: what the peers back up. Needs Django set up on the service's data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

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


def states_of(vm_id: str, snapshots: list[str]) -> Iterator[tuple[Device, Device]]:
    """Disk and memory of the VM's image, then of each of these snapshots of the VM."""
    vm = VM.objects.select_related("image_version").get(pk=vm_id)
    image = vm.image_version
    yield (
        Device("disk.raw", image.disk_root, None, image.disk_blocks),
        Device("memory.raw", image.memory_root, None, image.memory_blocks),
    )
    for snapshot in (vm.snapshots.get(pk=pk) for pk in snapshots):
        yield (
            Device("disk.raw", snapshot.disk_root, snapshot.disk_home_id, image.disk_blocks),
            Device("memory.raw", snapshot.memory_root, snapshot.memory_home_id, image.memory_blocks),
        )


def changes_between(vm_id: str, roots: list[tuple[str, str]], folder: Path) -> list[int]:
    """What zstd-3 makes of the blocks that changed, from each of these states of the VM (the roots of its
    disk and memory) to the next."""
    vm = VM.objects.select_related("image_version").get(pk=vm_id)
    image, home = vm.image_version, vm.tenant_id
    folder.mkdir()
    changed = [
        write_state(
            (
                Device("disk.raw", disk, home if disk != image.disk_root else None, image.disk_blocks),
                Device("memory.raw", memory, home, image.memory_blocks),
            ),
            folder,
        )
        for disk, memory in roots
    ]
    return changed[1:]


def write_state(devices: tuple[Device, Device], folder: Path) -> int:
    """Bring the devices' files to this state, in place; what zstd makes at level 3 of the blocks that differ.

    All of them are one stream. Those that are zeros now count nothing, as for the service; of the first state
    nothing differs.
    """
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    changed = 0
    for device in devices:
        path = folder / device.file
        is_first = not path.exists()
        with path.open("wb" if is_first else "r+b") as file:
            file.truncate(device.blocks * BLOCK)
            at = 0
            for piece in read_pieces(device.root, device.home, device.blocks):
                file.seek(at)
                old = bytes(piece.size) if is_first else file.read(piece.size)
                new = bytes(piece.size) if piece.raw is None else piece.raw
                if new != old:
                    file.seek(at)
                    file.write(new)
                    if not is_first:
                        changed += sum(len(compressor.compress(block)) for block in differing(old, new))
                at += piece.size
    return changed + len(compressor.flush())


def differing(old: bytes, new: bytes) -> Iterator[bytes]:
    """The blocks of `new` that are not zeros and not what `old` has there."""
    zeros = bytes(BLOCK)
    for at in range(0, len(new), BLOCK):
        block = new[at : at + BLOCK]
        if block != zeros and block != old[at : at + BLOCK]:
            yield block


def pack_bytes(vm_id: str) -> int:
    """Stored bytes of the image's packs, which hold chunks that are stored singly too."""
    image = VM.objects.select_related("image_version").get(pk=vm_id).image_version
    return image.warm_pack_bytes + image.boot_pack_bytes
