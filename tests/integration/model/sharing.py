"""Links: made, exchanged, revoked."""

from __future__ import annotations

import uuid

from hypothesis import strategies as st
from hypothesis.stateful import rule

from sessions.actions.links import exchange_link, make_link, revoke_link
from sessions.errors import LinkNotUsable
from tests.integration.model.history import History
from tests.integration.model.world import links, numbers, vms
from tests.support.world_model import ModelVM, Saved
from webvm.errors import NotFound


class Sharing(History):
    """Links to snapshots, and the copies that are made by them."""

    @rule(target=links, number=numbers)
    def share(self, number: int) -> tuple[uuid.UUID, str, Saved, list[bool]] | None:
        found = self.snapshots()
        if not found:
            return None
        saved = found[number % len(found)]
        try:
            new = make_link(saved.id, acting_user=saved.vm.owner.user)
        except NotFound:
            assert not saved.vm.is_there or saved.deleted_at
            return None
        return new.link.pk, new.secret, saved, []

    @rule(target=vms, link=links, who=st.integers(0, 1))
    def exchange(self, link: tuple[uuid.UUID, str, Saved, list[bool]] | None, who: int) -> ModelVM:
        person = self.people[who]
        if link is None:
            return self.new(who)
        _, secret, saved, revoked = link
        usable = not revoked and saved.vm.is_there and saved.deleted_at is None and not saved.purged
        try:
            vm = exchange_link(secret, acting_user=person.user)
        except LinkNotUsable:
            assert not usable
            return self.new(who)
        assert usable
        known = [each for each in self.all if each.id == vm.pk]
        return known[0] if known else self.forked(vm, saved, person)

    @rule(link=links)
    def revoke(self, link: tuple[uuid.UUID, str, Saved, list[bool]] | None) -> None:
        if link is None:
            return
        pk, _, saved, revoked = link
        try:
            revoke_link(pk, acting_user=saved.vm.owner.user)
            revoked.append(True)
        except NotFound:
            assert not saved.vm.is_there or saved.purged
