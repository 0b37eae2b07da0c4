"""Guests: temporary accounts that can be kept, and that end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.core import mail
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from tests.support.pages import PASSWORD, browser
from webvm.accounts.access import personal_tenant
from webvm.accounts.actions import create_guest, expire_guests, keep_guest
from webvm.accounts.errors import EmailTaken
from webvm.accounts.models import Tenant, User
from webvm.errors import PermissionDenied

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


def test_a_guest_has_little_and_not_for_long() -> None:
    guest = create_guest()
    assert guest.is_guest
    assert guest.email.endswith(".invalid")
    assert not guest.has_usable_password()
    assert guest.guest_expires_at is not None
    assert timedelta(days=6) < guest.guest_expires_at - timezone.now() <= timedelta(days=7)
    assert personal_tenant(guest).quota_bytes == settings.GUEST_QUOTA_BYTES
    page = browser(guest).get("/settings/").content
    assert b"Keep this by signing up" in page


def test_keeping_it_makes_the_same_user_a_full_one() -> None:
    guest = create_guest()
    tenant = personal_tenant(guest)
    client = browser(guest)
    response = client.post("/keep/", {"email": "Ada@example.org", "password": PASSWORD})
    assert (response.status_code, response.headers["Location"]) == (302, "/machines/")
    assert client.get("/settings/").status_code == 200  # still signed in
    user = User.objects.get(pk=guest.pk)
    assert (user.email, user.is_guest, user.guest_expires_at) == ("ada@example.org", False, None)
    assert personal_tenant(user) == tenant
    assert personal_tenant(user).quota_bytes == settings.QUOTA_BYTES
    assert [message.to for message in mail.outbox] == [["ada@example.org"]]
    signed_in = browser().post("/accounts/login/", {"login": "ada@example.org", "password": PASSWORD})
    assert signed_in.headers["Location"] == "/machines/"
    assert client.get("/keep/").status_code == 302  # nothing more to keep


@pytest.mark.parametrize(
    ("email", "password"), [("taken@example.org", PASSWORD), ("nonsense", PASSWORD), ("a@example.org", "123")]
)
def test_what_cannot_be_kept_stays_a_guest(email: str, password: str) -> None:
    User.objects.create_user("taken@example.org")
    guest = create_guest()
    page = browser(guest).post("/keep/", {"email": email, "password": password})
    assert page.status_code == 422
    assert b"errorlist" in page.content
    guest.refresh_from_db()
    assert guest.is_guest


def test_nobody_keeps_anothers_guest_account() -> None:
    guest = create_guest()
    with pytest.raises(PermissionDenied):
        keep_guest(guest, email="a@example.org", password=PASSWORD, acting_user=create_guest())
    full = User.objects.create_user("full@example.org")
    with pytest.raises(PermissionDenied):
        keep_guest(full, email="a@example.org", password=PASSWORD, acting_user=full)


@pytest.mark.parametrize(
    "path", ["/accounts/email/", "/accounts/password/change/", "/accounts/password/set/"]
)
def test_guests_sign_up_before_they_change_how_they_sign_in(path: str) -> None:
    assert browser(create_guest()).get(path).headers["Location"] == "/keep/"


def test_guests_go_when_their_time_is_over_and_nobody_else_does() -> None:
    past = timezone.now() - timedelta(minutes=1)
    expired, fresh, full = create_guest(), create_guest(), User.objects.create_user("full@example.org")
    tenant = personal_tenant(expired)
    User.objects.filter(pk__in=[expired.pk, full.pk]).update(guest_expires_at=past)
    client = browser(expired)
    out = StringIO()
    call_command("expireguests", stdout=out)
    assert out.getvalue() == "1 guests removed.\n"
    assert set(User.objects.all()) == {fresh, full}
    assert Tenant.objects.get(pk=tenant.pk).deleted_at is not None
    assert client.get("/settings/").status_code == 302


def test_expiry_takes_few_at_a_time() -> None:
    for _ in range(3):
        create_guest()
    User.objects.update(guest_expires_at=timezone.now() - timedelta(minutes=1))
    assert [expire_guests(limit=2), expire_guests(limit=2), expire_guests(limit=2)] == [2, 1, 0]


@pytest.mark.django_db(transaction=True)
def test_two_guests_cannot_keep_the_same_address() -> None:
    guests = [create_guest() for _ in range(4)]

    def keep(guest: User) -> bool:
        try:
            keep_guest(guest, email="ada@example.org", password=PASSWORD, acting_user=guest)
        except EmailTaken:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(keep, guests)) == 1
    assert User.objects.filter(is_guest=True).count() == 3
