"""Personal API tokens."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.support.pages import browser, call
from webvm.accounts.actions import create_guest, create_token
from webvm.accounts.actions.secrets import MAX_TOKENS
from webvm.accounts.models import ApiToken, AuditEntry, User
from webvm.accounts.tokens import user_for_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada@example.org")


def test_a_token_made_on_the_page_works_and_is_shown_once(ada: User) -> None:
    client = browser(ada)
    page = client.post("/settings/tokens/", {"name": "backup", "days": "30"}).content.decode()
    secret = page.split('id="new-token">')[1].split("<")[0]
    assert call(browser(), "GET", "/me", token=secret)[1]["email"] == "ada@example.org"
    assert secret not in client.get("/settings/tokens/").content.decode()
    assert secret not in str(list(ApiToken.objects.values())) + str(list(AuditEntry.objects.values()))


def test_a_token_made_by_the_api_lives_until_it_is_revoked(ada: User) -> None:
    client = browser(ada)
    status, made = call(client, "POST", "/tokens", {"name": "ci"})
    assert status == 201
    secret = made["token"]
    assert secret.startswith("wvm_")
    assert made["prefix"] == secret[:12]
    listed = call(browser(), "GET", "/tokens", token=secret)[1]["items"]
    assert [(t["name"], "token" in t) for t in listed] == [("ci", False)]
    assert call(client, "DELETE", f"/tokens/{made['id']}")[0] == 204
    assert call(browser(), "GET", "/me", token=secret)[0] == 401


def test_tokens_of_others_look_like_none(ada: User) -> None:
    token, _ = create_token(name="mine", acting_user=ada)
    grace = browser(User.objects.create_user("grace@example.org"))
    foreign = call(grace, "DELETE", f"/tokens/{token.pk}")
    missing = call(grace, "DELETE", "/tokens/999999")
    assert foreign == missing
    assert foreign[0] == 404
    assert ApiToken.objects.filter(pk=token.pk).exists()


def test_a_token_ends(ada: User) -> None:
    token, secret = create_token(name="x", acting_user=ada, expires_at=timezone.now() + timedelta(hours=1))
    assert user_for_token(secret) == ada
    ApiToken.objects.filter(pk=token.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert user_for_token(secret) is None


def test_a_token_does_nothing_for_a_user_who_may_not_sign_in(ada: User) -> None:
    _, secret = create_token(name="x", acting_user=ada)
    User.objects.update(is_active=False)
    assert user_for_token(secret) is None


def test_use_is_noted_but_not_at_every_request(ada: User) -> None:
    token, secret = create_token(name="x", acting_user=ada)
    user_for_token(secret)
    token.refresh_from_db()
    first = token.last_used_at
    assert first is not None
    user_for_token(secret)
    token.refresh_from_db()
    assert token.last_used_at == first


@pytest.mark.parametrize("name", ["", "   ", "x" * 81])
def test_bad_names_are_refused(ada: User, name: str) -> None:
    status, answer = call(browser(ada), "POST", "/tokens", {"name": name})
    assert (status, answer["error"]["code"]) == (422, "invalid_input")


def test_an_end_in_the_past_or_without_a_zone_is_refused(ada: User) -> None:
    for end in ("2001-01-01T00:00:00Z", "2001-01-01T00:00:00", "2999-01-01T00:00:00"):
        status, answer = call(browser(ada), "POST", "/tokens", {"name": "x", "expires_at": end})
        assert (status, answer["error"]["code"]) == (422, "invalid_input"), end


def test_the_number_of_tokens_is_bounded(ada: User) -> None:
    for number in range(MAX_TOKENS):
        create_token(name=str(number), acting_user=ada)
    status, answer = call(browser(ada), "POST", "/tokens", {"name": "one more"})
    assert (status, answer["error"]["code"]) == (409, "too_many")


def test_guests_have_no_tokens() -> None:
    status, answer = call(browser(create_guest()), "POST", "/tokens", {"name": "x"})
    assert (status, answer["error"]["code"]) == (403, "guest_not_allowed")
