"""Who is at the other end of a socket, and whether they still may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest

from sessions.access import vms_of
from sessions.models import VM
from webvm.accounts.models import Tenant, User
from webvm.accounts.tokens import user_for_token


@dataclass(frozen=True)
class Credentials:
    """What the handshake carried; looked at again and again, since it may be revoked at any time."""

    token: str | None
    session_key: str | None


@dataclass(frozen=True)
class VMState:
    """What a socket must notice changing."""

    tenant: Tenant
    epoch: int
    lease_session: UUID | None
    head: UUID | None


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """A header of the handshake; None when it is missing or there is more than one."""
    values = [value for key, value in scope["headers"] if key.lower() == name]
    return values[0].decode("latin-1") if len(values) == 1 else None


def credentials_of(scope: Mapping[str, Any]) -> Credentials:
    """The API token, else the session cookie. A token that is wrong is not made good by a cookie."""
    authorization = header(scope, b"authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        return Credentials(token.strip() if scheme.lower() == "bearer" else "", None)
    try:
        cookies = SimpleCookie(header(scope, b"cookie") or "")
    except CookieError:
        return Credentials(None, None)
    morsel = cookies.get(settings.SESSION_COOKIE_NAME)
    return Credentials(None, morsel.value if morsel else None)


def may_connect(scope: Mapping[str, Any], credentials: Credentials) -> bool:
    """Same origin only. Browsers always name their origin, so a cookie without one is refused; programs with
    a token have none."""
    origin = header(scope, b"origin")
    if origin is None:
        return credentials.session_key is None
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    return bool(origin) and urlsplit(origin).netloc.lower() == (header(scope, b"host") or "").lower() != ""


def find_user(credentials: Credentials) -> User | None:
    """The active user behind the credentials at this moment."""
    if credentials.token is not None:
        return user_for_token(credentials.token) if credentials.token else None
    if not credentials.session_key:
        return None
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(credentials.session_key)
    user = get_user(request)  # checks the session's hash too, so that a changed password ends it
    return user if isinstance(user, User) and user.is_active else None


def find_state(user: User, vm_id: UUID) -> VMState | None:
    """The VM's state, None when it is not there for `user`."""
    vm: VM | None = vms_of(user).filter(pk=vm_id).select_related("tenant").first()
    return VMState(vm.tenant, vm.epoch, vm.lease_session, vm.head_id) if vm else None
