"""Links: made, exchanged, revoked."""

from __future__ import annotations

import uuid
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from sessions.actions.links import exchange_link, make_link, revoke_link
from sessions.errors import LinkNotUsable
from tests.integration.model.collecting import cuts
from tests.integration.model.history import History
from tests.integration.model.saves import Saves
from tests.integration.model.world import CLOCK, links, numbers, vms
from tests.support.world_model import ModelVM, Saved
from webvm.errors import NotFound

# A link's id, its secret, what it leads to, and something when it was revoked.
Link = tuple[uuid.UUID, str, Saved, list[bool]]


class Sharing(History, Saves):
    """Links to snapshots, and the copies that are made by them."""

    @rule(target=links, number=numbers)
    def share(self, number: int) -> Link | None:
        found = self.snapshots()
        return self.share_now(found[number % len(found)]) if found else None

    def share_now(self, saved: Saved) -> Link | None:
        try:
            new = make_link(saved.id, acting_user=saved.vm.owner.user)
        except NotFound:
            assert not saved.vm.is_there or saved.deleted_at
            return None
        return new.link.pk, new.secret, saved, []

    @rule(target=vms, link=links, who=st.integers(0, 1))
    def exchange(self, link: Link | None, who: int) -> ModelVM:
        return (self.exchange_now(link, who) if link else None) or self.new(who)

    def exchange_now(self, link: Link, who: int) -> ModelVM | None:
        person = self.people[who]
        _, secret, saved, revoked = link
        usable = not revoked and saved.vm.is_there and saved.deleted_at is None and not saved.purged
        try:
            vm = exchange_link(secret, acting_user=person.user)
        except LinkNotUsable:
            assert not usable
            return None
        assert usable
        known = [each for each in self.all if each.id == vm.pk]
        return known[0] if known else self.forked(vm, saved, person)

    @rule(link=links, number=numbers)
    def revoke(self, link: Link | None, number: int) -> None:
        """From then on neither its maker nor anybody else gets anything for it."""
        if link is not None:
            self.revoke_now(link, number % 2)

    def revoke_now(self, link: Link, who: int) -> None:
        pk, _, saved, revoked = link
        try:
            revoke_link(pk, acting_user=saved.vm.owner.user)
            revoked.append(True)
            self.exchange_now(link, who)
        except NotFound:
            assert not saved.vm.is_there or saved.purged

    @rule(vm=vms, before=st.booleans(), who=st.integers(0, 1))
    def share_and_revoke(self, vm: ModelVM, before: bool, who: int) -> None:
        """The life of a link at once: whoever comes late gets nothing, also who has used it before."""
        link = self.share_head(vm)
        if link is not None:
            if before:
                self.exchange_now(link, who)
            self.revoke_now(link, who)

    def share_head(self, vm: ModelVM) -> Link | None:
        if vm.is_there and vm.head is None:
            self.save_now(vm, {3, 1500})
        return self.share_now(vm.head) if vm.is_there and vm.head else None

    @rule(vm=vms, number=numbers)
    def outlive(self, vm: ModelVM, number: int) -> None:
        """A copy in another tenant is worked on; then all goes that it was made from, and it stays."""
        link = self.share_head(vm)
        copy = self.exchange_now(link, 1 - self.people.index(vm.owner)) if link else None
        if copy is None or not copy.is_there:
            return
        self.save_now(copy, {7})
        for saved in copy.saved:
            self.hide_now(saved, None)
        if number % 4:
            self.delete(vm, None)
        self.collect_now(timedelta(days=31), None)
        self.collect_now(timedelta(hours=25), None)

    @rule(vm=vms, cut=cuts, who=st.integers(0, 1))
    def copy_while_collected(self, vm: ModelVM, cut: int, who: int) -> None:
        """A copy is made while a collection is under way, and the original goes before that has ended."""
        link = self.share_head(vm)
        if link is None:
            return
        self.bring(self.begin_draft(vm, {3}, 1), 99)  # nobody ever commits this
        self.collect_now(timedelta(hours=25), cut)
        self.exchange_now(link, who)
        self.delete(vm, None)
        self.collect_now(timedelta(days=31), None)

    @rule(target=vms, owner=st.integers(0, 1), who=st.integers(0, 1))
    def copy_behind_a_collection(self, owner: int, who: int) -> ModelVM:
        """A copy comes to stand among the roots where a collection has been already, of an original that it
        has yet to come to; then the original goes. What it named stays.
        """
        vm = self.new(owner)
        for place in (3, 7, 3):
            self.save_now(vm, {place})
        self.hide_now(vm.saved[0], None)
        CLOCK.jump(timedelta(days=31))
        passed = self.collect_a_root(vm.owner) or vm.saved[-1].id
        ahead = [each for each in vm.saved[1:] if each.id > passed]
        copies: list[ModelVM] = []
        while ahead and len(copies) < 20 and not (copies and copies[-1].saved[0].id < passed):
            link = self.share_now(ahead[-1])
            copy = self.exchange_now(link, who) if link else None
            assert copy
            copies.append(copy)
        for each in [vm, *copies[:-1]]:
            self.delete(each, None)
        self.collect_now(timedelta(days=31), None)
        return copies[-1] if copies else vm
