"""Who is at the other end of a socket, and whether they still may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session as Login
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from sessions.access import vms_of
from sessions.actions.leases import who_holds
from sessions.models import VM
from webvm.accounts.models import Membership, Tenant, User
from webvm.accounts.tokens import users_for_tokens


@dataclass(frozen=True)
class Credentials:
    """What the handshake carried; looked at again and again, since it may be revoked at any time."""

    token: str | None
    session_key: str | None


@dataclass(frozen=True)
class Asking:
    """A question for the lease."""

    session: UUID
    by: str
    at: datetime


@dataclass(frozen=True)
class VMState:
    """What a socket must notice changing."""

    tenant: Tenant
    epoch: int
    lease_session: UUID | None
    head: UUID | None
    holder: dict[str, Any]
    """Who has it, as `who_holds` says it."""
    asked: Asking | None


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
    return find_users([credentials]).get(credentials)


def find_users(given: Iterable[Credentials]) -> dict[Credentials, User]:
    """The active users behind the credentials that are good at this moment, in a few queries for all."""
    asked = set(given)
    by_token = users_for_tokens({each.token for each in asked if each.token})
    by_login = _users_of_logins({each.session_key for each in asked if each.session_key})
    found: dict[Credentials, User] = {}
    for each in asked:
        # A token that is wrong is not made good by a cookie.
        user = by_login.get(each.session_key or "") if each.token is None else by_token.get(each.token)
        if user is not None:
            found[each] = user
    return found


def _users_of_logins(keys: set[str]) -> dict[str, User]:
    """What Django's `get_user` answers for a request with each of these session keys."""
    if not keys:
        return {}
    store = SessionStore()
    logins = Login.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
    sessions = {login.session_key: store.decode(login.session_data) for login in logins}
    ids = {data[SESSION_KEY] for data in sessions.values() if SESSION_KEY in data}
    users = {str(user.pk): user for user in User.objects.filter(pk__in=ids, is_active=True)}
    found = {}
    for key, data in sessions.items():
        user = users.get(data.get(SESSION_KEY, ""))
        if (
            user is not None
            and data.get(BACKEND_SESSION_KEY) in settings.AUTHENTICATION_BACKENDS
            and _is_hash_of(user, data.get(HASH_SESSION_KEY, ""))
        ):
            found[key] = user
    return found


def _is_hash_of(user: User, session_hash: str) -> bool:
    """Whether the login is of the user's present password: a changed one ends it."""
    hashes = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    return any(constant_time_compare(session_hash, each) for each in hashes)


def find_state(user: User, vm_id: UUID) -> VMState | None:
    """The VM's state, None when it is not there for `user`."""
    vm: VM | None = vms_of(user).filter(pk=vm_id).select_related(*STATE).first()
    return _state_of(vm, user) if vm else None


def find_states(sockets: Iterable[tuple[Credentials, UUID]]) -> list[tuple[User | None, VMState | None]]:
    """For each socket its user, if it still has one, and the VM's state, if it is still there for that user:
    what `find_user` and `find_state` answer, in a few queries for all.
    """
    asked = list(sockets)
    users = find_users(credentials for credentials, _ in asked)
    vms = {
        vm.pk: vm
        for vm in VM.objects.select_related(*STATE).filter(
            pk__in={vm_id for _, vm_id in asked}, deleted_at=None
        )
    }
    members = set(
        Membership.objects.filter(
            user__in={user.pk for user in users.values()},
            tenant__in={vm.tenant_id for vm in vms.values()},
            tenant__deleted_at=None,
        ).values_list("user_id", "tenant_id")
    )
    found: list[tuple[User | None, VMState | None]] = []
    for credentials, vm_id in asked:
        user, vm = users.get(credentials), vms.get(vm_id)
        is_there = user is not None and vm is not None and (user.pk, vm.tenant_id) in members
        found.append((user, _state_of(vm, user) if vm and user and is_there else None))
    return found


STATE = ("tenant", "lease_user", "asked_by")


def _state_of(vm: VM, user: User) -> VMState:
    asked = None
    if vm.asked_session and vm.asked_by and vm.asked_at:
        asked = Asking(vm.asked_session, str(vm.asked_by), vm.asked_at)
    return VMState(vm.tenant, vm.epoch, vm.lease_session, vm.head_id, who_holds(vm, user), asked)
