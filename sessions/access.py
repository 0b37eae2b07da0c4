"""Finding things for a user. Every query of this app starts here, so what is missing and what is foreign look
alike.
"""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q, QuerySet

from sessions.models import VM, ShareLink, Snapshot
from webvm.accounts.access import MANAGERS, require_role, tenants_of
from webvm.accounts.models import Tenant, User
from webvm.errors import NotFound

SomeUser = User | AnonymousUser
BULKY = ("image_version__recipe", "image_version__boot_trace", "image_version__facts")
"""What of an image version no page or client of a VM needs."""


def vms_of(user: SomeUser, *, deleted: bool = False) -> QuerySet[VM]:
    """The VMs of all tenants of `user`: the living ones, or the deleted ones."""
    return VM.objects.filter(
        tenant__in=tenants_of(user).order_by().values("pk"), deleted_at__isnull=not deleted
    )


def snapshots_of(user: SomeUser, *, deleted: bool = False) -> QuerySet[Snapshot]:
    """The snapshots of the living VMs of `user`: the shown ones, or the deleted ones."""
    return Snapshot.objects.filter(vm__in=vms_of(user).values("pk"), deleted_at__isnull=not deleted)


def get_vm(user: SomeUser, vm_id: UUID, *, deleted: bool = False) -> VM:
    """A VM with tenant, head, image version and image. Raises `NotFound`."""
    query = vms_of(user, deleted=deleted).select_related(
        "tenant", "head", "image_version__image", "lease_user"
    )
    vm = query.defer("head__thumbnail", *BULKY).filter(pk=vm_id).first()
    if vm is None:
        raise NotFound
    return vm


def get_snapshot(user: SomeUser, snapshot_id: UUID, *, deleted: bool = False) -> Snapshot:
    """A snapshot (without its picture) with its VM, tenant and image. Raises `NotFound`."""
    query = snapshots_of(user, deleted=deleted).select_related(
        "vm__tenant", "vm__image_version__image", "author"
    )
    snapshot = query.defer("thumbnail").filter(pk=snapshot_id).first()
    if snapshot is None:
        raise NotFound
    return snapshot


def get_link(user: SomeUser, link_id: UUID) -> ShareLink:
    """A share link of one of the user's tenants. Raises `NotFound`."""
    tenants = tenants_of(user).order_by().values("pk")
    link = (
        ShareLink.objects.filter(tenant__in=tenants, snapshot__vm__deleted_at=None, pk=link_id)
        .select_related("tenant", "snapshot__vm", "created_by")
        .defer("snapshot__thumbnail")
        .first()
    )
    if link is None:
        raise NotFound
    return link


def require_author(user: SomeUser, tenant: Tenant, author_id: int | None) -> None:
    """Taking away what somebody made is for them and for the tenant's owners and admins.

    Raises `NotFound` for those who are no members, `PermissionDenied` for other members.
    """
    if author_id is not None and author_id == user.pk:
        require_role(user, tenant)
    else:
        require_role(user, tenant, *MANAGERS)


def lock_vm(vm_id: UUID, *, deleted: bool = False) -> VM:
    """The VM's row, locked until the transaction ends. Raises `NotFound`.

    On PostgreSQL by `FOR UPDATE`; on SQLite the transaction itself (BEGIN IMMEDIATE) is the lock.
    """
    living = Q(deleted_at__isnull=not deleted)
    vm = VM.objects.select_for_update().filter(living, pk=vm_id).first()
    if vm is None:
        raise NotFound
    return vm
