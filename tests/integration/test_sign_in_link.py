"""One-time sign-in links and the first admin."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from tests.support.pages import browser
from webvm.accounts.actions import create_sign_in_link, use_sign_in_link
from webvm.accounts.bootstrap import ensure_first_admin
from webvm.accounts.errors import LinkNotUsable
from webvm.accounts.models import SignInLink, User
from webvm.errors import PermissionDenied

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada@example.org")


def test_it_signs_in_once(user: User) -> None:
    secret = create_sign_in_link(user, acting_user=None)
    client = browser()
    response = client.post("/sign-in-link/", {"secret": secret})
    assert (response.status_code, response.headers["Location"]) == (302, "/machines/")
    assert client.get("/settings/").status_code == 200
    again = browser().post("/sign-in-link/", {"secret": secret})
    assert again.status_code == 404
    assert b"cannot be used" in again.content


def test_looking_at_it_does_not_use_it_up(user: User) -> None:
    secret = create_sign_in_link(user, acting_user=None)
    previewer = browser()
    assert previewer.get("/sign-in-link/").status_code == 200
    assert previewer.head("/sign-in-link/").status_code in (200, 405)
    assert browser().post("/sign-in-link/", {"secret": secret}).status_code == 302


def test_every_link_that_does_not_work_gets_the_same_answer(user: User) -> None:
    expired = create_sign_in_link(user, acting_user=None)
    SignInLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    gone = User.objects.create_user("gone@example.org", is_active=False)
    inactive = create_sign_in_link(gone, acting_user=None)
    used = create_sign_in_link(User.objects.create_user("b@example.org"), acting_user=None)
    use_sign_in_link(used)
    answers = {
        (page.status_code, page.content.split(b"<main")[1].split(b"<form")[0])
        for page in (
            browser().post("/sign-in-link/", {"secret": s}) for s in (expired, inactive, used, "wrong", "")
        )
    }
    assert len(answers) == 1


def test_a_new_link_ends_the_old_one(user: User) -> None:
    old = create_sign_in_link(user, acting_user=None)
    new = create_sign_in_link(user, acting_user=None)
    with pytest.raises(LinkNotUsable):
        use_sign_in_link(old)
    assert use_sign_in_link(new) == user


def test_the_secret_is_nowhere_in_the_database(user: User) -> None:
    secret = create_sign_in_link(user, acting_user=None)
    assert secret not in str(list(SignInLink.objects.values()))


def test_only_superusers_make_links_for_others(user: User) -> None:
    with pytest.raises(PermissionDenied):
        create_sign_in_link(user, acting_user=User.objects.create_user("b@example.org", is_staff=True))


def test_guessing_is_slowed_down() -> None:
    statuses = [browser().post("/sign-in-link/", {"secret": "wrong"}).status_code for _ in range(25)]
    assert statuses[:20] == [404] * 20
    assert set(statuses[20:]) == {429}


@pytest.mark.django_db(transaction=True)
def test_two_at_once_sign_in_one(user: User) -> None:
    secret = create_sign_in_link(user, acting_user=None)

    def use(_: int) -> bool:
        try:
            use_sign_in_link(secret)
        except LinkNotUsable:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(use, range(8))) == 1


def test_first_admin_until_one_has_signed_in() -> None:
    first = ensure_first_admin()
    second = ensure_first_admin()
    assert first is not None
    assert second is not None
    assert second.startswith("/sign-in-link/#")
    assert User.objects.filter(is_superuser=True).count() == 1
    client = browser()
    assert client.post("/sign-in-link/", {"secret": first.split("#")[1]}).status_code == 404
    assert client.post("/sign-in-link/", {"secret": second.split("#")[1]}).status_code == 302
    assert b"Set a password" in client.get("/settings/").content
    assert client.get("/admin/").status_code == 200
    assert ensure_first_admin() is None


def test_no_first_admin_is_made_beside_another() -> None:
    User.objects.create_superuser("root@example.org", "x", last_login=timezone.now())
    assert ensure_first_admin() is None
    assert User.objects.count() == 1


def test_command_for_somebody_who_is_locked_out(user: User) -> None:
    out = StringIO()
    call_command("signinlink", user.email, stdout=out)
    secret = out.getvalue().strip().split("#")[1]
    assert use_sign_in_link(secret) == user
