"""Sign-up and sign-in by email."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from django.conf import settings
from django.core import mail
from django.core.cache import cache

from tests.support.pages import PASSWORD, browser
from webvm.accounts.access import personal_tenant
from webvm.accounts.models import AuditEntry, Role, Tenant, User

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


def sign_up(email: str, password: str = PASSWORD) -> tuple[int, str]:
    response = browser().post("/accounts/signup/", {"email": email, "password1": password})
    return response.status_code, response.headers.get("Location", "")


def test_sign_up_makes_a_user_with_a_personal_tenant() -> None:
    client = browser()
    response = client.post("/accounts/signup/", {"email": "Ada@Example.org", "password1": PASSWORD})
    assert (response.status_code, response.headers["Location"]) == (302, "/machines/")
    user = User.objects.get(email="ada@example.org")
    tenant = personal_tenant(user)
    assert (tenant.name, tenant.is_personal, tenant.quota_bytes) == ("ada", True, settings.QUOTA_BYTES)
    assert list(tenant.memberships.values_list("user", "role")) == [(user.pk, Role.OWNER)]
    assert AuditEntry.objects.filter(action="sign_up", acting_user=user, tenant=tenant).count() == 1
    assert client.get("/settings/").status_code == 200
    assert [message.to for message in mail.outbox] == [["ada@example.org"]]


@pytest.mark.parametrize(
    ("email", "password"),
    [("no address", PASSWORD), ("a@example.org", "short"), ("a@example.org", "password")],
)
def test_bad_sign_up_changes_nothing(email: str, password: str) -> None:
    assert sign_up(email, password)[0] == 200
    assert not User.objects.exists()
    assert not Tenant.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_failure_on_the_way_leaves_no_half_made_user() -> None:
    with (
        patch("webvm.accounts.adapter.record", side_effect=OSError("disk full")),
        pytest.raises(OSError, match="disk full"),
    ):
        sign_up("ada@example.org")
    assert not User.objects.exists()
    assert not Tenant.objects.exists()


def test_a_taken_address_makes_no_second_user() -> None:
    sign_up("ada@example.org")
    sign_up("ADA@example.org")
    assert User.objects.count() == 1


def test_sign_in_with_any_spelling_of_the_address_and_out_again() -> None:
    User.objects.create_user("ada@example.org", PASSWORD)
    client = browser()
    response = client.post("/accounts/login/", {"login": "Ada@Example.ORG", "password": PASSWORD})
    assert (response.status_code, response.headers["Location"]) == (302, "/machines/")
    assert client.get("/settings/").status_code == 200
    assert client.get("/accounts/logout/").status_code == 200  # asks; a link alone signs nobody out
    assert client.get("/settings/").status_code == 200
    client.post("/accounts/logout/")
    assert client.get("/settings/").headers["Location"].startswith("/accounts/login/")


def test_next_leads_only_to_our_own_pages() -> None:
    User.objects.create_user("ada@example.org", PASSWORD)
    for target, lands_on in (
        ("/s/", "/s/"),
        ("https://evil.example/", "/machines/"),
        ("//evil.example", "/machines/"),
    ):
        data = {"login": "ada@example.org", "password": PASSWORD, "next": target}
        assert browser().post("/accounts/login/", data).headers["Location"] == lands_on


def test_guessing_a_password_is_slowed_down() -> None:
    User.objects.create_user("ada@example.org", PASSWORD)
    for _ in range(5):
        browser().post("/accounts/login/", {"login": "ada@example.org", "password": "wrong"})
    response = browser().post("/accounts/login/", {"login": "ada@example.org", "password": PASSWORD})
    assert response.status_code in (200, 429)  # the right password does not help any more
    assert "_auth_user_id" not in response.client.session


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/accounts/login/",
        "/accounts/signup/",
        "/accounts/password/reset/",
        "/accounts/password/reset/done/",
        "/accounts/password/reset/key/1-bad/",
        "/accounts/confirm-email/",
        "/accounts/confirm-email/bad-key/",
        "/accounts/inactive/",
        "/sign-in-link/",
        "/join/",
    ],
)
def test_pages_for_strangers_stand_in_our_frame(path: str) -> None:
    page = browser().get(path)
    assert page.status_code == 200
    assert b'class="site-header"' in page.content
    assert page.content.count(b"<h1") == 1


@pytest.mark.parametrize(
    "path",
    [
        "/settings/",
        "/settings/tokens/",
        "/settings/tenants/",
        "/settings/delete-account/",
        "/accounts/email/",
        "/accounts/password/change/",
        "/accounts/logout/",
        "/accounts/reauthenticate/",
    ],
)
def test_pages_for_users_stand_in_our_frame(path: str) -> None:
    page = browser(User.objects.create_user("ada@example.org", PASSWORD)).get(path)
    assert page.status_code == 200
    assert b'class="site-header"' in page.content
    assert page.content.count(b"<h1") == 1


def test_admin_entries_are_for_site_admins() -> None:
    user = User.objects.create_user("ada@example.org", PASSWORD)
    assert b'href="/admin/"' not in browser(user).get("/settings/").content
    admin = User.objects.create_superuser("root@example.org", PASSWORD)
    assert b'href="/admin/"' in browser(admin).get("/settings/").content


def test_password_reset_by_mail() -> None:
    User.objects.create_user("ada@example.org", PASSWORD)
    client = browser()
    assert client.post("/accounts/password/reset/", {"email": "ada@example.org"}).status_code == 302
    link = next(word for word in mail.outbox[0].body.split() if word.startswith("http"))
    page = client.get(link.replace("http://testserver", ""), follow=True)
    new = "another horse battery"
    client.post(page.redirect_chain[-1][0], {"password1": new, "password2": new})
    response = browser().post("/accounts/login/", {"login": "ada@example.org", "password": new})
    assert response.headers["Location"] == "/machines/"
