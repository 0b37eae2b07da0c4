"""Settings of tenants: name and guests, members, invitations, audit log."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from webvm.accounts import actions
from webvm.accounts.access import MANAGERS, SESSION_KEY, current_tenant, find_tenant, require_role, signed_in
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.forms import InvitationForm, MemberForm, TenantForm, TenantSettingsForm
from webvm.accounts.models import Invitation, Membership, Role, Tenant
from webvm.accounts.usage import usages_of
from webvm.accounts.views.attempt import attempt
from webvm.errors import NotFound

SHOWN_MEMBERS = 200
SHOWN_ENTRIES = 100


def find_membership(tenant: Tenant, member_id: int) -> Membership:
    membership = tenant.memberships.select_related("tenant", "user").filter(pk=member_id).first()
    if membership is None:
        raise NotFound
    return membership


@login_required
@require_http_methods(["GET", "POST"])
def tenants(request: HttpRequest) -> HttpResponse:
    """The tenants one is in; POST makes a new one."""
    user = signed_in(request)
    form = TenantForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["name"]
        done = f"{name} is ready. Add its members below."
        made: list[Tenant] = []
        if attempt(request, lambda: made.append(actions.create_tenant(name, acting_user=user)), done):
            return redirect("tenant", made[0].pk)
        return redirect("tenants")
    memberships = list(
        Membership.objects.select_related("tenant")
        .filter(user=user, tenant__deleted_at=None)
        .order_by("-tenant__is_personal", "tenant__name", "pk")
    )
    context = {
        "form": form,
        "memberships": memberships,
        "usages": usages_of([membership.tenant_id for membership in memberships]),
        "current": current_tenant(request),
        "tab": "tenants",
    }
    return render(request, "settings/tenants.html", context)


def tenant_page(
    request: HttpRequest,
    tenant: Tenant,
    *,
    form: TenantSettingsForm | None = None,
    member_form: MemberForm | None = None,
    invitation_form: InvitationForm | None = None,
    invitation_url: str = "",
) -> HttpResponse:
    """The page of one tenant; the forms are those that were sent and need mending."""
    mine = require_role(signed_in(request), tenant)
    members = list(tenant.memberships.select_related("user").order_by("pk")[: SHOWN_MEMBERS + 1])
    bad = form or member_form or invitation_form
    context = {
        "tab": "tenants",
        "tenant": tenant,
        "usages": usages_of([tenant.pk]),
        "undo_days": undo_time().days,
        "mine": mine,
        "is_manager": mine.role in MANAGERS,
        "roles": Role.choices,
        "members": members[:SHOWN_MEMBERS],
        "more_members": len(members) > SHOWN_MEMBERS,
        "invitations": tenant.invitations.select_related("created_by").filter(
            accepted_at=None, expires_at__gt=timezone.now()
        ),
        "form": form
        or TenantSettingsForm(initial={"name": tenant.name, "allow_guests": tenant.allow_guests}),
        "member_form": member_form or MemberForm(auto_id="member_%s"),
        "invitation_form": invitation_form or InvitationForm(auto_id="invitation_%s"),
        "invitation_url": invitation_url,
    }
    return render(request, "settings/tenant.html", context, status=422 if bad else 200)


@login_required
@require_http_methods(["GET", "POST"])
def tenant(request: HttpRequest, tenant_id: UUID) -> HttpResponse:
    user = signed_in(request)
    shown = find_tenant(user, tenant_id)
    if request.method != "POST":
        return tenant_page(request, shown)
    form = TenantSettingsForm(request.POST)
    if not form.is_valid():
        return tenant_page(request, shown, form=form)
    attempt(
        request,
        lambda: actions.update_tenant(shown, acting_user=user, **form.cleaned_data),
        "The settings are saved.",
    )
    return redirect("tenant", shown.pk)


@login_required
@require_POST
def switch(request: HttpRequest, tenant_id: UUID) -> HttpResponse:
    """Make a tenant the one whose machines this session shows."""
    request.session[SESSION_KEY] = str(find_tenant(signed_in(request), tenant_id).pk)
    back = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts=None)
    return redirect(back if safe else "/machines/")


@login_required
@require_POST
def delete(request: HttpRequest, tenant_id: UUID) -> HttpResponse:
    user = signed_in(request)
    gone = find_tenant(user, tenant_id)
    done = f"{gone} is deleted. An admin of this site can bring it back for {undo_time().days} days."
    if attempt(request, lambda: actions.delete_tenant(gone, acting_user=user), done):
        return redirect("tenants")
    return redirect("tenant", gone.pk)


@login_required
@require_POST
def add_member(request: HttpRequest, tenant_id: UUID) -> HttpResponse:
    user = signed_in(request)
    shown = find_tenant(user, tenant_id)
    form = MemberForm(request.POST, auto_id="member_%s")
    if not form.is_valid():
        return tenant_page(request, shown, member_form=form)
    done = f"{form.cleaned_data['email']} is now a member."
    attempt(request, lambda: actions.add_member(shown, acting_user=user, **form.cleaned_data), done)
    return redirect("tenant", shown.pk)


@login_required
@require_POST
def change_role(request: HttpRequest, tenant_id: UUID, member_id: int) -> HttpResponse:
    user = signed_in(request)
    member = find_membership(find_tenant(user, tenant_id), member_id)
    role = request.POST.get("role", "")
    done = f"{member.user} now has the role {role}."
    attempt(request, lambda: actions.change_role(member, role=role, acting_user=user), done)
    return redirect("tenant", tenant_id)


@login_required
@require_POST
def remove_member(request: HttpRequest, tenant_id: UUID, member_id: int) -> HttpResponse:
    user = signed_in(request)
    member = find_membership(find_tenant(user, tenant_id), member_id)
    is_me = member.user_id == user.pk
    done = f"You have left {member.tenant}." if is_me else f"{member.user} is no longer a member."
    left = attempt(request, lambda: actions.remove_member(member, acting_user=user), done)
    return redirect("tenants") if is_me and left else redirect("tenant", tenant_id)


@login_required
@never_cache
@require_POST
def create_invitation(request: HttpRequest, tenant_id: UUID) -> HttpResponse:
    """Answers the page with the new link, the only time it is seen."""
    user = signed_in(request)
    shown = find_tenant(user, tenant_id)
    form = InvitationForm(request.POST, auto_id="invitation_%s")
    if not form.is_valid():
        return tenant_page(request, shown, invitation_form=form)
    made: list[str] = []
    if not attempt(
        request,
        lambda: made.append(actions.create_invitation(shown, acting_user=user, **form.cleaned_data)[1]),
        "The invitation is ready. Copy its link below.",
    ):
        return redirect("tenant", shown.pk)
    url = f"{request.build_absolute_uri(reverse('join'))}#{made[0]}"
    return tenant_page(request, shown, invitation_url=url)


@login_required
@require_POST
def revoke_invitation(request: HttpRequest, tenant_id: UUID, invitation_id: int) -> HttpResponse:
    user = signed_in(request)
    invitation = Invitation.objects.filter(tenant=find_tenant(user, tenant_id), pk=invitation_id).first()
    if invitation is None:
        raise NotFound
    attempt(
        request,
        lambda: actions.revoke_invitation(invitation, acting_user=user),
        "The invitation is revoked.",
    )
    return redirect("tenant", tenant_id)


@login_required
@require_safe
def audit(request: HttpRequest, tenant_id: UUID) -> HttpResponse:
    """What was changed in the tenant, newest first; for owners and admins. `?before=<entry id>` goes on."""
    user = signed_in(request)
    shown = find_tenant(user, tenant_id)
    require_role(user, shown, *MANAGERS)
    entries = shown.audit_entries.select_related("acting_user").order_by("-pk")
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit():
        entries = entries.filter(pk__lt=min(int(before), 2**63 - 1))
    rows = list(entries[: SHOWN_ENTRIES + 1])
    older = rows[SHOWN_ENTRIES - 1].pk if len(rows) > SHOWN_ENTRIES else None
    context = {"tenant": shown, "entries": rows[:SHOWN_ENTRIES], "older": older, "tab": "tenants"}
    return render(request, "settings/audit.html", context)
