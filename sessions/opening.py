"""What a client is told to run a machine: the open descriptor, and where the chunks of a device are."""

from __future__ import annotations

import base64
from uuid import UUID

from django.conf import settings
from django.urls import reverse
from pydantic import TypeAdapter

from sessions.access import get_vm
from sessions.devices import Device, DeviceName, device_of
from sessions.models import VM, Snapshot
from sessions.schemas import (
    DeviceOut,
    LinuxOut,
    Located,
    MachineOut,
    OpenDescriptor,
    OpenImage,
    OpenSnapshot,
    OpenVM,
    PcOut,
)
from storage.leaf_packs import is_served_elsewhere, queue_packs
from storage.walk import locate
from webvm.accounts.access import require_role
from webvm.accounts.models import User
from webvm.errors import InvalidInput, NotFound

BLOCKS_PER_LEAF = 1024
_MACHINE: TypeAdapter[PcOut | LinuxOut] = TypeAdapter(MachineOut)


def describe_vm(user: User, vm_id: UUID, snapshot_id: UUID | None = None) -> OpenDescriptor:
    """The open descriptor of a VM at a snapshot (default: its head). Raises `NotFound`."""
    vm = get_vm(user, vm_id)
    snapshot = vm.head if snapshot_id is None else snapshot_of(vm, snapshot_id)
    version = vm.image_version
    return OpenDescriptor(
        vm=OpenVM(id=vm.pk, name=vm.name, tenant=vm.tenant_id, autosave_seconds=vm.autosave_seconds),
        snapshot=None
        if snapshot is None
        else OpenSnapshot(id=snapshot.pk, message=snapshot.message, created_at=snapshot.created_at),
        machine=_MACHINE.validate_python(version.machine),
        disk=_device_out(device_of(vm, snapshot, "disk")),
        # An image without a warm snapshot boots from its disk.
        memory=_device_out(device_of(vm, snapshot, "memory")) if snapshot or version.memory_root else None,
        image=OpenImage(
            id=version.pk,
            title=version.image.title,
            version=version.number,
            disk_root=version.disk_root,
            memory_root=version.memory_root,
            warm_pack=version.warm_pack,
            warm_pack_bytes=version.warm_pack_bytes,
            boot_pack=version.boot_pack,
            boot_pack_bytes=version.boot_pack_bytes,
            read_trails=version.read_trails,
        ),
        chunk_base_url=settings.CHUNK_BASE_URL,
        chunk_cookies=settings.CHUNK_SIGNING == "cloudfront",
        locate_url=reverse("api:locate_chunks", args=[vm.pk]),
        socket_url=f"/ws/vms/{vm.pk}/",
    )


def locate_chunks(
    user: User, vm_id: UUID, *, snapshot_id: UUID | None, device: DeviceName, leaves: list[int]
) -> tuple[Located, set[UUID]]:
    """Index nodes on the way to the leaves, and URLs of the private chunks they name (`snapshot_id` None: the
    image), with the tenants that those are of. Behind a CDN also of a memory's packs; those that are not made
    yet a worker is asked for.

    Raises `NotFound`, `InvalidInput`.
    """
    vm = get_vm(user, vm_id)
    wanted = device_of(vm, snapshot_of(vm, snapshot_id) if snapshot_id else None, device)
    count = -(-wanted.blocks // BLOCKS_PER_LEAF)
    if any(not 0 <= leaf < count for leaf in leaves):
        raise InvalidInput(f"This {device} has the leaves 0 to {count - 1}.", field="leaves")
    member = require_role(user, vm.tenant).pk
    with_packs = device == "memory" and is_served_elsewhere()
    found = locate(wanted.root, wanted.home, wanted.blocks, leaves, member, with_packs=with_packs)
    queue_packs(found.unpacked)
    nodes = {digest: base64.b64encode(raw).decode("ascii") for digest, raw in found.nodes.items()}
    located = Located(nodes=nodes, urls=found.urls, packs=found.packs, expires_in=found.expires_in)
    return located, found.spaces


def snapshot_of(vm: VM, snapshot_id: UUID) -> Snapshot:
    """One of the VM's snapshots that is not deleted. Raises `NotFound`."""
    snapshot = vm.snapshots.filter(pk=snapshot_id, deleted_at=None).defer("thumbnail").first()
    if snapshot is None:
        raise NotFound
    return snapshot


def _device_out(device: Device) -> DeviceOut:
    return DeviceOut(root=device.root, blocks=device.blocks, public=device.home is None)
