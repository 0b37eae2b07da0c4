"""Any order of uploads, commits, forks, shares, take-overs, deletions, collections and crashes.

Always true: what was acknowledged and not purged reads back byte for byte; nothing alive leads to a condemned
chunk; heads move only under the right epoch; each tenant is charged what it stores; nobody can tell what is
another's from what is not there. The seed is printed; `WEBVM_MODEL_SEED=<seed>` runs the same again and
looks for the shortest failure; `WEBVM_MODEL_EXAMPLES=<n>` runs more examples.
"""

from __future__ import annotations

import json
import os
import random
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sessions import protocol
from sessions.actions.links import exchange_link, make_link, revoke_link
from sessions.actions.snapshots import delete_snapshot, fork_snapshot, restore_snapshot, resume_from
from sessions.actions.vms import create_vm, delete_vm, restore_vm
from sessions.errors import HeadMoved, LeaseHeld, LeaseLost, LinkNotUsable, SnapshotIsHead, UndoTooLate
from sessions.models import VM, ShareLink, Snapshot
from storage import nodes
from storage.errors import ChunkBusy, MissingChunks
from storage.gc.collect import collect_garbage
from storage.stores import get_store
from tests.support.crashes import Clock, Crash, Crasher, CrashingStore
from tests.support.machines import block, frame, image_machine, make_image
from tests.support.spying import DOORS, compare
from tests.support.world_model import (
    UNDO,
    Draft,
    ModelVM,
    Person,
    Saved,
    check_accounts,
    check_references,
    named_by,
)
from webvm.errors import NotFound

CLOCK, CRASHER = Clock(), Crasher()
JUMPS = [timedelta(minutes=1), timedelta(hours=3), timedelta(hours=25), timedelta(days=31)]
sometimes = st.one_of(st.none(), st.none(), st.integers(0, 40))
numbers = st.integers(0, 999)


class Service(RuleBasedStateMachine):
    vms = Bundle("vms")
    drafts = Bundle("drafts")
    links = Bundle("links")

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

    def snapshots(self) -> list[Saved]:
        return [saved for vm in self.all if not vm.purged for saved in vm.saved if not saved.purged]

    # Machines and their leases

    @rule(target=vms, who=st.integers(0, 1))
    def create(self, who: int) -> ModelVM:
        return self.new(who)

    def new(self, who: int) -> ModelVM:
        owner = self.people[who]
        return self.keep(ModelVM(create_vm(self.slug, acting_user=owner.user).pk, owner, self.image.copy()))

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

    # Saves

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

    # History

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
        if not found:
            return
        saved = found[number % len(found)]
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

    # Sharing

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

    # Time

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

    # Isolation

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
        lent = {digest for each in self.all if each.owner is spy for digest in each.machine.disk.named()}
        lent |= {
            digest
            for each in self.snapshots()
            if each.vm.owner is spy
            for digest in each.machine.disk.named()
        }
        secret = sorted(vm.machine.disk.named() - public - lent)
        if mine is None or not secret:
            return
        digest = secret[number % len(secret)]

        def ask(asked: str) -> Callable[[], Any]:
            return lambda: (
                self.say(mine, "negotiate", epoch=mine.epoch, chunks=[[asked, 4096]])["missing"] == [asked]
            )

        compare(ask(digest), ask(uuid.uuid4().hex * 2))

    @invariant()
    def the_rows_fit_the_model(self) -> None:
        rows = VM.objects.in_bulk([vm.id for vm in self.all])
        assert set(rows) == {vm.id for vm in self.all if not vm.purged}
        for vm in self.all:
            if not vm.purged:
                vm.check(rows[vm.id])
        check_accounts(self.people)

    def teardown(self) -> None:
        """Everything acknowledged that can be read or brought back is read."""
        nodes.cache.clear()
        for vm in self.all:
            self.restore(vm)
            for saved in vm.saved:
                if vm.is_there and not saved.purged:
                    self.bring_back(saved)
                    if saved.deleted_at is None:
                        vm.owner.reader(vm.id).holds(str(saved.id), saved.machine)
        check_references(self.snapshots())


@pytest.mark.django_db(transaction=True)
def test_any_order_of_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("django.utils.timezone.now", CLOCK)
    store = CrashingStore(get_store(), CRASHER)
    monkeypatch.setattr("storage.stores._local_store", lambda *_: store)
    number = int(os.environ.get("WEBVM_MODEL_SEED") or random.randrange(2**32))  # noqa: S311 - not a secret
    with capsys.disabled():
        print(f"\nmodel test: WEBVM_MODEL_SEED={number}")  # noqa: T201 - to be found in the log of a failure
    limits = settings(
        max_examples=int(os.environ.get("WEBVM_MODEL_EXAMPLES", "15")),
        stateful_step_count=30,
        deadline=None,
        database=None,
        phases=[Phase.generate, *([Phase.shrink] if "WEBVM_MODEL_SEED" in os.environ else [])],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(number)(Service), settings=limits)
