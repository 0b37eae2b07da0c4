"""Time passes, and collectors run or die."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import rule

from sessions.models import VM, Snapshot
from storage.gc.collect import collect_garbage
from storage.models import Collection, CollectionPhase
from tests.integration.model.world import CLOCK, CRASHER, JUMPS, World, sometimes
from tests.support.crashes import Crash
from tests.support.world_model import UNDO, Person, check_references

# So many statements and store calls, of a collection: it may stop in any of its phases.
cuts = st.integers(20, 200)
# How a collection writes down how far it has read the roots: one in each step here.
NEXT_ROOT = 'UPDATE "storage_collection" SET "cursor"'


class Collecting(World):
    """Collections, and what they may and must have taken."""

    @rule(jump=st.sampled_from(JUMPS), crash=sometimes)
    def collect(self, jump: timedelta, crash: int | None) -> None:
        self.collect_now(jump, crash)

    def collect_now(self, jump: timedelta, crash: int | None, of: str = "") -> None:
        CLOCK.jump(jump)
        with suppress(Crash), CRASHER.after(crash, of):
            collect_garbage(acting_user=None, now=timezone.now())
        self.forget_purged(complete=crash is None)
        check_references(self.snapshots())

    def collect_a_root(self, person: Person) -> UUID | None:
        """Begins to collect a tenant, and stops behind the first of its snapshots, which are read in the
        order of their ids: that one's id; None if it has none.
        """
        for _ in range(12):  # others' collections come first, a root each time
            self.collect_now(timedelta(0), 1, of=NEXT_ROOT)
            found = Collection.objects.filter(tenant=person.tenant, phase=CollectionPhase.ROOTS).first()
            if found and found.cursor:
                device, _, snapshot = found.cursor.partition(":")[2].partition(" ")
                return UUID(snapshot) if device == "disk" else None
        return None

    def forget_purged(self, *, complete: bool) -> None:
        """Only what was deleted long enough ago is gone, and all of it by a collection that was not cut."""
        until = timezone.now() - UNDO
        vms = set(VM.objects.values_list("pk", flat=True))
        rows = set(Snapshot.objects.values_list("pk", flat=True))
        for vm in self.all:
            due = vm.deleted_at is not None and vm.deleted_at < until
            for saved in vm.saved:
                is_due = due or (
                    saved.deleted_at is not None and saved.deleted_at < until and vm.head is not saved
                )
                if saved.id not in rows and not saved.purged:
                    assert is_due, "an acknowledged snapshot is gone"
                    saved.purged = True
                assert saved.purged or not (is_due and complete)
            if vm.id not in vms:
                assert due or vm.purged, "a machine is gone"
                vm.purged = True
            elif due and any(saved.purged for saved in vm.saved):
                vm.head = None  # a purge that was cut off in the middle
            assert vm.purged or not (due and complete)
