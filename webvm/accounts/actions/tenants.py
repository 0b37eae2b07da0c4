"""Tenants: create, change, put out of reach."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from webvm.accounts.access import MANAGERS, require_role
from webvm.accounts.audit import record
from webvm.accounts.errors import GuestNotAllowed, PersonalTenant, TooMany
from webvm.accounts.models import Membership, Role, Tenant, User
from webvm.errors import InvalidInput, NotFound, PermissionDenied

MAX_OWNED_TENANTS = 20  # each has a quota of its own, so their number must have an end


def clean_name(name: str) -> str:
    """A tenant's name: 1 to 120 characters, white space folded. Raises `InvalidInput`."""
    name = " ".join(name.split())
    if not 1 <= len(name) <= 120:
        raise InvalidInput("A tenant's name has 1 to 120 characters.", field="name")
    return name


def create_tenant(name: str, *, acting_user: User) -> Tenant:
    """A new tenant with the acting user as its owner."""
    if acting_user.is_guest:
        raise GuestNotAllowed
    name = clean_name(name)
    with transaction.atomic():
        User.objects.select_for_update().get(
            pk=acting_user.pk
        )  # two requests at once must not pass the limit
        owned = Membership.objects.filter(user=acting_user, role=Role.OWNER, tenant__deleted_at=None).count()
        if owned >= MAX_OWNED_TENANTS:
            raise TooMany(f"You own {owned} tenants, and {MAX_OWNED_TENANTS} is the most. Delete one first.")
        tenant = Tenant.objects.create(name=name)
        Membership.objects.create(tenant=tenant, user=acting_user, role=Role.OWNER)
        record("create_tenant", acting_user=acting_user, tenant=tenant, target=tenant, name=name)
    return tenant


def update_tenant(
    tenant: Tenant, *, acting_user: User, name: str | None = None, allow_guests: bool | None = None
) -> Tenant:
    """Change the name, or whether share links let in people without an account. For owners and admins."""
    require_role(acting_user, tenant, *MANAGERS)
    changes: dict[str, str | bool] = {}
    if name is not None:
        changes["name"] = clean_name(name)
    if allow_guests is not None:
        changes["allow_guests"] = allow_guests
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update().get(pk=tenant.pk)
        for field, value in changes.items():
            setattr(tenant, field, value)
        tenant.save(update_fields=list(changes))
        record("update_tenant", acting_user=acting_user, tenant=tenant, target=tenant, **changes)
    return tenant


def delete_tenant(tenant: Tenant, *, acting_user: User) -> None:
    """Put a tenant and all its machines out of reach, for good after `undo_time`. For owners."""
    require_role(acting_user, tenant, Role.OWNER)
    if tenant.is_personal:
        raise PersonalTenant("A personal tenant goes when its account is deleted.")
    with transaction.atomic():
        retire_tenant(Tenant.objects.select_for_update().get(pk=tenant.pk), acting_user=acting_user)


def undo_time() -> timedelta:
    """How long what was deleted can be brought back."""
    return timedelta(days=settings.UNDO_DAYS)


def restore_tenant(tenant_id: UUID, owner: User, *, acting_user: User | None) -> Tenant:
    """Undo the deletion of a tenant, or of an account with its personal tenant: `owner` becomes its owner,
    and everything in it is as it was. For site admins (None: the command line), within `undo_time`.

    Raises `PermissionDenied`, `NotFound` for what is not deleted, or purged by now.
    """
    if acting_user is not None and not (acting_user.is_active and acting_user.is_superuser):
        raise PermissionDenied("Only superusers bring tenants back.")
    if owner.is_guest:
        raise GuestNotAllowed
    with transaction.atomic():
        gone = Tenant.objects.select_for_update().filter(deleted_at__gt=timezone.now() - undo_time())
        tenant = gone.filter(pk=tenant_id).first()
        if tenant is None:
            raise NotFound("There is no deleted tenant with this id that can still be brought back.")
        # Whose personal tenant it was is gone; the new owner has one already.
        tenant.deleted_at, tenant.is_personal = None, False
        tenant.save(update_fields=["deleted_at", "is_personal"])
        Membership.objects.create(tenant=tenant, user=owner, role=Role.OWNER)
        record("restore_tenant", acting_user=acting_user, tenant=tenant, target=tenant, owner=owner.pk)
    return tenant


def retire_tenant(tenant: Tenant, *, acting_user: User | None) -> None:
    """The deletion itself, in the caller's transaction. The row stays: forks may read its chunks."""
    tenant.deleted_at = timezone.now()
    tenant.save(update_fields=["deleted_at"])
    tenant.memberships.all().delete()
    tenant.invitations.all().delete()
    record("delete_tenant", acting_user=acting_user, tenant=tenant, target=tenant)
