"""The JSON API under /api/v1/: every app's router, and one shape for errors."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, Throttled, ValidationError

from sessions.api import router as sessions_router
from sessions.archives.api import router as archives_router
from storage.api import router as storage_router
from webvm.accounts.api import router as accounts_router
from webvm.accounts.api_tenants import router as tenants_router
from webvm.accounts.auth import API_AUTH
from webvm.accounts.errors import NotSignedIn
from webvm.errors import InvalidInput, NotFound, WebVMError

api = NinjaAPI(
    title="WebVM",
    version="1",
    description="Everything the pages do. Sign in with the session cookie (and CSRF token), or with an API"
    " token from the settings page: `Authorization: Bearer wvm_…`.",
    auth=API_AUTH,
    urls_namespace="api",
)
api.add_router("", accounts_router)
api.add_router("", tenants_router)
api.add_router("", sessions_router)
api.add_router("", archives_router)
api.add_router("", storage_router)


def answer(request: HttpRequest, error: WebVMError, status: int | None = None) -> HttpResponse:
    response = api.create_response(request, {"error": error.as_json()}, status=status or error.status)
    if error.status == 401:
        response["WWW-Authenticate"] = "Bearer"
    return response


@api.exception_handler(WebVMError)
def on_webvm_error(request: HttpRequest, error: WebVMError) -> HttpResponse:
    return answer(request, error)


@api.exception_handler(AuthenticationError)
def on_authentication_error(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return answer(request, NotSignedIn())


@api.exception_handler(Http404)
def on_http_404(request: HttpRequest, error: Http404) -> HttpResponse:
    return answer(request, NotFound())


@api.exception_handler(ValidationError)
def on_validation_error(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """`fields`: [{field, message}], where field is the path of the value, such as `body.name`."""
    fields: list[dict[str, Any]] = [
        {
            "field": ".".join(str(part) for part in problem["loc"] if part != "payload"),
            "message": problem["msg"],
        }
        for problem in error.errors
    ]
    first = f"{fields[0]['field']}: {fields[0]['message']}." if fields else InvalidInput.message
    return answer(request, InvalidInput(first, fields=fields))


@api.exception_handler(HttpError)
def on_http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    """What ninja itself refuses, such as a body that is no JSON, or too many requests."""
    response = answer(request, InvalidInput(str(error)), status=error.status_code)
    if isinstance(error, Throttled) and error.wait is not None:
        response["Retry-After"] = str(error.wait)
    return response
