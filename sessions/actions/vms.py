"""Making, naming, deleting and bringing back VMs."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils import timezone

from sessions.access import get_vm, lock_vm, require_author, vms_of
from sessions.announce import announce, vm_group
from sessions.errors import ImageNotAvailable, UndoTooLate
from sessions.models import VM
from sessions.names import clean_name
from sessions.quotas import require_room_for_vm
from storage.models import ImageVersion
from storage.versions import require_data
from webvm.accounts.access import personal_tenant, require_role
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.audit import record
from webvm.accounts.models import Tenant, User
from webvm.errors import InvalidInput

SHORTEST_AUTOSAVE, LONGEST_AUTOSAVE = 10, 3600


def create_vm(image_slug: str, *, acting_user: User, tenant: Tenant | None = None, name: str = "") -> VM:
    """A new VM of the newest version of an image, in `tenant` (default: the personal one).

    It has no head yet: it opens as the image's warm snapshot. Raises `ImageNotAvailable`, `NotFound` for a
    foreign tenant, `InvalidInput`, `VMQuotaExceeded`.
    """
    tenant = tenant or personal_tenant(acting_user)
    require_role(acting_user, tenant)
    version = (
        ImageVersion.objects.filter(image__slug=image_slug, is_withdrawn=False)
        .select_related("image")
        .order_by("-number")
        .first()
    )
    if version is None:
        raise ImageNotAvailable
    name = clean_name(name) or version.image.title
    with transaction.atomic():
        require_room_for_vm(tenant.pk)
        vm = VM.objects.create(tenant=tenant, name=name, created_by=acting_user, image_version=version)
        require_data(version.pk)
        record(
            "create_vm",
            acting_user=acting_user,
            tenant=tenant,
            target=vm,
            image=image_slug,
            version=version.number,
        )
    return vm


def rename_vm(vm_id: UUID, name: str, *, acting_user: User) -> VM:
    """Raises `NotFound`, `InvalidInput`."""
    vm = get_vm(acting_user, vm_id)
    name = clean_name(name, required=True)
    with transaction.atomic():
        lock_vm(vm.pk)
        VM.objects.filter(pk=vm.pk).update(name=name)
        record("rename_vm", acting_user=acting_user, tenant=vm.tenant, target=vm, old=vm.name, new=name)
    vm.name = name
    return vm


def set_autosave(vm_id: UUID, seconds: int, *, acting_user: User) -> VM:
    """How often the machine saves by itself while it runs: every 10 to 3600 seconds, 0 for never.

    Raises `NotFound`, `InvalidInput`.
    """
    vm = get_vm(acting_user, vm_id)
    if seconds != 0 and not SHORTEST_AUTOSAVE <= seconds <= LONGEST_AUTOSAVE:
        raise InvalidInput(
            f"Choose {SHORTEST_AUTOSAVE} to {LONGEST_AUTOSAVE} seconds between autosaves, or 0 for none.",
            field="autosave_seconds",
        )
    with transaction.atomic():
        VM.objects.filter(pk=vm.pk).update(autosave_seconds=seconds)
        record(
            "set_autosave",
            acting_user=acting_user,
            tenant=vm.tenant,
            target=vm,
            old=vm.autosave_seconds,
            new=seconds,
        )
    vm.autosave_seconds = seconds
    return vm


def delete_vm(vm_id: UUID, *, acting_user: User) -> VM:
    """Hide a VM; `restore_vm` brings it back for `undo_time`. Open sockets are closed; what was forked from
    it lives on.

    Raises `NotFound`, `PermissionDenied`.
    """
    vm = get_vm(acting_user, vm_id)
    require_author(acting_user, vm.tenant, vm.created_by_id)
    with transaction.atomic():
        locked = lock_vm(vm.pk)
        locked.deleted_at = timezone.now()
        locked.lease_session = locked.lease_user = locked.lease_since = locked.lease_expires_at = None
        locked.save()
        record("delete_vm", acting_user=acting_user, tenant=vm.tenant, target=vm)
        announce(vm_group(vm.pk))
    vm.deleted_at = locked.deleted_at
    return vm


def restore_vm(vm_id: UUID, *, acting_user: User) -> VM:
    """Undo `delete_vm`. A living VM stays as it is. Raises `NotFound`, `UndoTooLate`, `VMQuotaExceeded`."""
    if vms_of(acting_user).filter(pk=vm_id).exists():  # another's is looked for like none
        return get_vm(acting_user, vm_id)
    vm = get_vm(acting_user, vm_id, deleted=True)
    require_author(acting_user, vm.tenant, vm.created_by_id)
    with transaction.atomic():
        locked = lock_vm(vm.pk, deleted=True)
        if locked.deleted_at is not None and locked.deleted_at < timezone.now() - undo_time():
            raise UndoTooLate
        require_room_for_vm(vm.tenant_id)
        VM.objects.filter(pk=vm.pk).update(deleted_at=None)
        record("restore_vm", acting_user=acting_user, tenant=vm.tenant, target=vm)
    vm.deleted_at = None
    return vm
