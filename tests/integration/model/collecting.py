"""Time passes, and collectors run or die."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import rule

from sessions.models import VM, Snapshot
from storage.gc.collect import collect_garbage
from tests.integration.model.world import CLOCK, CRASHER, JUMPS, World, sometimes
from tests.support.crashes import Crash
from tests.support.world_model import UNDO, check_references

# So many statements and store calls, of a collection: it may stop in any of its phases.
cuts = st.integers(20, 200)


class Collecting(World):
    """Collections, and what they may and must have taken."""

    @rule(jump=st.sampled_from(JUMPS), crash=sometimes)
    def collect(self, jump: timedelta, crash: int | None) -> None:
        self.collect_now(jump, crash)

    def collect_now(self, jump: timedelta, crash: int | None) -> None:
        CLOCK.jump(jump)
        with suppress(Crash), CRASHER.after(crash):
            collect_garbage(acting_user=None, now=timezone.now())
        self.forget_purged(complete=crash is None)
        check_references(self.snapshots())

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
