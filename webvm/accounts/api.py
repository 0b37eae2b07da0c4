"""`/me`, `/tokens`, `/tenants` and their members."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Field, Router, Schema, Status
from pydantic import AwareDatetime

from webvm.accounts import actions
from webvm.accounts.access import find_tenant, personal_tenant, signed_in, tenants_of
from webvm.accounts.models import ApiToken, Membership, Role, Tenant, User
from webvm.accounts.usage import Usage, usages_of
from webvm.errors import NotFound

router = Router(tags=["Accounts"])


class UserOut(Schema):
    id: int
    email: str
    name: str
    is_staff: bool
    is_guest: bool


class MeIn(Schema):
    name: str


class MeOut(UserOut):
    guest_expires_at: datetime | None
    personal_tenant: UUID


class TokenOut(Schema):
    id: int
    name: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


class NewTokenOut(TokenOut):
    token: str = Field(description="The secret. It is never shown again.")


class TokenIn(Schema):
    name: str
    expires_at: AwareDatetime | None = None


class TenantOut(Schema):
    id: UUID
    name: str
    role: Role
    is_personal: bool
    allow_guests: bool
    quota_bytes: int
    used_bytes: int = Field(description="What counts: saved, or uploaded for a save")
    condemned_bytes: int = Field(description="Of deleted things: no longer counted, soon cleared away")
    max_vms: int
    vms: int
    max_sessions: int
    sessions: int = Field(description="Machines that run at this moment")


class TenantIn(Schema):
    name: str


class TenantPatch(Schema):
    name: str | None = None
    allow_guests: bool | None = None


class MemberOut(Schema):
    id: int
    user: UserOut
    role: Role
    created_at: datetime


class MemberIn(Schema):
    email: str
    role: Role = Role.MEMBER


class RoleIn(Schema):
    role: Role


class TokenPage(Schema):
    items: list[TokenOut]
    next: str | None


class TenantPage(Schema):
    items: list[TenantOut]
    next: str | None


class MemberPage(Schema):
    items: list[MemberOut]
    next: str | None


def tenant_json(tenant: Tenant, role: str, usage: Usage | None = None) -> dict[str, Any]:
    vms, sessions = usage or usages_of([tenant.pk])[tenant.pk]
    return {
        "id": tenant.pk,
        "name": tenant.name,
        "role": role,
        "is_personal": tenant.is_personal,
        "allow_guests": tenant.allow_guests,
        "quota_bytes": tenant.quota_bytes,
        "used_bytes": tenant.used_bytes,
        "condemned_bytes": tenant.condemned_bytes,
        "max_vms": tenant.max_vms,
        "vms": vms,
        "max_sessions": tenant.max_sessions,
        "sessions": sessions,
    }


def role_in(user: User, tenant: Tenant) -> str:
    return Membership.objects.get(user=user, tenant=tenant).role


def me_json(user: User) -> dict[str, Any]:
    return {
        "id": user.pk,
        "email": user.email,
        "name": user.name,
        "is_staff": user.is_staff,
        "is_guest": user.is_guest,
        "guest_expires_at": user.guest_expires_at,
        "personal_tenant": personal_tenant(user).pk,
    }


def find_member(user: User, tenant_id: UUID, member_id: int) -> Membership:
    membership = (
        Membership.objects.select_related("tenant", "user")
        .filter(pk=member_id, tenant=find_tenant(user, tenant_id))
        .first()
    )
    if membership is None:
        raise NotFound
    return membership


@router.get("/me", response=MeOut)
def get_me(request: HttpRequest) -> dict[str, Any]:
    """Who the request is from."""
    return me_json(signed_in(request))


@router.patch("/me", response=MeOut)
def update_me(request: HttpRequest, payload: MeIn) -> dict[str, Any]:
    """Change the name that others see."""
    user = signed_in(request)
    return me_json(actions.update_profile(user, name=payload.name, acting_user=user))


@router.get("/tokens", response=TokenPage)
def list_tokens(request: HttpRequest) -> dict[str, Any]:
    return {"items": ApiToken.objects.filter(user=signed_in(request)).order_by("-pk"), "next": None}


@router.post("/tokens", response={201: NewTokenOut})
def create_token(request: HttpRequest, payload: TokenIn) -> Status[dict[str, Any]]:
    token, secret = actions.create_token(
        name=payload.name, expires_at=payload.expires_at, acting_user=signed_in(request)
    )
    return Status(201, {**TokenOut.from_orm(token).model_dump(), "token": secret})


@router.delete("/tokens/{int:token_id}", response={204: None})
def revoke_token(request: HttpRequest, token_id: int) -> Status[None]:
    actions.revoke_token(token_id, acting_user=signed_in(request))
    return Status(204, None)


@router.get("/tenants", response=TenantPage)
def list_tenants(request: HttpRequest) -> dict[str, Any]:
    user = signed_in(request)
    roles = dict(Membership.objects.filter(user=user).values_list("tenant", "role"))
    tenants = list(tenants_of(user))
    usages = usages_of([tenant.pk for tenant in tenants])
    items = [tenant_json(tenant, roles[tenant.pk], usages[tenant.pk]) for tenant in tenants]
    return {"items": items, "next": None}


@router.post("/tenants", response={201: TenantOut})
def create_tenant(request: HttpRequest, payload: TenantIn) -> Status[dict[str, Any]]:
    tenant = actions.create_tenant(payload.name, acting_user=signed_in(request))
    return Status(201, tenant_json(tenant, Role.OWNER))


@router.get("/tenants/{tenant_id}", response=TenantOut)
def get_tenant(request: HttpRequest, tenant_id: UUID) -> dict[str, Any]:
    user = signed_in(request)
    tenant = find_tenant(user, tenant_id)
    return tenant_json(tenant, role_in(user, tenant))


@router.patch("/tenants/{tenant_id}", response=TenantOut)
def update_tenant(request: HttpRequest, tenant_id: UUID, payload: TenantPatch) -> dict[str, Any]:
    user = signed_in(request)
    tenant = actions.update_tenant(
        find_tenant(user, tenant_id), name=payload.name, allow_guests=payload.allow_guests, acting_user=user
    )
    return tenant_json(tenant, role_in(user, tenant))


@router.delete("/tenants/{tenant_id}", response={204: None})
def delete_tenant(request: HttpRequest, tenant_id: UUID) -> Status[None]:
    user = signed_in(request)
    actions.delete_tenant(find_tenant(user, tenant_id), acting_user=user)
    return Status(204, None)


@router.get("/tenants/{tenant_id}/members", response=MemberPage)
def list_members(
    request: HttpRequest, tenant_id: UUID, after: int = 0, limit: Annotated[int, Field(ge=1, le=500)] = 100
) -> dict[str, Any]:
    tenant = find_tenant(signed_in(request), tenant_id)
    rows = list(tenant.memberships.select_related("user").filter(pk__gt=after).order_by("pk")[: limit + 1])
    return {"items": rows[:limit], "next": str(rows[limit - 1].pk) if len(rows) > limit else None}


@router.post("/tenants/{tenant_id}/members", response={201: MemberOut})
def add_member(request: HttpRequest, tenant_id: UUID, payload: MemberIn) -> Status[Membership]:
    user = signed_in(request)
    tenant = find_tenant(user, tenant_id)
    return Status(201, actions.add_member(tenant, email=payload.email, role=payload.role, acting_user=user))


@router.patch("/tenants/{tenant_id}/members/{int:member_id}", response=MemberOut)
def change_role(request: HttpRequest, tenant_id: UUID, member_id: int, payload: RoleIn) -> Membership:
    user = signed_in(request)
    return actions.change_role(find_member(user, tenant_id, member_id), role=payload.role, acting_user=user)


@router.delete("/tenants/{tenant_id}/members/{int:member_id}", response={204: None})
def remove_member(request: HttpRequest, tenant_id: UUID, member_id: int) -> Status[None]:
    user = signed_in(request)
    actions.remove_member(find_member(user, tenant_id, member_id), acting_user=user)
    return Status(204, None)
