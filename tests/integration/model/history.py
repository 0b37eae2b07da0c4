"""Snapshots and machines: forked, gone back to, deleted, brought back."""

from __future__ import annotations

from contextlib import suppress

from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import rule

from sessions.actions.snapshots import delete_snapshot, fork_snapshot, restore_snapshot, resume_from
from sessions.actions.vms import delete_vm, restore_vm
from sessions.errors import LeaseHeld, SnapshotIsHead, UndoTooLate
from sessions.models import VM
from tests.integration.model.world import CRASHER, World, numbers, sometimes, vms
from tests.support.crashes import Crash
from tests.support.world_model import UNDO, ModelVM, Person, Saved
from webvm.errors import NotFound


class History(World):
    """What owners do to what they have saved."""

    @rule(target=vms, number=numbers, who=st.integers(0, 1))
    def fork(self, number: int, who: int) -> ModelVM:
        """By its owner; by the other it is as if it were not there."""
        found, person = self.snapshots(), self.people[who]
        if not found:
            return self.new(who)
        saved = found[number % len(found)]
        try:
            vm = fork_snapshot(saved.id, acting_user=person.user)
        except NotFound:
            assert person is not saved.vm.owner or not saved.vm.is_there or saved.deleted_at
            return self.new(who)
        assert person is saved.vm.owner
        return self.forked(vm, saved, person)

    def forked(self, vm: VM, saved: Saved, person: Person) -> ModelVM:
        assert saved.vm.is_there
        assert saved.deleted_at is None
        assert vm.head_id is not None
        new = self.keep(ModelVM(vm.pk, person, saved.machine.copy()))
        new.head = Saved(vm.head_id, new, saved.machine)
        new.saved.append(new.head)
        return new

    @rule(vm=vms, number=numbers)
    def resume(self, vm: ModelVM, number: int) -> None:
        chosen = vm.saved[number % len(vm.saved)] if vm.saved and number % 5 else None
        held = vm.holder is not None and vm.held_until is not None and vm.held_until > timezone.now()
        try:
            resume_from(vm.id, chosen.id if chosen else None, acting_user=vm.owner.user)
        except NotFound:
            assert not vm.is_there or (chosen and (chosen.deleted_at or chosen.purged))
        except LeaseHeld:
            assert held
        else:
            assert vm.is_there
            assert not held
            vm.head, vm.machine = chosen, (chosen.machine if chosen else self.image).copy()

    @rule(number=numbers, crash=sometimes)
    def hide(self, number: int, crash: int | None) -> None:
        found = self.snapshots()
        if found:
            self.hide_now(found[number % len(found)], crash)

    def hide_now(self, saved: Saved, crash: int | None) -> None:
        try:
            with CRASHER.after(crash):
                delete_snapshot(saved.id, acting_user=saved.vm.owner.user)
        except Crash:
            return
        except NotFound:
            assert not saved.vm.is_there or saved.deleted_at
        except SnapshotIsHead:
            assert saved.vm.head is saved
        else:
            assert saved.vm.head is not saved
            saved.deleted_at = timezone.now()

    @rule(number=numbers)
    def show(self, number: int) -> None:
        found = self.snapshots()
        if found:
            self.bring_back(found[number % len(found)])

    def bring_back(self, saved: Saved) -> None:
        try:
            restore_snapshot(saved.id, acting_user=saved.vm.owner.user)
        except NotFound:
            assert not saved.vm.is_there
        except UndoTooLate:
            assert saved.deleted_at is not None
            assert saved.deleted_at + UNDO <= timezone.now()
        else:
            saved.deleted_at = None

    @rule(vm=vms, crash=sometimes)
    def delete(self, vm: ModelVM, crash: int | None) -> None:
        with suppress(Crash, NotFound), CRASHER.after(crash):
            delete_vm(vm.id, acting_user=vm.owner.user)
            assert vm.is_there
            vm.deleted_at, vm.holder = timezone.now(), None

    @rule(vm=vms)
    def restore(self, vm: ModelVM) -> None:
        try:
            restore_vm(vm.id, acting_user=vm.owner.user)
        except NotFound:
            assert vm.purged
        except UndoTooLate:
            assert vm.deleted_at is not None
            assert vm.deleted_at + UNDO <= timezone.now()
        else:
            assert not vm.purged
            vm.deleted_at = None
