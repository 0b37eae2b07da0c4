"""Saves: begun, uploaded in parts, committed, repeated, too late."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from sessions import protocol
from sessions.errors import HeadMoved, LeaseLost
from storage.errors import ChunkBusy, MissingChunks
from tests.integration.model.collecting import Collecting, cuts
from tests.integration.model.leases import Leases
from tests.integration.model.world import CLOCK, CRASHER, JUMPS, drafts, numbers, sometimes, vms
from tests.support.crashes import Crash
from tests.support.machines import block, frame
from tests.support.world_model import Draft, ModelVM, Saved, check_references, named_by
from webvm.errors import NotFound, QuotaExceeded


class Saves(Leases, Collecting):
    """What a client does to save, and what it may be answered."""

    @rule(target=drafts, vm=vms, places=st.sets(st.sampled_from([3, 7, 1500]), min_size=1), old=numbers)
    def begin(self, vm: ModelVM, places: set[int], old: int) -> Draft:
        return self.begin_draft(vm, places, old)

    def begin_draft(self, vm: ModelVM, places: set[int], old: int) -> Draft:
        """Change the machine as its holder has it; sometimes by somebody whose lease is not the last."""
        if vm.is_there and vm.holder is None:
            self.take_lease(vm, take_over=True)
        self.texts += 1
        machine = vm.machine.copy()
        digests = machine.disk.write({place: block(f"{self.slug} {self.texts} {place}") for place in places})
        if 7 in places:
            digests += machine.memory.write({11: block(f"memory {self.slug} {self.texts}")})
        return Draft(vm, machine, digests, max(0, vm.epoch - (old % 4 == 0)), vm.head)

    def ask_for_others_chunks(self, draft: Draft) -> None:
        """What another tenant has stored is missing for whoever has not stored it too."""
        chunks = [[digest, len(draft.machine.raw(digest))] for digest in draft.digests]
        vm = next((vm for vm in self.all if vm.is_there and vm.owner is not draft.vm.owner), None)
        if vm is None:
            vm = self.new(1 - self.people.index(draft.vm.owner))
        self.take_lease(vm, take_over=True)
        missing = set(self.say(vm, "negotiate", epoch=vm.epoch, chunks=chunks)["missing"])
        assert set(draft.digests) - missing <= named_by(vm.owner.tenant, draft.digests)

    @rule(draft=drafts, count=st.integers(0, 9), crash=sometimes)
    def upload(self, draft: Draft, count: int, crash: int | None) -> None:
        with suppress(Crash), CRASHER.after(crash):
            self.bring(draft, count)

    def bring(self, draft: Draft, count: int, only: list[str] | None = None) -> None:
        """Upload at most so many of the draft's missing chunks."""
        vm = draft.vm
        try:
            if only is None:
                chunks = [[digest, len(draft.machine.raw(digest))] for digest in draft.digests]
                only = self.say(vm, "negotiate", epoch=draft.epoch, chunks=chunks)["missing"]
        except (NotFound, LeaseLost):
            assert not vm.is_there or draft.epoch != vm.epoch or vm.holder is None
            return
        for digest in only[:count]:
            sent: Any = protocol.parse_binary(frame(draft.machine.raw(digest)))
            try:
                protocol.store(vm.owner.tenant, sent)
            except ChunkBusy:  # a collector died while it deleted this; another one finishes that
                assert only is not None
                self.collect_now(timedelta(hours=3), None)
                protocol.store(vm.owner.tenant, sent)

    @rule(vm=vms, place=st.sampled_from([3, 7]), old=numbers, wait=st.sampled_from([None, *JUMPS]))
    def save(self, vm: ModelVM, place: int, old: int, wait: timedelta | None) -> None:
        """All of a save at once, or with a collection between its upload and its commit."""
        draft, beside = self.begin_draft(vm, {place}, old), self.begin_draft(vm, {1500}, old)
        self.bring(draft, 99)
        self.ask_for_others_chunks(draft)
        if wait is not None:
            self.collect_now(wait, None)
        self.commit_now(draft, None, insist=True)
        if old % 3 == 0:  # what was begun from the same head comes too late
            self.commit_now(beside, None, insist=True)
        if old % 5 == 0:  # the answer was lost: once more
            self.commit_now(draft, None, insist=True)

    def save_now(self, vm: ModelVM, places: set[int]) -> None:
        draft = self.begin_draft(vm, places, 1)
        self.bring(draft, 99)
        self.commit_now(draft, None, insist=True)

    @rule(vm=vms, cut=cuts, place=st.sampled_from([3, 7, 1500]))
    def save_while_collected(self, vm: ModelVM, cut: int, place: int) -> None:
        """A save goes through while a collection is under way, which then goes on."""
        self.bring(self.begin_draft(vm, {3}, 1), 99)  # nobody ever commits this
        CLOCK.jump(timedelta(hours=25))
        draft = self.begin_draft(vm, {place}, 1)
        self.bring(draft, 99)
        self.collect_now(timedelta(0), cut)
        self.commit_now(draft, None, insist=True)
        self.collect_now(timedelta(0), None)

    @rule(vm=vms, place=st.sampled_from([3, 7, 1500]))
    def save_into_a_full_quota(self, vm: ModelVM, place: int) -> None:
        """What was condemned meanwhile counts again, so that it does not fit any more."""
        draft = self.begin_draft(vm, {place}, 1)
        self.bring(draft, 99)
        self.collect_now(timedelta(hours=25), None)
        with vm.owner.full() as used:
            with suppress(QuotaExceeded):
                self.bring(draft, 99)
            assert vm.owner.used() <= used, "more is stored than the quota allows"

    @rule(draft=drafts, crash=sometimes, insist=st.booleans())
    def commit(self, draft: Draft, crash: int | None, insist: bool) -> None:
        self.commit_now(draft, crash, insist=insist)

    def commit_now(self, draft: Draft, crash: int | None, *, insist: bool) -> None:
        vm = draft.vm
        for _ in range(12):
            try:
                with CRASHER.after(crash):
                    answer = self.say(
                        vm,
                        "commit",
                        epoch=draft.epoch,
                        expected_head=str(draft.expected.id) if draft.expected else None,
                        disk_root=draft.machine.disk.root,
                        memory_root=draft.machine.memory.root,
                        message="",
                        thumbnail=None,
                        idempotency_key=str(draft.key),
                        reused_bytes=0,
                    )
            except Crash:
                return  # nothing happened: the same draft may be tried again
            except NotFound:
                assert not vm.is_there
                return
            except LeaseLost:
                assert draft.epoch != vm.epoch or vm.holder is None
                assert not draft.is_answered, "the key of a save that went through was not recognised"
                return
            except HeadMoved:
                assert draft.expected is not vm.head
                assert not draft.is_answered, "the key of a save that went through was not recognised"
                return
            except MissingChunks as missing:
                if not insist:
                    return
                self.bring(draft, 99, missing.details["digests"])
            else:
                self.acknowledge(draft, uuid.UUID(answer["snapshot"]["id"]))
                return
        raise AssertionError("what a commit says is missing is never enough")

    def acknowledge(self, draft: Draft, snapshot: uuid.UUID) -> None:
        vm = draft.vm
        assert vm.is_there
        known = draft.acknowledged
        if known is not None and not known.purged:
            assert snapshot == known.id, "the same key, another snapshot"
            return
        assert vm.holder is not None, "a head moved without a lease"
        assert draft.epoch == vm.epoch, "a head moved under an old epoch"
        assert draft.expected is vm.head, "a head moved from another one"
        saved = Saved(snapshot, vm, draft.machine)
        draft.acknowledged = vm.head = saved
        vm.machine = draft.machine
        vm.saved.append(saved)
        check_references([saved])
