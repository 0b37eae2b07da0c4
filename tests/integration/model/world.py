"""What the model's rules work on: people, their machines, and what is always true of them."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant

from sessions import protocol
from sessions.actions.vms import create_vm
from sessions.models import VM
from tests.support.crashes import Clock, Crasher
from tests.support.machines import image_machine, make_image
from tests.support.world_model import ModelVM, Person, Saved, check_accounts

CLOCK, CRASHER = Clock(), Crasher()
JUMPS = [timedelta(minutes=1), timedelta(hours=3), timedelta(hours=25), timedelta(days=31)]
sometimes = st.one_of(st.none(), st.none(), st.integers(0, 40))
numbers = st.integers(0, 999)

vms = Bundle("vms")
drafts = Bundle("drafts")
links = Bundle("links")


class World(RuleBasedStateMachine):
    """Two people, what they were told, and the service."""

    def __init__(self) -> None:
        super().__init__()
        self.slug = f"tiny-{uuid.uuid4().hex[:8]}"
        make_image(self.slug)
        self.image = image_machine(self.slug)
        self.people = [Person(), Person()]
        self.all: list[ModelVM] = []
        self.texts = 0

    def say(self, vm: ModelVM, type: str, **message: Any) -> dict[str, Any]:
        """A message of the sync protocol, as the owner's socket would carry it out."""
        request: Any = protocol.parse_text(json.dumps({"id": 1, "type": type, **message}))
        return protocol.answer(request, vm.id, vm.owner.user, 0)

    def keep(self, vm: ModelVM) -> ModelVM:
        self.all.append(vm)
        return vm

    def new(self, who: int) -> ModelVM:
        owner = self.people[who]
        return self.keep(ModelVM(create_vm(self.slug, acting_user=owner.user).pk, owner, self.image.copy()))

    def snapshots(self) -> list[Saved]:
        return [saved for vm in self.all if not vm.purged for saved in vm.saved if not saved.purged]

    @invariant()
    def the_rows_fit_the_model(self) -> None:
        rows = VM.objects.in_bulk([vm.id for vm in self.all])
        assert set(rows) == {vm.id for vm in self.all if not vm.purged}
        for vm in self.all:
            if not vm.purged:
                vm.check(rows[vm.id])
        check_accounts(self.people)
