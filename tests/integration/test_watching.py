"""What all sockets are told together is what each would find alone, and costs the same for many."""

from __future__ import annotations

import uuid

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions.actions.vms import create_vm, delete_vm
from sessions.models import VM
from sessions.peers import Credentials, find_state, find_states, find_user
from tests.support.machines import make_image, make_token, make_user
from webvm.accounts.models import ApiToken, Membership, Tenant, User

pytestmark = pytest.mark.django_db


def sign_in(user: User) -> Credentials:
    client = Client()
    client.force_login(user)
    return Credentials(None, client.cookies["sessionid"].value)


def make_vm(user: User) -> VM:
    return create_vm("tiny", acting_user=user)


def test_it_is_what_each_would_find_alone() -> None:
    make_image()
    ada, bob, gone, banned, changed = (make_user() for _ in range(5))
    vms = [make_vm(user) for user in (ada, bob, gone, banned, changed)]
    good = [Credentials(make_token(user), None) for user in (ada, bob)] + [sign_in(ada), sign_in(bob)]
    bad = [
        Credentials(None, None),
        Credentials("", None),
        Credentials("wvm_wrong", good[2].session_key),
        Credentials(None, "wrong"),
        Credentials(make_token(banned), None),
        sign_in(banned),
        sign_in(changed),
        Credentials(make_token(gone), None),
    ]
    expired = Credentials(make_token(ada), None)
    ApiToken.objects.filter(pk=ApiToken.objects.latest("pk").pk).update(expires_at=timezone.now())
    User.objects.filter(pk=banned.pk).update(is_active=False)
    changed.set_password("another")
    changed.save()
    delete_vm(vms[1].pk, acting_user=bob)
    Membership.objects.filter(user=gone).delete()
    asked = [
        (credentials, vm_id)
        for credentials in (*good, *bad, expired)
        for vm_id in (*(vm.pk for vm in vms), uuid.uuid4())
    ]
    for (credentials, vm_id), (user, state) in zip(asked, find_states(asked), strict=True):
        assert user == find_user(credentials)
        assert (user is not None) == (credentials in good or credentials == bad[-1])
        assert state == (find_state(user, vm_id) if user else None)
    assert sum(state is not None for _, state in find_states(asked)) == 2
    Tenant.objects.filter(pk=vms[0].tenant_id).update(deleted_at=timezone.now())
    assert not any(state for _, state in find_states(asked))


def test_it_costs_the_same_for_many() -> None:
    make_image()
    asked = []
    for _ in range(12):
        user = make_user()
        vm = make_vm(user)
        asked += [(Credentials(make_token(user), None), vm.pk), (sign_in(user), vm.pk)]
    find_states(asked)  # notes that the tokens were used

    def queries(count: int) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert all(state for _, state in find_states(asked[:count]))
        return len(captured)

    assert queries(2) == queries(24) <= 6
