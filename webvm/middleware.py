"""Security headers on every answer, and typed errors as pages."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from storage.stores import find_upload_space
from webvm.errors import MethodNotAllowed, WebVMError

GetResponse = Callable[[HttpRequest], HttpResponse]


def origin_of(url: str | None) -> str:
    """`scheme://host:port` of an absolute URL, "" for a relative or empty one."""
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else ""


def content_security_policy() -> str:
    """Scripts from here only, none inline; chunks may come from the CDN of the settings, and uploads go to
    the object store where the client puts them there itself.

    `wasm-unsafe-eval` and `blob:` workers are what an emulator that compiles WebAssembly needs; inline styles
    are what xterm.js's renderer needs.
    """
    uploads = find_upload_space()
    origins = (origin_of(settings.CHUNK_BASE_URL), uploads.upload_origin() if uploads else "")
    connect = dict.fromkeys(filter(None, origins))
    return "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'wasm-unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "worker-src 'self' blob:",
            " ".join(("connect-src 'self'", *connect)),
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


class SecurityHeaders:
    """First in the chain, so that static files (a worker's script has its own policy) get the headers too."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", content_security_policy())
        response.headers.setdefault(
            "Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=()"
        )
        return response


class ErrorPages:
    """A `WebVMError` that leaves a page's view becomes a page with its sentence and status; what the API's
    router itself refuses gets the API's shape."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code == 405 and request.path.startswith("/api/"):
            headers = {"Allow": response.headers["Allow"]} if "Allow" in response.headers else None
            return JsonResponse({"error": MethodNotAllowed().as_json()}, status=405, headers=headers)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, WebVMError):
            return None
        return render(request, "errors/error.html", {"error": exception}, status=exception.status)
