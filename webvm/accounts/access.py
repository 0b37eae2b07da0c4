"""Who may do what: a user's tenants and roles. Every query for a tenant's things starts here."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet
from django.http import HttpRequest

from webvm.accounts.errors import NotSignedIn
from webvm.accounts.models import Membership, Role, Tenant, User
from webvm.errors import NotFound, PermissionDenied

MANAGERS = (Role.OWNER, Role.ADMIN)
SESSION_KEY = "tenant"


def tenants_of(user: User | AnonymousUser) -> QuerySet[Tenant]:
    """The tenants `user` is a member of, the personal one first. Empty for nobody."""
    if not isinstance(user, User) or not user.is_active:
        return Tenant.objects.none()
    return Tenant.objects.filter(memberships__user=user, deleted_at=None).order_by(
        "-is_personal", "name", "id"
    )


def find_tenant(user: User | AnonymousUser, tenant_id: uuid.UUID | str) -> Tenant:
    """One of the user's tenants. Raises `NotFound` for another's, for none and for what is no id."""
    try:
        wanted = uuid.UUID(str(tenant_id))
    except ValueError:
        raise NotFound from None
    tenant = tenants_of(user).filter(pk=wanted).first()
    if tenant is None:
        raise NotFound
    return tenant


def require_role(user: User | AnonymousUser, tenant: Tenant, *roles: str) -> Membership:
    """The user's membership. Raises `NotFound` for those who are no members, `PermissionDenied` for members
    whose role is none of `roles` (no roles: any member will do)."""
    membership = None
    if isinstance(user, User) and user.is_active:
        membership = Membership.objects.filter(tenant=tenant, tenant__deleted_at=None, user=user).first()
    if membership is None:
        raise NotFound
    if roles and membership.role not in roles:
        raise PermissionDenied
    return membership


def personal_tenant(user: User) -> Tenant:
    """The tenant that was made together with the user."""
    return Tenant.objects.get(memberships__user=user, is_personal=True, deleted_at=None)


def signed_in(request: HttpRequest) -> User:
    """The user of a request behind `login_required` or the API's auth. Raises `NotSignedIn`."""
    user = getattr(request, "auth", None) or request.user
    if not isinstance(user, User):
        raise NotSignedIn
    return user


def require_site_admin(acting_user: User | None, to: str) -> None:
    """`None` is the command line or the schedule; `to`: what is wanted, for the person. Raises
    `PermissionDenied`.
    """
    if acting_user is not None and not (acting_user.is_active and acting_user.is_staff):
        raise PermissionDenied(f"Only admins of this site {to}.")


def current_tenant(request: HttpRequest) -> Tenant:
    """The tenant a page is about: `?tenant=`, else the one switched to in this session, else one's own.

    Raises `NotFound` when `?tenant=` is not one of the user's; a stale choice in the session is passed over.
    """
    user = signed_in(request)
    asked = request.GET.get("tenant")
    if asked:
        return find_tenant(user, asked)
    chosen = request.session.get(SESSION_KEY)
    if chosen:
        tenant = tenants_of(user).filter(pk=chosen).first()
        if tenant is not None:
            return tenant
    return personal_tenant(user)
