"""The page for importing a machine."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from sessions.archives.imports import UNFINISHED, latest_imports, max_bytes
from webvm.accounts.access import current_tenant, signed_in


@login_required
@require_safe
@never_cache
def import_page(request: HttpRequest) -> HttpResponse:
    """A file picker, how far the import is, and the latest ones. The script sends and follows."""
    user = signed_in(request)
    tenant = current_tenant(request)
    jobs = list(latest_imports(user).select_related("vm"))
    context = {
        "tenant": tenant,
        "max_bytes": max_bytes(tenant),
        "running": next((job for job in jobs if job.state in UNFINISHED), None),
        "jobs": [job for job in jobs if job.state not in UNFINISHED],
    }
    return render(request, "sessions/import.html", context)
