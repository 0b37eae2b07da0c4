"""How the JSON API knows its user: session cookie with CSRF protection, or `Authorization: Bearer …`."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from ninja.security import HttpBearer
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from webvm.accounts.errors import CsrfFailed
from webvm.accounts.models import User
from webvm.accounts.tokens import user_for_token


class BearerToken(HttpBearer):
    """An API token. `request.user` is set too: code below need not know how somebody signed in."""

    def authenticate(self, request: HttpRequest, token: str) -> User | None:
        user = user_for_token(token)
        if user is not None:
            request.user = user
        return user


class SessionCookie(AuthBase):
    """The pages' own session. CSRF is looked at after the user: nobody's request is a 401, not a 403."""

    openapi_type = "apiKey"
    openapi_in = "cookie"
    openapi_name = settings.SESSION_COOKIE_NAME
    allow_anonymous = False

    def __call__(self, request: HttpRequest) -> User | AnonymousUser | None:
        if "Authorization" in request.headers:
            return None  # a wrong token must not fall back to whoever is signed in
        if not isinstance(request.user, User) and not self.allow_anonymous:
            return None
        if check_csrf(request):
            raise CsrfFailed
        return request.user


class Anybody(SessionCookie):
    """For the few calls open to people who are not signed in; `request.auth` may be an `AnonymousUser`."""

    allow_anonymous = True


API_AUTH = [BearerToken(), SessionCookie()]
OPEN_AUTH = [BearerToken(), Anybody()]
