"""Somebody tries what is another's."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any

from hypothesis.stateful import rule

from sessions.models import ShareLink
from tests.integration.model.world import World, numbers
from tests.support.spying import DOORS, compare
from tests.support.world_model import ModelVM, Person


class Isolation(World):
    """No answer tells what is another's from what is not there."""

    @rule(number=numbers)
    def spy(self, number: int) -> None:
        """What is another's answers exactly as what is not there, with as many and the same queries."""
        found = [vm for vm in self.all if not vm.purged]
        if not found:
            return
        vm = found[number % len(found)]
        spy = next(person for person in self.people if person is not vm.owner)
        saved = vm.saved[number % len(vm.saved)].id if vm.saved else uuid.uuid4()
        link = ShareLink.objects.filter(snapshot=saved).values_list("pk", flat=True).first()
        spy.api.get("/api/v1/me")  # notes that the token was used, which is not done for every request
        for door in random.Random(number).sample(DOORS, 4):  # noqa: S311 - all of them in the course of time
            compare(
                lambda door=door: door(spy, vm.id, saved, link or uuid.uuid4()),  # type: ignore[misc]
                lambda door=door: door(spy, *(uuid.uuid4() for _ in range(3))),  # type: ignore[misc]
            )
        self.probe(spy, vm, number)

    def probe(self, spy: Person, vm: ModelVM, number: int) -> None:
        """Whether a chunk exists is no more told than whether a machine does."""
        mine = next((each for each in self.all if each.owner is spy and each.is_there and each.holder), None)
        public = self.image.disk.named() | self.image.memory.named()
        # Also by what was purged since: a tenant's rows go later.
        theirs = [each for each in self.all if each.owner is spy]
        machines = [saved.machine for each in theirs for saved in each.saved] + [vm.machine for vm in theirs]
        lent = {digest for machine in machines for digest in machine.disk.named()}
        secret = sorted(vm.machine.disk.named() - public - lent)
        if mine is None or not secret:
            return
        digest = secret[number % len(secret)]

        def ask(asked: str) -> Callable[[], Any]:
            return lambda: (
                self.say(mine, "negotiate", epoch=mine.epoch, chunks=[[asked, 4096]])["missing"] == [asked]
            )

        compare(ask(digest), ask(uuid.uuid4().hex * 2))
