"""Signing a known user in, outside allauth's forms."""

from __future__ import annotations

from django.contrib.auth import login
from django.http import HttpRequest

from webvm.accounts.models import User
from webvm.accounts.tasks import expire_guests_soon

BACKEND = "django.contrib.auth.backends.ModelBackend"


def sign_in(request: HttpRequest, user: User) -> None:
    """Sign `user` in (a new session key, `last_login` set). The caller has checked a link or made a guest."""
    login(request, user, backend=BACKEND)
    if user.is_guest:
        expire_guests_soon()  # whenever a guest comes, those whose time is over go
