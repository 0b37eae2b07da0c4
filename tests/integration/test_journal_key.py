"""The key of a browser's journal of unsaved work: who gets it, which one, and what signing out leaves."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.test import Client

from sessions.actions.vms import create_vm, delete_vm
from sessions.models import VM
from tests.support.machines import make_image, make_token, make_user
from tests.support.pages import browser, call
from webvm.accounts.journal import derive
from webvm.accounts.models import Membership, Tenant, User

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
CHANGE = "/accounts/password/change/"


@pytest.fixture
def ada() -> User:
    make_image()
    return make_user("ada@example.org")


@pytest.fixture
def vm(ada: User) -> VM:
    return create_vm("tiny", acting_user=ada)


def key_of(client: Client, vm: VM) -> dict[str, Any]:
    status, answer = call(client, "POST", f"/vms/{vm.pk}/journal-key")
    assert status == 200, answer
    return dict(answer)


def test_derivation_is_the_standards() -> None:
    """RFC 5869, test case 1, the first block."""
    okm = derive(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)))
    assert okm.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


def test_the_key_is_the_users_and_the_vms(ada: User, vm: VM) -> None:
    client = browser(ada)
    answer = key_of(client, vm)
    assert len(base64.b64decode(answer["key"])) == 32
    assert answer == key_of(browser(ada), vm), "another browser can take it up"
    other = key_of(client, create_vm("tiny", acting_user=ada))
    assert (other["key"] == answer["key"], other["owner"]) == (False, answer["owner"])

    eve = make_user("eve@example.org")
    Membership.objects.create(tenant=vm.tenant, user=eve)
    colleague = key_of(browser(eve), vm)
    assert {colleague["key"], colleague["owner"]}.isdisjoint(answer.values())
    status, by_token = call(Client(), "POST", f"/vms/{vm.pk}/journal-key", token=make_token(ada))
    assert (status, by_token) == (200, answer)


def test_nobody_else_gets_one_nor_anything_that_could_keep_it(ada: User, vm: VM) -> None:
    path = f"/vms/{vm.pk}/journal-key"
    assert call(browser(make_user("eve@example.org")), "POST", path)[0] == 404
    assert call(browser(), "POST", path)[0] == 401
    assert call(browser(ada), "GET", path)[0] == 405, "no link and no other site can ask for it"
    assert call(browser(ada, csrf=True), "POST", path)[0] == 403
    response = browser(ada).post(f"/api/v1{path}", content_type="application/json")
    assert response.headers["Cache-Control"] == "no-store"


def test_who_loses_the_machine_loses_the_key(ada: User, vm: VM) -> None:
    eve = make_user("eve@example.org")
    membership = Membership.objects.create(tenant=vm.tenant, user=eve)
    client = browser(eve)
    key_of(client, vm)
    membership.delete()
    assert call(client, "POST", f"/vms/{vm.pk}/journal-key")[0] == 404
    before = key_of(browser(ada), vm)
    delete_vm(vm.pk, acting_user=ada)
    assert call(browser(ada), "POST", f"/vms/{vm.pk}/journal-key")[0] == 404
    call(browser(ada), "POST", f"/vms/{vm.pk}/restore")
    assert key_of(browser(ada), vm) == before


def test_the_console_page_names_the_owner_and_never_the_key(ada: User, vm: VM) -> None:
    client = browser(ada)
    answer = key_of(client, vm)
    page = client.get(f"/vms/{vm.pk}/").content.decode()
    assert f'data-journal-owner="{answer["owner"]}"' in page
    assert answer["key"] not in page
    assert answer["owner"] in client.get("/machines/").content.decode(), "the sign-out form warns"


def test_changing_the_password_renews_the_keys_and_a_forgotten_one_does_not(ada: User, vm: VM) -> None:
    ada.set_password(PASSWORD)
    ada.save()
    client = browser(ada)
    before = key_of(client, vm)
    new = "another horse battery"
    client.post(CHANGE, {"oldpassword": "wrong", "password1": new, "password2": new})
    assert key_of(client, vm) == before
    answer = client.post(CHANGE, {"oldpassword": PASSWORD, "password1": new, "password2": new})
    assert answer.status_code == 302
    after = key_of(client, vm)
    assert after["key"] != before["key"]
    assert after["owner"] == before["owner"], "signing out still finds what is older"
    ada.refresh_from_db()
    assert Tenant.objects.get(memberships__user=ada).audit_entries.count() >= 1
    assert ada.audit_entries.filter(action="rotate_journal_keys").count() == 1


def test_signing_out_tells_the_next_page_whose_journals_to_remove(ada: User, vm: VM) -> None:
    client = browser(ada)
    owner = key_of(client, vm)["owner"]
    client.get("/machines/")
    assert "webvm_signed_out" not in client.cookies
    client.post("/accounts/logout/")
    cookie = client.cookies["webvm_signed_out"]
    assert cookie.value == owner
    assert not cookie["httponly"], "the page's script reads it"
    # Somebody else signs out before any page was shown: nobody is forgotten.
    eve = make_user("eve@example.org")
    client.force_login(eve, backend="django.contrib.auth.backends.ModelBackend")
    eves = key_of(client, create_vm("tiny", acting_user=eve))["owner"]
    client.post("/accounts/logout/")
    assert client.cookies["webvm_signed_out"].value == f"{owner}.{eves}"


def test_deleting_the_account_removes_them_too_and_failing_to_does_not(ada: User, vm: VM) -> None:
    client = browser(ada)
    owner = key_of(client, vm)["owner"]
    shared = Tenant.objects.create(name="shared")
    Membership.objects.create(tenant=shared, user=ada, role="owner")
    Membership.objects.create(tenant=shared, user=make_user("eve@example.org"))
    form = {"confirm": "delete"}
    assert client.post("/settings/delete-account/", form).status_code == 422, "the last owner stays"
    assert "webvm_signed_out" not in client.cookies
    shared.memberships.all().delete()
    assert client.post("/settings/delete-account/", form).status_code == 302
    assert client.cookies["webvm_signed_out"].value == owner
