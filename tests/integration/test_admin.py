"""The Django admin: every model of ours has pages that work, and they are for site admins only."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib import admin
from django.db.models import Model
from django.urls import reverse

from sessions.actions.vms import create_vm
from tests.support.machines import make_image, save
from tests.support.pages import PASSWORD, browser
from webvm.accounts import actions
from webvm.accounts.access import personal_tenant
from webvm.accounts.models import Tenant, User

pytestmark = pytest.mark.django_db
OURS = [
    model
    for label in ("accounts", "storage", "vm_sessions")
    for model in apps.get_app_config(label).get_models()
]


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root@example.org", PASSWORD)


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_every_model_can_be_listed_and_searched(root: User, model: type[Model]) -> None:
    assert model in admin.site._registry
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    assert browser(root).get(url).status_code == 200
    assert browser(root).get(url, {"q": "x"}).status_code == 200
    assert browser(User.objects.create_user("ada@example.org")).get(url).status_code == 302


def test_a_user_made_here_has_a_personal_tenant(root: User) -> None:
    data = {
        "email": "New@Example.org",
        "name": "",
        "usable_password": "true",
        "password1": PASSWORD,
        "password2": PASSWORD,
        "memberships-TOTAL_FORMS": "0",
        "memberships-INITIAL_FORMS": "0",
    }
    response = browser(root).post("/admin/accounts/user/add/", data)
    assert response.status_code == 302
    user = User.objects.get(email="new@example.org")
    assert personal_tenant(user).is_personal
    assert browser(root).post("/admin/accounts/user/add/", data).status_code == 200  # taken: the form says so
    page = browser(root).get(f"/admin/accounts/user/{user.pk}/change/")
    assert page.status_code == 200
    assert b"new@example.org" in page.content


def test_deleting_a_user_here_retires_their_tenants(root: User) -> None:
    ada = User.objects.create_user("ada@example.org")
    lab = actions.create_tenant("Lab", acting_user=ada)
    response = browser(root).post(f"/admin/accounts/user/{ada.pk}/delete/", {"post": "yes"})
    assert response.status_code == 302
    assert not User.objects.filter(pk=ada.pk).exists()
    assert Tenant.objects.get(pk=lab.pk).deleted_at is not None


def test_secrets_are_not_shown_not_even_as_digests(root: User) -> None:
    token, secret = actions.create_token(name="x", acting_user=root)
    page = browser(root).get(f"/admin/accounts/apitoken/{token.pk}/change/").content.decode()
    assert token.prefix in page
    assert secret not in page
    assert token.token_hash not in page


def test_sign_in_links_are_made_by_superusers(root: User) -> None:
    ada = User.objects.create_user("ada@example.org")
    data = {"action": "make_sign_in_link", "_selected_action": str(ada.pk)}
    page = browser(root).post("/admin/accounts/user/", data, follow=True).content.decode()
    secret = page.split("/sign-in-link/#")[1].split("<")[0].strip()
    assert browser().post("/sign-in-link/", {"secret": secret}).status_code == 302


@pytest.mark.parametrize("model", ["vm", "snapshot"])
def test_what_keeps_chunks_alive_is_hidden_here_and_never_torn_out(root: User, model: str) -> None:
    machine, ada = make_image()[1].copy(), User.objects.create_user("ada@example.org")
    vm = create_vm("tiny", acting_user=ada)
    row = {"vm": vm, "snapshot": save(vm, machine, "one", ada)}[model]
    page = f"/admin/vm_sessions/{model}/{row.pk}"
    assert browser(root).post(f"{page}/delete/", {"post": "yes"}).status_code == 403
    data = {"action": "delete_selected", "_selected_action": str(row.pk), "post": "yes"}
    browser(root).post(f"/admin/vm_sessions/{model}/", data)
    row.refresh_from_db()
