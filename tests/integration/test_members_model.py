"""Whatever members do to each other, a model of the rules agrees with the service, and no tenant is without
an owner."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from webvm.accounts import actions
from webvm.accounts.models import Membership, Role, Tenant, User
from webvm.errors import WebVMError

PEOPLE = ("ada", "grace", "linus", "ken")
people = st.sampled_from(PEOPLE)
roles = st.sampled_from(Role.values)


class Members(RuleBasedStateMachine):
    """`self.model`: who has which role."""

    def __init__(self) -> None:
        super().__init__()
        User.objects.all().delete()
        Tenant.objects.all().delete()
        self.users = {name: User.objects.create_user(f"{name}@example.org") for name in PEOPLE}
        self.tenant = actions.create_tenant("Lab", acting_user=self.users["ada"])
        self.model = {"ada": "owner"}

    def attempt(self, allowed: bool, call: Any) -> bool:
        try:
            call()
        except (WebVMError, Membership.DoesNotExist):
            assert not allowed
            return False
        assert allowed
        return True

    def rank(self, name: str) -> int:
        return {"owner": 3, "admin": 2, "member": 1}.get(self.model.get(name, ""), 0)

    def is_last_owner(self, name: str) -> bool:
        return self.model.get(name) == "owner" and list(self.model.values()).count("owner") == 1

    def may_give(self, actor: str, role: str) -> bool:
        return self.rank(actor) == 3 or (self.rank(actor) == 2 and role != "owner")

    def membership(self, name: str) -> Membership:
        return Membership.objects.get(tenant=self.tenant, user=self.users[name])

    @rule(actor=people, who=people, role=roles)
    def add(self, actor: str, who: str, role: str) -> None:
        allowed = self.may_give(actor, role) and who not in self.model
        email, acting_user = self.users[who].email, self.users[actor]
        if self.attempt(
            allowed, lambda: actions.add_member(self.tenant, email=email, role=role, acting_user=acting_user)
        ):
            self.model[who] = role

    @rule(actor=people, who=people, role=roles)
    def change(self, actor: str, who: str, role: str) -> None:
        allowed = (
            who in self.model
            and self.may_give(actor, role)
            and (self.model[who] != "owner" or self.rank(actor) == 3)
            and (role == "owner" or not self.is_last_owner(who))
        )
        acting_user = self.users[actor]
        if self.attempt(
            allowed, lambda: actions.change_role(self.membership(who), role=role, acting_user=acting_user)
        ):
            self.model[who] = role

    @rule(actor=people, who=people)
    def remove(self, actor: str, who: str) -> None:
        manages = self.rank(actor) == 3 or (self.rank(actor) == 2 and self.model.get(who) != "owner")
        allowed = who in self.model and (actor == who or manages) and not self.is_last_owner(who)
        acting_user = self.users[actor]
        if self.attempt(
            allowed, lambda: actions.remove_member(self.membership(who), acting_user=acting_user)
        ):
            del self.model[who]

    @rule(actor=people, who=people, role=roles)
    def invite(self, actor: str, who: str, role: str) -> None:
        made: list[str] = []
        acting_user = self.users[actor]
        if self.attempt(
            self.may_give(actor, role),
            lambda: made.append(
                actions.create_invitation(self.tenant, role=role, acting_user=acting_user)[1]
            ),
        ):
            actions.accept_invitation(made[0], acting_user=self.users[who])
            self.model.setdefault(who, role)

    @invariant()
    def the_service_agrees(self) -> None:
        rows = Membership.objects.filter(tenant=self.tenant).values_list("user__email", "role")
        assert {email.split("@")[0]: role for email, role in rows} == self.model
        assert "owner" in self.model.values()


class TestMembers(TestCase):
    def test_members(self) -> None:
        run_state_machine_as_test(
            Members, settings=hypothesis_settings(max_examples=15, stateful_step_count=25, deadline=None)
        )


pytestmark = pytest.mark.django_db
