"""Machines and who may write their heads."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import timedelta

from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import rule

from sessions.errors import LeaseHeld
from tests.integration.model.world import World, vms
from tests.support.world_model import ModelVM
from webvm.errors import NotFound


class Leases(World):
    """Creating, taking, taking over, giving back."""

    @rule(target=vms, who=st.integers(0, 1))
    def create(self, who: int) -> ModelVM:
        return self.new(who)

    @rule(vm=vms, take_over=st.booleans())
    def lease(self, vm: ModelVM, take_over: bool) -> None:
        self.take_lease(vm, take_over=take_over)

    def take_lease(self, vm: ModelVM, *, take_over: bool) -> None:
        session = uuid.uuid4()
        held = vm.holder is not None and vm.held_until is not None and vm.held_until > timezone.now()
        try:
            answer = self.say(vm, "lease", session=str(session), take_over=take_over)
        except NotFound:
            assert not vm.is_there
        except LeaseHeld:
            assert held
            assert not take_over
        else:
            assert vm.is_there
            assert take_over or not held
            assert answer["epoch"] == vm.epoch + 1
            assert answer["head"] == (str(vm.head.id) if vm.head else None)
            vm.epoch, vm.holder = answer["epoch"], session
            vm.held_until = timezone.now() + timedelta(seconds=answer["expires_in"])

    @rule(vm=vms)
    def release(self, vm: ModelVM) -> None:
        with suppress(NotFound):
            self.say(vm, "release", epoch=vm.epoch)
            vm.holder = None
