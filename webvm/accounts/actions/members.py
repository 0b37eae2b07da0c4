"""Members of a tenant and the invitations to become one."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from webvm.accounts.access import MANAGERS, require_role
from webvm.accounts.audit import record
from webvm.accounts.errors import (
    AlreadyMember,
    GuestNotAllowed,
    LastOwner,
    LinkNotUsable,
    PersonalTenant,
    TooMany,
)
from webvm.accounts.models import Invitation, Membership, Role, Tenant, User
from webvm.accounts.tokens import hash_secret, new_secret
from webvm.errors import InvalidInput, NotFound, PermissionDenied

INVITATION_LIFETIME = timedelta(days=7)
MAX_OPEN_INVITATIONS = 100
MAX_MEMBERS = 1000


def _require_may_give(acting_user: User, tenant: Tenant, role: str) -> Membership:
    """Owners give any role, admins all but owner, members none; nobody joins a personal tenant."""
    mine = require_role(acting_user, tenant, *MANAGERS)
    if role not in Role.values:
        raise InvalidInput("A role is owner, admin or member.", field="role")
    if role == Role.OWNER and mine.role != Role.OWNER:
        raise PermissionDenied("Only an owner can make somebody an owner.")
    if tenant.is_personal:
        raise PersonalTenant
    return mine


def _lock(tenant: Tenant) -> Tenant:
    """Changes of a tenant's members run one after the other: two cannot remove the last two owners."""
    return Tenant.objects.select_for_update().get(pk=tenant.pk)


def _require_room(tenant: Tenant) -> None:
    if tenant.memberships.count() >= MAX_MEMBERS:
        raise TooMany(f"A tenant has at most {MAX_MEMBERS} members.")


def add_member(tenant: Tenant, *, email: str, role: str, acting_user: User) -> Membership:
    """Make the user with this address a member. Raises `NotFound` when no account has it."""
    _require_may_give(acting_user, tenant, role)
    with transaction.atomic():
        _lock(tenant)
        user = User.objects.filter(email=email.strip().lower(), is_active=True, is_guest=False).first()
        if user is None:
            raise NotFound("No account has this address. Make an invitation link and send it to them.")
        _require_room(tenant)
        membership, is_new = Membership.objects.get_or_create(
            tenant=tenant, user=user, defaults={"role": role}
        )
        if not is_new:
            raise AlreadyMember
        record("add_member", acting_user=acting_user, tenant=tenant, target=user, email=user.email, role=role)
    return membership


def create_invitation(
    tenant: Tenant, *, role: str, email: str = "", acting_user: User
) -> tuple[Invitation, str]:
    """An invitation and its secret, which is seen only now."""
    _require_may_give(acting_user, tenant, role)
    secret = new_secret()
    with transaction.atomic():
        _lock(tenant)
        if tenant.invitations.filter(accepted_at=None).count() >= MAX_OPEN_INVITATIONS:
            raise TooMany("There are too many open invitations. Revoke some first.")
        invitation = Invitation.objects.create(
            tenant=tenant,
            role=role,
            email=email.strip().lower()[:254],
            secret_hash=hash_secret(secret),
            created_by=acting_user,
            expires_at=timezone.now() + INVITATION_LIFETIME,
        )
        record(
            "create_invitation",
            acting_user=acting_user,
            tenant=tenant,
            target=invitation,
            role=role,
            email=email,
        )
    return invitation, secret


def find_invitation(secret: str) -> Invitation:
    """The open invitation of a secret. Raises `LinkNotUsable`, for every cause alike."""
    invitation = (
        Invitation.objects.select_related("tenant")
        .filter(
            secret_hash=hash_secret(secret),
            accepted_at=None,
            expires_at__gt=timezone.now(),
            tenant__deleted_at=None,
        )
        .first()
    )
    if invitation is None:
        raise LinkNotUsable
    return invitation


def accept_invitation(secret: str, *, acting_user: User) -> Membership:
    """Join the tenant. A member who opens a link again keeps their role and does not use it up."""
    if acting_user.is_guest:
        raise GuestNotAllowed
    with transaction.atomic():
        _lock(find_invitation(secret).tenant)
        invitation = find_invitation(secret)  # again, now that nobody else can accept it
        existing = Membership.objects.filter(tenant=invitation.tenant, user=acting_user).first()
        if existing is not None:
            return existing
        _require_room(invitation.tenant)
        membership = Membership.objects.create(
            tenant=invitation.tenant, user=acting_user, role=invitation.role
        )
        invitation.accepted_by = acting_user
        invitation.accepted_at = timezone.now()
        invitation.save(update_fields=["accepted_by", "accepted_at"])
        record(
            "accept_invitation",
            acting_user=acting_user,
            tenant=invitation.tenant,
            target=invitation,
            role=invitation.role,
        )
    return membership


def revoke_invitation(invitation: Invitation, *, acting_user: User) -> None:
    require_role(acting_user, invitation.tenant, *MANAGERS)
    with transaction.atomic():
        record("revoke_invitation", acting_user=acting_user, tenant=invitation.tenant, target=invitation)
        invitation.delete()


def _require_may_touch(acting_user: User, membership: Membership) -> None:
    """Admins manage admins and members; owners everybody."""
    mine = require_role(acting_user, membership.tenant, *MANAGERS)
    if membership.role == Role.OWNER and mine.role != Role.OWNER:
        raise PermissionDenied("Only an owner can change another owner.")


def _require_another_owner(membership: Membership) -> None:
    owners = membership.tenant.memberships.filter(role=Role.OWNER).exclude(pk=membership.pk)
    if membership.role == Role.OWNER and not owners.exists():
        raise LastOwner


def change_role(membership: Membership, *, role: str, acting_user: User) -> Membership:
    """Give a member another role. Raises `LastOwner` when the tenant would have no owner left."""
    _require_may_give(acting_user, membership.tenant, role)
    with transaction.atomic():
        _lock(membership.tenant)
        membership.refresh_from_db()
        _require_may_touch(acting_user, membership)
        if role != Role.OWNER:
            _require_another_owner(membership)
        before, membership.role = membership.role, role
        membership.save(update_fields=["role"])
        record(
            "change_role",
            acting_user=acting_user,
            tenant=membership.tenant,
            target=membership.user,
            role=role,
            was=before,
        )
    return membership


def remove_member(membership: Membership, *, acting_user: User) -> None:
    """Take a member out, or leave oneself. Raises `LastOwner`."""
    tenant = membership.tenant
    require_role(acting_user, tenant)
    with transaction.atomic():
        _lock(tenant)
        membership.refresh_from_db()
        if membership.user_id != acting_user.pk:
            _require_may_touch(acting_user, membership)
        elif tenant.is_personal:
            raise PersonalTenant("A personal tenant cannot be left. Delete your account instead.")
        _require_another_owner(membership)
        record(
            "remove_member",
            acting_user=acting_user,
            tenant=tenant,
            target=membership.user,
            role=membership.role,
        )
        membership.delete()
