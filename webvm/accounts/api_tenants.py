"""What managers of a tenant see and give: invitations and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from ninja import Field, Router, Schema, Status

from webvm.accounts import actions
from webvm.accounts.access import MANAGERS, find_tenant, require_role, signed_in
from webvm.accounts.limits import limit
from webvm.accounts.models import AuditEntry, Invitation, Role, Tenant, User
from webvm.errors import NotFound

router = Router(tags=["Accounts"])

PageLimit = Annotated[int, Field(ge=1, le=500)]


class InvitationOut(Schema):
    id: int
    role: Role
    email: str = Field(description="Whom it was meant for; a note, not a condition")
    created_at: datetime
    expires_at: datetime


class NewInvitationOut(InvitationOut):
    url: str = Field(description="What to send. It is never shown again.")


class InvitationIn(Schema):
    role: Role = Role.MEMBER
    email: str = ""


class InvitationPage(Schema):
    items: list[InvitationOut]
    next: str | None


class SecretIn(Schema):
    secret: str = Field(max_length=200, description="What follows the # in the link")


class JoinedOut(Schema):
    tenant: UUID
    role: Role


class AuditOut(Schema):
    id: int
    action: str
    acting_user: str | None
    target_type: str
    target_id: str
    data: dict[str, Any]
    created_at: datetime

    @staticmethod
    def resolve_acting_user(entry: AuditEntry) -> str | None:
        return entry.acting_user.email if entry.acting_user else None


class AuditPage(Schema):
    items: list[AuditOut]
    next: str | None


def managed_tenant(user: User, tenant_id: UUID) -> Tenant:
    tenant = find_tenant(user, tenant_id)
    require_role(user, tenant, *MANAGERS)
    return tenant


@router.get("/tenants/{uuid:tenant_id}/invitations", response=InvitationPage)
def list_invitations(request: HttpRequest, tenant_id: UUID) -> dict[str, Any]:
    """The open ones; a tenant has at most 100."""
    tenant = managed_tenant(signed_in(request), tenant_id)
    rows = tenant.invitations.filter(accepted_at=None, expires_at__gt=timezone.now()).order_by("-pk")
    return {"items": rows, "next": None}


@router.post("/tenants/{uuid:tenant_id}/invitations", response={201: NewInvitationOut})
def create_invitation(request: HttpRequest, tenant_id: UUID, payload: InvitationIn) -> Status[dict[str, Any]]:
    """Make a link that lets one person in, for seven days. The answer is the only time its URL is seen."""
    user = signed_in(request)
    invitation, secret = actions.create_invitation(
        find_tenant(user, tenant_id), role=payload.role, email=payload.email, acting_user=user
    )
    url = f"{request.build_absolute_uri(reverse('join'))}#{secret}"
    return Status(201, {**InvitationOut.from_orm(invitation).model_dump(), "url": url})


@router.delete("/tenants/{uuid:tenant_id}/invitations/{int:invitation_id}", response={204: None})
def revoke_invitation(request: HttpRequest, tenant_id: UUID, invitation_id: int) -> Status[None]:
    user = signed_in(request)
    invitation = Invitation.objects.filter(tenant=find_tenant(user, tenant_id), pk=invitation_id).first()
    if invitation is None:
        raise NotFound
    actions.revoke_invitation(invitation, acting_user=user)
    return Status(204, None)


@router.post("/invitations/accept", response=JoinedOut)
def accept_invitation(request: HttpRequest, payload: SecretIn) -> dict[str, Any]:
    """Join the tenant of an invitation. Wrong, expired, revoked and used ones get one answer."""
    limit(request, "invitation")
    membership = actions.accept_invitation(payload.secret, acting_user=signed_in(request))
    return {"tenant": membership.tenant_id, "role": membership.role}


@router.get("/tenants/{uuid:tenant_id}/audit", response=AuditPage)
def list_audit_entries(
    request: HttpRequest, tenant_id: UUID, before: int = 2**63 - 1, limit: PageLimit = 100
) -> dict[str, Any]:
    """Who changed what, newest first; for owners and admins. `before` is the `next` of the page above."""
    tenant = managed_tenant(signed_in(request), tenant_id)
    entries = tenant.audit_entries.select_related("acting_user").filter(pk__lt=before).order_by("-pk")
    rows = list(entries[: limit + 1])
    return {"items": rows[:limit], "next": str(rows[limit - 1].pk) if len(rows) > limit else None}
