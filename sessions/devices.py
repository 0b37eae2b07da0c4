"""Where a VM's disk and memory are at a snapshot (or, with none, in the image it was made from)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from sessions.models import VM, Snapshot

DeviceName = Literal["disk", "memory"]


@dataclass(frozen=True)
class Device:
    """`home` is the tenant whose key space has the root, None: it is the image's, for everybody."""

    root: str
    blocks: int
    home: UUID | None


def device_of(vm: VM, snapshot: Snapshot | None, name: DeviceName) -> Device:
    """`vm.image_version` and `snapshot` should be loaded."""
    version = vm.image_version
    if name == "disk":
        if snapshot is None:
            return Device(version.disk_root, version.disk_blocks, None)
        return Device(snapshot.disk_root, version.disk_blocks, snapshot.disk_home_id)
    if snapshot is None:
        return Device(version.memory_root, version.memory_blocks, None)
    return Device(snapshot.memory_root, version.memory_blocks, snapshot.memory_home_id)
