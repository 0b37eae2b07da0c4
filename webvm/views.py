"""Pages that belong to no app: the landing page, the icon, errors."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template import loader
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from webvm.errors import NotFound, ServerError


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


def wants_json(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if wants_json(request):
        return JsonResponse({"error": NotFound().as_json()}, status=404)
    return render(request, "404.html", status=404)


def too_many_requests(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return render(request, "429.html", status=429)


def server_error(request: HttpRequest) -> HttpResponse:
    """Needs neither the database nor the built client."""
    if wants_json(request):
        return JsonResponse({"error": ServerError().as_json()}, status=500)
    return HttpResponse(loader.get_template("500.html").render(), status=500)
