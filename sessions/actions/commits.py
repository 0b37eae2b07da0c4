"""Saving: one compare-and-swap of a VM's head, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from sessions.access import get_vm, lock_vm
from sessions.actions.leases import check_lease
from sessions.actions.purge import lost_references, remove_snapshots
from sessions.announce import announce, vm_group
from sessions.devices import DeviceName, device_of
from sessions.errors import HeadMoved, KeyReused
from sessions.models import VM, Snapshot, SnapshotKind
from sessions.names import clean_message
from sessions.thumbnails import decode_thumbnail
from storage.chunks import find_missing
from storage.commits import accept_device
from storage.states import has_room, lock_tenants, quota_exceeded
from webvm.accounts.audit import record
from webvm.accounts.models import User


@dataclass(frozen=True)
class Save:
    """What a client asks to be saved. `fresh_bytes`: stored bytes its socket has uploaded since its last
    save. `is_auto`: nobody asked for it; the next save of the machine takes its place.
    """

    epoch: int
    expected_head: UUID | None
    disk_root: str
    memory_root: str
    idempotency_key: UUID
    message: str = ""
    thumbnail: str | None = None
    reused_bytes: int = 0
    fresh_bytes: int = 0
    is_auto: bool = False


def negotiate_chunks(vm_id: UUID, epoch: int, digests: list[bytes], *, acting_user: User) -> list[bytes]:
    """Which of the chunks must be uploaded: what neither the tenant nor the public has.

    Raises `NotFound`, `LeaseLost`, and `QuotaExceeded` when there is something to upload and no room left.
    """
    vm = get_vm(acting_user, vm_id)
    check_lease(vm, epoch, acting_user)
    missing = find_missing(vm.tenant, digests)
    if missing and not has_room(vm.tenant_id, 1).exists():
        raise quota_exceeded(vm.tenant_id)
    return missing


def commit_snapshot(vm_id: UUID, save: Save, *, acting_user: User) -> Snapshot:
    """Make the uploaded state the VM's new head. Whole or not at all; the same key again answers the same
    snapshot. A head that was autosaved is replaced: its row goes, what it stored counts as the new
    snapshot's, and chunks that nothing names any more are garbage.

    Raises `NotFound`, `LeaseLost`, `HeadMoved`, `KeyReused`, `MissingChunks`, `BadIndex`, `InvalidInput`.
    """
    seen = get_vm(acting_user, vm_id)
    message = clean_message(save.message)
    thumbnail = decode_thumbnail(save.thumbnail)
    with transaction.atomic():
        vm = lock_vm(vm_id)
        # Looked for before the lease: the answer of a save that went through may have been lost with the
        # connection.
        before = vm.snapshots.filter(idempotency_key=save.idempotency_key).defer("thumbnail").first()
        if before is not None:
            if (before.disk_root, before.memory_root) != (save.disk_root, save.memory_root):
                raise KeyReused
            return before
        check_lease(vm, save.epoch, acting_user)
        if vm.head_id != save.expected_head:
            raise HeadMoved(head=str(vm.head_id) if vm.head_id else None)
        replaced = vm.head if vm.head is not None and vm.head.kind == SnapshotKind.AUTO else None
        lost = lost_references([replaced]) if replaced else {}
        # Together and in one order, before the save locks the first of them.
        lock_tenants(vm.tenant_id, *lost)
        fresh_bytes = vm.pending_bytes + save.fresh_bytes
        snapshot = Snapshot(
            vm=vm,
            tenant=seen.tenant,
            parent_id=replaced.parent_id if replaced else vm.head_id,
            kind=SnapshotKind.AUTO if save.is_auto else SnapshotKind.SAVE,
            message=message,
            author=acting_user,
            disk_root=save.disk_root,
            disk_home_id=_accept(vm, "disk", save.disk_root),
            memory_root=save.memory_root,
            memory_home_id=_accept(vm, "memory", save.memory_root),
            stored_bytes=fresh_bytes + (replaced.stored_bytes if replaced else 0),
            thumbnail=thumbnail,
            has_thumbnail=thumbnail is not None,
            idempotency_key=save.idempotency_key,
        )
        snapshot.save(force_insert=True)
        VM.objects.filter(pk=vm.pk).update(
            head=snapshot,
            last_used_at=timezone.now(),
            pending_bytes=0,
            stored_bytes=F("stored_bytes") + fresh_bytes,
        )
        if replaced:
            remove_snapshots([replaced], timezone.now(), lost)
        record(
            "commit_snapshot",
            acting_user=acting_user,
            tenant=seen.tenant,
            target=snapshot,
            vm=str(vm.pk),
            epoch=save.epoch,
            kind=snapshot.kind,
            replaces=str(replaced.pk) if replaced else "",
            stored_bytes=fresh_bytes,
            reused_bytes=save.reused_bytes,
        )
        announce(vm_group(vm.pk))
    return snapshot


def add_pending_bytes(vm_id: UUID, count: int) -> None:
    """A socket closed that had uploaded `count` stored bytes for a save still to come: only a figure for
    people.
    """
    VM.objects.filter(pk=vm_id).update(pending_bytes=F("pending_bytes") + count)


def _accept(vm: VM, name: DeviceName, root: str) -> UUID | None:
    """Check and adopt one device; answers its home afterwards."""
    parent = device_of(vm, vm.head, name)
    accept_device(
        vm.tenant, root=root, blocks=parent.blocks, parent_root=parent.root, parent_home=parent.home
    )
    return parent.home if root == parent.root else vm.tenant_id
