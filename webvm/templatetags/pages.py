"""Small helpers of the pages' templates."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag(takes_context=True)
def nav_link(context: dict[str, Any], href: str, label: str) -> SafeString:
    """A link that says so (`aria-current`) when the page, or the part of the site it heads, is the one shown."""
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
        return format_html("<span>never</span>")
    return format_html(
        '<time datetime="{}" data-relative>{}</time>',
        moment.isoformat(),
        moment.strftime("%Y-%m-%d %H:%M UTC"),
    )


@register.filter
def percent_of(part: int, whole: int) -> int:
    """How many percent of `whole` is `part`, 0 to 100."""
    return min(100, max(0, round(100 * part / whole))) if whole else 0
