"""A VM's history: fork, name, delete, bring back, resume from."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils import timezone

from sessions.access import get_snapshot, get_vm, lock_vm, require_author, snapshots_of
from sessions.actions.autosaves import keep_autosave, keep_snapshot
from sessions.actions.leases import held_by, who_holds
from sessions.announce import announce, vm_group
from sessions.errors import LeaseHeld, SnapshotIsHead, UndoTooLate
from sessions.models import VM, Snapshot, SnapshotKind
from sessions.names import clean_name
from sessions.quotas import require_room_for_vm
from webvm.accounts.access import personal_tenant, require_role
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.audit import record
from webvm.accounts.models import Tenant, User
from webvm.errors import NotFound


def fork_snapshot(
    snapshot_id: UUID, *, acting_user: User, tenant: Tenant | None = None, name: str = ""
) -> VM:
    """A new VM, in `tenant` (default: the personal one), that starts as the snapshot. Raises `NotFound`,
    `InvalidInput`.
    """
    snapshot = get_snapshot(acting_user, snapshot_id)
    tenant = tenant or personal_tenant(acting_user)
    require_role(acting_user, tenant)
    return make_fork(snapshot, tenant, name=name, acting_user=acting_user)


def make_fork(snapshot: Snapshot, tenant: Tenant, *, name: str = "", acting_user: User) -> VM:
    """The fork itself, for callers that have checked the grant (the role, or a share link): one VM row and
    one snapshot row however large the machine is. It reads the original's chunks where they are, so it goes
    on when the original is deleted, and no bytes count against the quota of `tenant` until it saves.

    Raises `VMQuotaExceeded`, `InvalidInput`, `NotFound`."""
    original = snapshot.vm
    name = clean_name(name) or f"{original.name[:100]} (copy)"
    with transaction.atomic():
        # It stays until its copy is there: the garbage collector never sees neither of them.
        if not Snapshot.objects.select_for_update(no_key=True).filter(pk=snapshot.pk).exists():
            raise NotFound
        require_room_for_vm(tenant.pk)
        vm = VM.objects.create(
            tenant=tenant, name=name, created_by=acting_user, image_version_id=original.image_version_id
        )
        vm.head = Snapshot.objects.create(
            vm=vm,
            tenant=tenant,
            parent=snapshot,
            kind=SnapshotKind.FORK,
            message=snapshot.name or snapshot.message,
            author=acting_user,
            disk_root=snapshot.disk_root,
            disk_home_id=snapshot.disk_home_id,
            memory_root=snapshot.memory_root,
            memory_home_id=snapshot.memory_home_id,
            thumbnail=snapshot.thumbnail,
            has_thumbnail=snapshot.has_thumbnail,
        )
        vm.save(update_fields=["head"])
        record("fork_snapshot", acting_user=acting_user, tenant=tenant, target=vm, snapshot=str(snapshot.pk))
    return vm


def name_snapshot(snapshot_id: UUID, name: str, *, acting_user: User) -> Snapshot:
    """Give a snapshot a name, or take it away with an empty one. An autosaved one stays from then on.

    Raises `NotFound`, `InvalidInput`.
    """
    snapshot = get_snapshot(acting_user, snapshot_id)
    name = clean_name(name)
    with transaction.atomic():
        keep_snapshot(snapshot)
        Snapshot.objects.filter(pk=snapshot.pk).update(name=name)
        record(
            "name_snapshot",
            acting_user=acting_user,
            tenant=snapshot.vm.tenant,
            target=snapshot,
            old=snapshot.name,
            new=name,
        )
    snapshot.name = name
    return snapshot


def delete_snapshot(snapshot_id: UUID, *, acting_user: User) -> Snapshot:
    """Hide a snapshot; `restore_snapshot` brings it back for `undo_time`. Its row stays, so later ones keep
    their parent; every snapshot names its whole disk and memory, so none needs another to open. Its links
    stop working.

    Raises `NotFound`, `PermissionDenied`, and `SnapshotIsHead`: deleting never changes what a machine opens
    with.
    """
    snapshot = get_snapshot(acting_user, snapshot_id)
    require_author(acting_user, snapshot.vm.tenant, snapshot.author_id)
    with transaction.atomic():
        vm = lock_vm(snapshot.vm_id)
        if vm.head_id == snapshot.pk:
            raise SnapshotIsHead
        snapshot.deleted_at = timezone.now()
        Snapshot.objects.filter(pk=snapshot.pk, deleted_at=None).update(deleted_at=snapshot.deleted_at)
        record(
            "delete_snapshot",
            acting_user=acting_user,
            tenant=snapshot.vm.tenant,
            target=snapshot,
            vm=str(vm.pk),
        )
    return snapshot


def restore_snapshot(snapshot_id: UUID, *, acting_user: User) -> Snapshot:
    """Undo `delete_snapshot`; what is not deleted stays as it is. Raises `NotFound`, `PermissionDenied`,
    `UndoTooLate`.
    """
    if snapshots_of(acting_user).filter(pk=snapshot_id).exists():  # another's is looked for like none
        return get_snapshot(acting_user, snapshot_id)
    snapshot = get_snapshot(acting_user, snapshot_id, deleted=True)
    require_author(acting_user, snapshot.vm.tenant, snapshot.author_id)
    with transaction.atomic():
        lock_vm(snapshot.vm_id)  # as the purge does
        if not Snapshot.objects.filter(pk=snapshot.pk, deleted_at__gt=timezone.now() - undo_time()).update(
            deleted_at=None
        ):
            raise UndoTooLate
        record("restore_snapshot", acting_user=acting_user, tenant=snapshot.vm.tenant, target=snapshot)
    snapshot.deleted_at = None
    return snapshot


def resume_from(vm_id: UUID, snapshot_id: UUID | None, *, acting_user: User) -> VM:
    """Move the head: the machine opens with this snapshot next (None: as its image was published). Nothing is
    deleted.

    Raises `NotFound`, and `LeaseHeld` while the machine is open somewhere: its next save would be refused.
    """
    vm = get_vm(acting_user, vm_id)
    with transaction.atomic():
        locked = lock_vm(vm_id)
        holder = held_by(locked)
        if holder is not None:
            raise LeaseHeld(**who_holds(locked, acting_user))
        if snapshot_id is not None and not locked.snapshots.filter(pk=snapshot_id, deleted_at=None).exists():
            raise NotFound
        if locked.head_id != snapshot_id:
            keep_autosave(locked)
        VM.objects.filter(pk=vm_id).update(head=snapshot_id, last_used_at=timezone.now())
        record(
            "resume_from",
            acting_user=acting_user,
            tenant=vm.tenant,
            target=vm,
            old=str(locked.head_id or ""),
            new=str(snapshot_id or ""),
        )
        announce(vm_group(vm_id))
    return get_vm(acting_user, vm_id)
