"""The keys of the journals that browsers keep of unsaved work (docs/design/journal.md).

Derived, never stored: what a browser holds can be read only while this service says so to whom it belongs.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse

from webvm.accounts.models import User

SALT = b"webvm journal 1"
KEY_BYTES = 32
SIGNED_OUT_COOKIE = "webvm_signed_out"
COOKIE_SECONDS = 30 * 24 * 3600
MOST_OWNERS = 8
_LEFT = "_journal_owner_left"


def derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) of one block: 32 bytes."""
    return hmac.digest(hmac.digest(salt, secret, "sha256"), info + b"\x01", "sha256")


def journal_key(user: User, vm_id: UUID) -> bytes:
    """The 32-byte secret of the journals that `user` keeps of one VM, until `rotate_journal_keys`."""
    return _derive(f"key|{user.pk}|{user.journal_generation}|{vm_id}")


def journal_owner(user: User) -> str:
    """The name (32 hex digits) under which browsers file `user`'s journals. It is no secret, tells nothing
    about the user, and outlives a rotation, so that signing out finds what is older."""
    return _derive(f"owner|{user.pk}")[:16].hex()


def _derive(info: str) -> bytes:
    return derive(settings.SECRET_KEY.encode(), SALT, info.encode())


@receiver(user_logged_out)
def signed_out(request: HttpRequest | None, user: User | None, **_: Any) -> None:
    if request is not None and user is not None and user.pk is not None:
        forget_journals(request, journal_owner(user))


def forget_journals(request: HttpRequest, owner: str) -> None:
    """Have the browser that sent `request` remove the journals of `owner` with the next page it shows."""
    setattr(request, _LEFT, owner)


class ForgetJournals:
    """Middleware: after signing out, whichever way, a cookie tells the next page's script whose journals to
    remove. The sign-out form's own script could not: it would remove them before it is known whether signing
    out worked."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        left = getattr(request, _LEFT, None)
        if left:
            # A page of somebody who signed out before may not have been seen yet.
            before = request.COOKIES.get(SIGNED_OUT_COOKIE, "").split(".")
            owners = [owner for owner in before if owner and owner != left][-(MOST_OWNERS - 1) :]
            response.set_cookie(
                SIGNED_OUT_COOKIE,
                ".".join([*owners, left]),
                max_age=COOKIE_SECONDS,
                secure=settings.SESSION_COOKIE_SECURE,
                samesite="Lax",
            )
        return response
