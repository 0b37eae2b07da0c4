"""The collector against a naive model: any history of machines, and a collector that is always at work.

The collector runs in steps, and people save, fork, delete and change their minds between any two of them. At
the end of every step every snapshot that is left reads back as it was saved, and the books are right.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sessions.actions.commits import Save, commit_snapshot
from sessions.actions.leases import take_lease
from sessions.actions.purge import purge_expired
from sessions.actions.snapshots import make_fork
from sessions.models import VM, Snapshot
from storage.errors import MissingChunks
from storage.gc import mark
from storage.gc.abandoned import condemn_abandoned
from storage.gc.barrier import collection_of
from storage.gc.collect import due_tenants, is_public_due
from storage.gc.sweep import grace_time, sweep
from storage.gc.versions import free_versions
from storage.models import Chunk, ImageVersion
from storage.states import pin_time
from storage.versions import offer_version_again, retire_version
from tests.support.collecting import check_books, collect_all, contents_of, read_device
from tests.support.machines import Machine, block, bring, image_machine, make_image, make_user
from webvm.accounts.access import personal_tenant
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.models import Tenant, User

pytestmark = pytest.mark.django_db

# Few of them, so that histories share chunks, nodes and whole trees, and lose and find them again.
TEXTS = st.integers(0, 3)
PLACES = st.sampled_from([0, 7, 1023, 1024, 1500])


class Histories(RuleBasedStateMachine):
    """Two users; `saved` are snapshots with the machine that each was saved from, `versions` what was
    published."""

    def __init__(self) -> None:
        super().__init__()
        self.slug = f"i{uuid.uuid4().hex[:8]}"
        self.versions = [make_image(self.slug), make_image(f"{self.slug}-other")]
        self.users = [make_user() for _ in range(2)]
        self.now = timezone.now()
        self.saved: dict[uuid.UUID, Machine] = {}
        self.vms: list[VM] = []
        self.run: Iterator[None] = iter(())
        for number in range(2):
            self.start(number, number)

    def owner(self, vm: VM) -> User:
        return User.objects.get(memberships__tenant=vm.tenant_id)

    def pick_vm(self, number: int) -> VM:
        vms = [vm for vm in self.vms if VM.objects.filter(pk=vm.pk, deleted_at=None).exists()]
        if not vms:
            vms = [self.start(number, number)]
        return VM.objects.select_related("head").get(pk=vms[number % len(vms)].pk)

    def start(self, who: int, pick: int) -> VM:
        """A new machine of a version that is there; of a new one when none is."""
        user = self.users[who % 2]
        kept = set(ImageVersion.objects.filter(freed_at=None).values_list("pk", flat=True))
        if not kept:
            self.versions.append(make_image(self.slug))
        there = [version for version, _ in self.versions if version.pk in kept] or [self.versions[-1][0]]
        version = there[pick % len(there)]
        offer_version_again(version, acting_user=None)
        vm = VM.objects.create(
            tenant=personal_tenant(user), name="vm", created_by=user, image_version=version
        )
        self.vms.append(vm)
        return vm

    def machine_at(self, vm: VM) -> Machine:
        if vm.head:
            return self.saved[vm.head.pk].copy()
        return next(machine for version, machine in self.versions if version.pk == vm.image_version_id).copy()

    @rule(
        pick=st.integers(0, 9),
        disk=st.dictionaries(PLACES, TEXTS, max_size=3),
        memory=TEXTS,
        is_auto=st.booleans(),
        late=st.booleans(),
        lender=st.one_of(st.none(), st.integers(0, 9)),
    )
    def save(
        self, pick: int, disk: dict[int, int], memory: int, is_auto: bool, late: bool, lender: int | None
    ) -> None:
        """`late`: the collector makes a step between the upload and the commit. `lender`: of which version
        the machine takes the disk's blocks besides, to the same places or others."""
        vm = self.pick_vm(pick)
        user, machine = self.owner(vm), self.machine_at(vm)
        digests: list[str] = []
        if lender is not None:
            other = self.versions[lender % len(self.versions)][1]
            machine.disk.chunks.update(other.disk.chunks)
            at = 20 + lender if lender < 5 else 0
            for place, there in other.disk.places.items():
                machine.disk.places[(place + at) % 2048] = there
            digests += machine.disk.write({8: block("borrowed")}) + sorted(machine.disk.named())
        if disk:
            digests += machine.disk.write({place: block(f"d{place} {text}") for place, text in disk.items()})
        digests += machine.memory.write({11: block(f"m{memory}")})
        lease = take_lease(vm.pk, uuid.uuid4(), take_over=True, acting_user=user)
        bring(vm.tenant, machine, digests)
        if late:
            self.step()
        wanted = Save(
            epoch=lease.epoch,
            expected_head=lease.head,
            disk_root=machine.disk.root,
            memory_root=machine.memory.root,
            idempotency_key=uuid.uuid4(),
            is_auto=is_auto,
        )
        try:
            snapshot = commit_snapshot(vm.pk, wanted, acting_user=user)
        except MissingChunks as missing:
            # What was negotiated long ago may be gone: the client sends it again.
            bring(vm.tenant, machine, [digest.hex() for digest in missing.digests])
            snapshot = commit_snapshot(vm.pk, wanted, acting_user=user)
        self.saved[snapshot.pk] = machine

    @rule(pick=st.integers(0, 99), who=st.integers(0, 1))
    def fork(self, pick: int, who: int) -> None:
        alive = list(Snapshot.objects.filter(deleted_at=None, vm__deleted_at=None).order_by("created_at"))
        if alive and len(self.vms) < 8:
            original = alive[pick % len(alive)]
            vm = make_fork(original, personal_tenant(self.users[who]), acting_user=self.users[who])
            assert vm.head_id
            self.vms.append(vm)
            self.saved[vm.head_id] = self.saved[original.pk].copy()

    @rule(pick=st.integers(0, 99))
    def delete_snapshot(self, pick: int) -> None:
        heads = VM.objects.exclude(head=None).values("head")
        some = list(Snapshot.objects.filter(deleted_at=None).exclude(pk__in=heads).order_by("created_at"))
        if some:
            Snapshot.objects.filter(pk=some[pick % len(some)].pk).update(deleted_at=self.now)

    @rule(pick=st.integers(0, 9))
    def delete_vm(self, pick: int) -> None:
        if len(self.vms) > 2:
            VM.objects.filter(pk=self.pick_vm(pick).pk).update(deleted_at=self.now)

    @rule(pick=st.integers(0, 9), text=TEXTS)
    def publish(self, pick: int, text: int) -> None:
        """A version like an earlier one, whose data may be going this moment."""
        if len(self.versions) < 6:
            machine = image_machine(self.slug)
            if text:
                machine.disk.write({0: block(f"v{text}")})
            self.versions.append(make_image(self.slug, machine=machine))
            self.start(pick, -1)

    @rule(pick=st.integers(0, 9), with_machines=st.booleans())
    def withdraw(self, pick: int, with_machines: bool) -> None:
        version = self.versions[pick % len(self.versions)][0]
        retire_version(version, acting_user=None)
        ImageVersion.objects.filter(pk=version.pk).update(withdrawn_at=self.now)
        if with_machines:
            VM.objects.filter(image_version=version, deleted_at=None).update(deleted_at=self.now)

    @rule()
    def collect_what_is_due(self) -> None:
        """Whole collections, after all that can be brought back is past that."""
        for _ in range(2):
            self.now += timedelta(days=40)
            for _ in steps(self.now):
                pass
        self.versions_that_are_not_freed_are_whole()

    @rule(days=st.sampled_from([0, 1, 40]), count=st.integers(1, 4))
    def collect(self, days: int, count: int) -> None:
        self.now += timedelta(days=days)
        for _ in range(count):
            self.step()
        self.versions_that_are_not_freed_are_whole()

    def step(self) -> None:
        """The next step of the collector, which begins again when it has done everything."""
        try:
            next(self.run)
        except StopIteration:
            self.run = steps(self.now)

    @invariant()
    def everything_reads_back(self) -> None:
        for snapshot in Snapshot.objects.select_related("vm__image_version"):
            disk, memory = contents_of(snapshot)
            wanted = self.saved[snapshot.pk]
            assert disk == blocks(wanted.disk)
            assert memory == blocks(wanted.memory)

    def versions_that_are_not_freed_are_whole(self) -> None:
        for version in ImageVersion.objects.filter(freed_at=None):
            machine = next(machine for known, machine in self.versions if known.pk == version.pk)
            for root, device in ((version.disk_root, machine.disk), (version.memory_root, machine.memory)):
                assert read_device(root, None, device.blocks) == blocks(device)

    @invariant()
    def the_books_are_right(self) -> None:
        check_books()

    def teardown(self) -> None:
        """Once everything is deleted, nothing is left."""
        collect_all(self.now)
        self.everything_reads_back()
        VM.objects.update(deleted_at=self.now)
        ImageVersion.objects.update(is_withdrawn=True, withdrawn_at=self.now)
        collect_all(self.now + timedelta(days=50))
        assert not Chunk.objects.exists()
        assert not Tenant.objects.exclude(used_bytes=0, condemned_bytes=0).exists()


def blocks(device: Any) -> dict[int, bytes]:
    return {
        number: device.chunks[digest][at * 4096 : (at + 1) * 4096]
        for number, (digest, at) in device.places.items()
    }


def steps(now: datetime) -> Iterator[None]:
    """One collection, in the smallest steps that it has."""
    while purge_expired(now, 1):
        yield
    free_versions(now)
    condemn_abandoned(now)
    yield
    for home in [*due_tenants(now), *([None] if is_public_due(now) else [])]:
        run = mark.begin(home, now)
        yield
        while mark.make_step(home, run, now) is not None:
            yield
        assert collection_of(home).get().error == ""
    sweep(now=now)


def test_any_history_with_a_collector_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROOTS_STEP", "WALK_STEP", "CONDEMN_STEP"):
        monkeypatch.setattr(mark, name, 2)
    assert pin_time() < timedelta(days=40) > undo_time() > grace_time()
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
