"""Pages that belong to no app: the landing page, the icon, errors."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe


@require_safe
def landing(request: HttpRequest) -> HttpResponse:
    """What this is, for strangers; those who are signed in go to their machines."""
    if request.user.is_authenticated:
        return redirect("/machines/")
    return render(request, "landing.html")


@require_safe
@cache_control(public=True, max_age=86400)
def favicon(request: HttpRequest) -> HttpResponse:
    return render(request, "icons/favicon.svg", content_type="image/svg+xml")


def too_many_requests(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return render(request, "429.html", status=429)
