"""Small helpers of the pages' templates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import template
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html
from django.utils.safestring import SafeString

from webvm.accounts.access import SESSION_KEY, tenants_of
from webvm.accounts.journal import journal_owner
from webvm.accounts.models import Tenant, User
from webvm.accounts.usage import Usage

register = template.Library()
MENU_TENANTS = 30


@register.simple_tag(takes_context=True)
def nav_link(context: dict[str, Any], href: str, label: str) -> SafeString:
    """A link that says so (`aria-current`) on its page and on those below it."""
    request = context.get("request")
    here = "" if request is None else request.path
    current = "page" if here == href else "true" if here.startswith(href) else ""
    return format_html(
        '<a href="{}"{}>{}</a>', href, format_html(' aria-current="{}"', current) if current else "", label
    )


@register.simple_tag
def ago(moment: Any) -> SafeString:
    """A `<time>` that the client turns into "3 minutes ago"; without scripts it shows the date and time."""
    if moment is None:
        return SafeString("<span>never</span>")
    return format_html(
        '<time datetime="{}" data-relative>{}</time>',
        moment.isoformat(),
        moment.strftime("%Y-%m-%d %H:%M UTC"),
    )


@register.simple_tag(takes_context=True)
def tenants_of_session(context: dict[str, Any]) -> list[dict[str, Any]]:
    """The tenants one can switch to: `{pk, name, is_current}`."""
    request = context.get("request")
    if request is None or not request.user.is_authenticated:
        return []
    chosen = request.session.get(SESSION_KEY)
    tenants = [(str(tenant.pk), tenant) for tenant in tenants_of(request.user)[:MENU_TENANTS]]
    if chosen not in dict(tenants):
        chosen = next((pk for pk, tenant in tenants if tenant.is_personal), None)
    return [{"pk": pk, "name": tenant.name, "is_current": pk == chosen} for pk, tenant in tenants]


@register.simple_tag
def journal_owner_of(user: User) -> str:
    """Under which name the browser files the user's journals of unsaved work."""
    return journal_owner(user)


@register.simple_tag
def quotas_of(tenant: Tenant, usages: dict[UUID, Usage]) -> list[dict[str, Any]]:
    """A tenant's quotas: `{title, used, most, percent (0 to 100), advice}`."""
    usage = usages.get(tenant.pk, Usage())
    rows: list[tuple[str, int, int, Callable[[int], str], str]] = [
        (
            *("Storage", tenant.used_bytes, tenant.quota_bytes, filesizeformat),
            "Nothing more can be saved: delete snapshots or machines that are not needed.",
        ),
        ("Machines", usage.vms, tenant.max_vms, str, "Delete a machine before you make another one."),
        (
            *("Running now", usage.sessions, tenant.max_sessions, str),
            "Close a machine before you open another one.",
        ),
    ]
    return [
        {
            "title": title,
            "used": shown(used),
            "most": shown(most),
            "percent": min(100, 100 * used // most) if most else 100,
            "advice": advice,
        }
        for title, used, most, shown, advice in rows
    ]


@register.filter
def words(name: str) -> str:
    """`revoke_token` → `revoke token`."""
    return name.replace("_", " ")
