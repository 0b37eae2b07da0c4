"""One shape for every error of the API."""

from __future__ import annotations

import uuid
from unittest.mock import patch

import pytest
from django.test import Client

from tests.support.pages import browser, call
from webvm.accounts.actions import create_token
from webvm.accounts.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada@example.org")


def test_nobody_is_told_to_sign_in() -> None:
    response = Client().get("/api/v1/me")
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "not_signed_in"
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_a_wrong_token_is_not_made_up_for_by_a_session(ada: User) -> None:
    status, answer = call(browser(ada), "GET", "/me", token="wvm_wrong")
    assert (status, answer["error"]["code"]) == (401, "not_signed_in")


def test_a_session_needs_the_csrf_token_to_change_things(ada: User) -> None:
    client = browser(ada, csrf=True)
    status, answer = call(client, "POST", "/tenants", {"name": "x"})
    assert (status, answer["error"]["code"]) == (403, "csrf_failed")
    client.cookies["csrftoken"] = "a" * 32
    made = client.post(
        "/api/v1/tenants", {"name": "x"}, content_type="application/json", headers={"X-CSRFToken": "a" * 32}
    )
    assert made.status_code == 201


def test_a_token_needs_no_csrf_token(ada: User) -> None:
    _, secret = create_token(name="x", acting_user=ada)
    status, _ = call(browser(csrf=True), "POST", "/tenants", {"name": "x"}, token=secret)
    assert status == 201


def test_validation_names_the_field(ada: User) -> None:
    status, answer = call(browser(ada), "POST", "/tenants", {"name": 7})
    assert (status, answer["error"]["code"]) == (422, "invalid_input")
    assert answer["error"]["fields"][0]["field"] == "body.name"
    assert "body.name" in answer["error"]["message"]


def test_a_body_that_is_no_json(ada: User) -> None:
    response = browser(ada).post("/api/v1/tenants", b"{not json", content_type="application/json")
    assert response.status_code == 400
    assert set(response.json()["error"]) == {"code", "message"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/tenants/nothing", 422),
        ("GET", "/tokens/x", 404),
        ("DELETE", "/me", 405),
    ],
)
def test_what_the_router_refuses_has_the_same_shape(ada: User, method: str, path: str, status: int) -> None:
    response = browser(ada).generic(method, f"/api/v1{path}")
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("application/json")
    assert set(response.json()["error"]) >= {"code", "message"}


def test_a_foreign_tenant_looks_like_none(ada: User) -> None:
    tenant = User.objects.create_user("grace@example.org").memberships.get().tenant
    client = browser(ada)
    for method, tail, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "mine"}),
        ("DELETE", "", None),
        ("GET", "/members", None),
        ("POST", "/members", {"email": "ada@example.org"}),
        ("PATCH", "/members/1", {"role": "owner"}),
        ("DELETE", "/members/1", None),
        ("GET", "/invitations", None),
        ("POST", "/invitations", {"role": "member"}),
        ("DELETE", "/invitations/1", None),
        ("GET", "/audit", None),
    ):
        foreign = call(client, method, f"/tenants/{tenant.pk}{tail}", body)
        missing = call(client, method, f"/tenants/{uuid.uuid4()}{tail}", body)
        assert foreign == missing, (method, tail)
        assert foreign[0] == 404


def test_a_fault_of_ours_has_the_same_shape(ada: User) -> None:
    client = browser(ada)
    client.raise_request_exception = False
    with patch("webvm.accounts.api.tenants_of", side_effect=OSError("secret detail")):
        response = client.get("/api/v1/tenants")
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "server_error"
    assert b"secret detail" not in response.content


def test_the_documentation_is_there_and_complete() -> None:
    assert Client().get("/api/v1/docs").status_code == 200
    paths = Client().get("/api/v1/openapi.json").json()["paths"]
    assert {"/api/v1/me", "/api/v1/tokens", "/api/v1/tenants", "/api/v1/vms"} <= set(paths)
