"""A user's own account: profile and deletion."""

from __future__ import annotations

from collections import Counter

from django.db import transaction

from webvm.accounts.actions.tenants import retire_tenant
from webvm.accounts.audit import record
from webvm.accounts.errors import LastOwner
from webvm.accounts.models import Membership, Role, Tenant, User
from webvm.errors import InvalidInput, PermissionDenied


def update_profile(user: User, *, name: str, acting_user: User) -> User:
    """Change the name shown to others (may be empty, at most 120 characters)."""
    if acting_user.pk != user.pk:
        raise PermissionDenied("You can only change your own profile.")
    name = " ".join(name.split())
    if len(name) > 120:
        raise InvalidInput("A name has at most 120 characters.", field="name")
    with transaction.atomic():
        user.name = name
        user.save(update_fields=["name"])
        record("update_profile", acting_user=acting_user, target=user)
    return user


def rotate_journal_keys(user: User, *, acting_user: User) -> None:
    """Make every journal of unsaved work that browsers keep for `user` unreadable for good."""
    if acting_user.pk != user.pk and not acting_user.is_superuser:
        raise PermissionDenied("You can only renew your own keys.")
    with transaction.atomic():
        locked = User.objects.select_for_update().get(pk=user.pk)
        user.journal_generation = locked.journal_generation + 1
        user.save(update_fields=["journal_generation"])
        record("rotate_journal_keys", acting_user=acting_user, target=user)


def delete_account(user: User, *, acting_user: User) -> None:
    """Delete a user for good, with the tenants nobody else is in.

    Raises `LastOwner` (with `tenants`, their names) while a tenant with other members would have no owner.
    """
    if acting_user.pk != user.pk and not acting_user.is_superuser:
        raise PermissionDenied("You can only delete your own account.")
    with transaction.atomic():
        remove_user(user, acting_user=acting_user, action="delete_account")


def remove_user(user: User, *, acting_user: User | None, action: str) -> None:
    """The deletion itself; runs in the caller's transaction, after its permission check."""
    mine = list(Tenant.objects.select_for_update().filter(memberships__user=user, deleted_at=None))
    others = Counter(
        Membership.objects.filter(tenant__in=mine).exclude(user=user).values_list("tenant", flat=True)
    )
    other_owners = set(
        Membership.objects.filter(tenant__in=mine, role=Role.OWNER)
        .exclude(user=user)
        .values_list("tenant", flat=True)
    )
    stuck = [tenant.name for tenant in mine if others[tenant.pk] and tenant.pk not in other_owners]
    if stuck:
        raise LastOwner(
            f"You are the only owner of {', '.join(stuck)}. Make somebody else an owner or delete it first.",
            tenants=stuck,
        )
    for tenant in mine:
        if not others[tenant.pk]:
            retire_tenant(tenant, acting_user=acting_user)
    record(action, acting_user=acting_user, target=user, was_guest=user.is_guest)
    user.delete()
