"""Pages and API calls through Django's test client."""

from __future__ import annotations

import json
from typing import Any

from django.test import Client

from webvm.accounts.models import User

PASSWORD = "correct horse battery"


def browser(user: User | None = None, *, csrf: bool = False) -> Client:
    """A client with its own cookies, signed in as `user`; `csrf`: with CSRF checks, as a real browser meets
    them."""
    client = Client(enforce_csrf_checks=csrf)
    if user is not None:
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def call(
    client: Client, method: str, path: str, body: Any = None, *, token: str | None = None
) -> tuple[int, Any]:
    """One call of the JSON API: status and decoded answer (None when it is empty)."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    data = b"" if body is None else json.dumps(body).encode()
    response = client.generic(
        method, f"/api/v1{path}", data, content_type="application/json", headers=headers
    )
    return response.status_code, json.loads(response.content) if response.content else None
