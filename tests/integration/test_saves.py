"""Saving: what is refused changes nothing, and any order of actions fits a simple model."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from sessions.actions.commits import Save, commit_snapshot
from sessions.actions.leases import take_lease
from sessions.actions.snapshots import delete_snapshot, fork_snapshot, restore_snapshot, resume_from
from sessions.actions.vms import create_vm, delete_vm, restore_vm
from sessions.errors import HeadMoved, LeaseHeld, LeaseLost, SnapshotIsHead
from sessions.models import VM, Snapshot
from storage.chunks import read_raw
from storage.errors import BadIndex, MissingChunks
from storage.walk import locate
from tests.support.machines import Machine, bring, digest_of, make_image, make_user, reload, save, upload
from webvm.accounts.models import AuditEntry, Tenant, User
from webvm.errors import InvalidInput, NotFound, WebVMError


@dataclass
class World:
    image: Machine
    machine: Machine
    ada: User
    vm: VM
    epoch: int

    def wanted(self, **fields: Any) -> Save:
        roots = {"disk_root": self.machine.disk.root, "memory_root": self.machine.memory.root}
        defaults = {"epoch": self.epoch, "expected_head": None, "idempotency_key": uuid.uuid4(), **roots}
        return Save(**(defaults | fields))

    def commit(self, **fields: Any) -> Snapshot:
        return commit_snapshot(self.vm.pk, self.wanted(**fields), acting_user=self.ada)


@pytest.fixture
def world(db: None) -> World:
    image = make_image()[1]
    ada = make_user("ada@example.org")
    vm = create_vm("tiny", acting_user=ada)
    lease = take_lease(vm.pk, uuid.uuid4(), take_over=False, acting_user=ada)
    return World(image, image.copy(), ada, vm, lease.epoch)


def facts(vm: VM) -> tuple[Any, ...]:
    """All that a refused save must leave alone."""
    now = reload(vm)
    return now.head_id, now.epoch, now.stored_bytes, Snapshot.objects.count(), AuditEntry.objects.count()


def test_it_works(world: World) -> None:
    bring(world.vm.tenant, world.machine, world.machine.write("one"))
    snapshot = world.commit(message="one", fresh_bytes=321, reused_bytes=5)
    vm = reload(world.vm)
    assert vm.head == snapshot
    assert (snapshot.disk_home_id, snapshot.memory_home_id) == (vm.tenant_id, vm.tenant_id)
    assert (snapshot.stored_bytes, vm.stored_bytes, vm.pending_bytes) == (321, 321, 0)
    entry = AuditEntry.objects.get(action="commit_snapshot")
    assert (entry.acting_user, entry.tenant, entry.target_id) == (world.ada, vm.tenant, str(snapshot.pk))
    assert entry.data == {
        "vm": str(vm.pk),
        "epoch": 1,
        "kind": "save",
        "replaces": "",
        "stored_bytes": 321,
        "reused_bytes": 5,
    }


def test_what_did_not_change_stays_where_it_was(world: World) -> None:
    snapshot = world.commit()
    assert (snapshot.disk_home_id, snapshot.memory_home_id) == (None, None)
    assert Tenant.objects.get(pk=world.vm.tenant_id).used_bytes == 0


def test_missing_chunks_are_named_and_nothing_changes(world: World) -> None:
    digests = world.machine.write("one")
    before = facts(world.vm)
    with pytest.raises(MissingChunks) as missing:
        world.commit()
    assert set(missing.value.details["digests"]) <= set(digests)
    assert facts(world.vm) == before
    while True:  # what it names is enough, a few levels at a time
        try:
            world.commit()
            break
        except MissingChunks as error:
            upload(world.vm.tenant, [world.machine.raw(digest) for digest in error.details["digests"]])


def test_another_tenants_chunk_is_as_missing_as_none(world: World) -> None:
    bob = make_user("bob@example.org")
    theirs = create_vm("tiny", acting_user=bob)
    save(theirs, world.image.copy(), "secret", bob)
    secret, nothing = world.image.copy(), world.image.copy()
    secret.write("secret")
    nothing.write("never saved by anybody")
    before = facts(world.vm)
    for machine in (secret, nothing):
        with pytest.raises(MissingChunks) as missing:
            world.commit(disk_root=machine.disk.root)
        assert missing.value.details["digests"] == [machine.disk.root]
    assert facts(world.vm) == before


def test_an_index_that_is_none(world: World) -> None:
    garbage = b"not a node at all".ljust(4096, b"!")
    upload(world.vm.tenant, [garbage])
    before = facts(world.vm)
    with pytest.raises(BadIndex):
        world.commit(disk_root=digest_of(garbage))
    # A good disk beside a bad memory: neither is taken.
    bring(world.vm.tenant, world.machine, world.machine.write("one"))
    with pytest.raises(BadIndex):
        world.commit(memory_root=digest_of(garbage))
    assert facts(world.vm) == before


@pytest.mark.parametrize("root", ["x", "AB" * 32, "ab" * 31])
def test_a_root_that_is_no_digest(world: World, root: str) -> None:
    with pytest.raises(BadIndex):
        world.commit(disk_root=root)


def test_a_disk_of_zeros(world: World) -> None:
    assert world.commit(disk_root="").disk_root == ""


def test_refusals_change_nothing(world: World) -> None:
    bring(world.vm.tenant, world.machine, world.machine.write("one"))
    before = facts(world.vm)
    refused: list[tuple[dict[str, Any], type[WebVMError]]] = [
        ({"epoch": 0}, LeaseLost),
        ({"epoch": 2}, LeaseLost),
        ({"expected_head": uuid.uuid4()}, HeadMoved),
        ({"message": "x" * 501}, InvalidInput),
        ({"message": "a\x00b"}, InvalidInput),
        ({"thumbnail": "%%%"}, InvalidInput),
    ]
    for fields, error in refused:
        with pytest.raises(error):
            world.commit(**fields)
    with pytest.raises(NotFound):
        commit_snapshot(world.vm.pk, world.wanted(), acting_user=make_user())
    assert facts(world.vm) == before
    world.commit()


def test_a_failure_at_the_last_moment_undoes_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    bring(world.vm.tenant, world.machine, world.machine.write("one"))
    before = facts(world.vm)
    with monkeypatch.context() as patched:
        patched.setattr("sessions.actions.commits.record", fail)
        with pytest.raises(OSError, match="disk full"):
            world.commit()
    assert facts(world.vm) == before
    world.commit()


@dataclass
class ModelVM:
    """What a VM should be."""

    vm: VM
    head: uuid.UUID | None
    machine: Machine
    epoch: int = 0
    holder: uuid.UUID | None = None
    deleted: bool = False
    saved: dict[uuid.UUID, Machine] = field(default_factory=dict)
    hidden: set[uuid.UUID] = field(default_factory=set)


class VMs(RuleBasedStateMachine):
    """Any order of actions beside the model; at the end every snapshot still holds what was saved."""

    vms = Bundle("vms")
    numbers = st.integers(0, 99)
    seldom = st.sampled_from([False, False, False, True])
    mostly = st.sampled_from([True, True, True, False])

    def __init__(self) -> None:
        super().__init__()
        self.slug = f"tiny-{uuid.uuid4().hex[:8]}"  # each run has an image and a user of its own
        self.image = make_image(self.slug)[1]
        self.ada = make_user()
        self.saves = 0
        self.all: list[ModelVM] = []

    def keep(self, model: ModelVM) -> ModelVM:
        self.all.append(model)
        return model

    @rule(target=vms)
    def create(self) -> ModelVM:
        return self.new()

    def new(self) -> ModelVM:
        return self.keep(ModelVM(create_vm(self.slug, acting_user=self.ada), None, self.image.copy()))

    @rule(model=vms, take_over=st.booleans())
    def lease(self, model: ModelVM, take_over: bool) -> None:
        self.hold(model, take_over=take_over)

    def hold(self, model: ModelVM, *, take_over: bool) -> None:
        session = uuid.uuid4()
        try:
            lease = take_lease(model.vm.pk, session, take_over=take_over, acting_user=self.ada)
        except NotFound:
            assert model.deleted
        except LeaseHeld:
            assert model.holder is not None
            assert not take_over
        else:
            assert not model.deleted
            assert model.holder is None or take_over
            assert (lease.epoch, lease.head) == (model.epoch + 1, model.head)
            model.epoch, model.holder = lease.epoch, session

    @rule(model=vms, leased=mostly, old_epoch=seldom, old_head=seldom, again=st.booleans())
    def commit(self, model: ModelVM, leased: bool, old_epoch: bool, old_head: bool, again: bool) -> None:
        if leased and model.holder is None:
            self.hold(model, take_over=False)
        self.saves += 1
        machine = model.machine.copy()
        bring(model.vm.tenant, machine, machine.write(f"save {self.saves}"))
        wanted = Save(
            epoch=model.epoch - old_epoch,
            expected_head=uuid.uuid4() if old_head else model.head,
            disk_root=machine.disk.root,
            memory_root=machine.memory.root,
            idempotency_key=uuid.uuid4(),
        )
        try:
            snapshot = commit_snapshot(model.vm.pk, wanted, acting_user=self.ada)
        except NotFound:
            assert model.deleted
        except LeaseLost:
            assert old_epoch or model.holder is None
        except HeadMoved:
            assert old_head
        else:
            assert model.holder is not None
            assert not any((model.deleted, old_epoch, old_head))
            assert snapshot.parent_id == model.head
            model.head, model.machine = snapshot.pk, machine
            model.saved[snapshot.pk] = machine
            if again:
                assert commit_snapshot(model.vm.pk, wanted, acting_user=self.ada) == snapshot

    @rule(target=vms, model=vms, number=numbers)
    def fork(self, model: ModelVM, number: int) -> ModelVM:
        if not model.saved:
            return self.new()
        chosen = pick(model, number)
        try:
            vm = fork_snapshot(chosen, acting_user=self.ada)
        except NotFound:
            assert model.deleted or chosen in model.hidden
            return self.new()
        assert not model.deleted
        assert chosen not in model.hidden
        assert vm.head_id is not None
        machine = model.saved[chosen]
        return self.keep(ModelVM(vm, vm.head_id, machine.copy(), saved={vm.head_id: machine}))

    @rule(model=vms, number=numbers, to_image=st.booleans())
    def resume(self, model: ModelVM, number: int, to_image: bool) -> None:
        chosen = None if to_image or not model.saved else pick(model, number)
        try:
            resume_from(model.vm.pk, chosen, acting_user=self.ada)
        except NotFound:
            assert model.deleted or chosen in model.hidden
        except LeaseHeld:
            assert model.holder is not None
        else:
            assert not model.deleted
            assert model.holder is None
            assert chosen not in model.hidden
            model.head = chosen
            model.machine = (model.saved[chosen] if chosen else self.image).copy()

    @rule(model=vms, number=numbers)
    def hide(self, model: ModelVM, number: int) -> None:
        if not model.saved:
            return
        chosen = pick(model, number)
        try:
            delete_snapshot(chosen, acting_user=self.ada)
        except NotFound:
            assert model.deleted or chosen in model.hidden
        except SnapshotIsHead:
            assert chosen == model.head
        else:
            assert not model.deleted
            assert chosen != model.head
            model.hidden.add(chosen)

    @rule(model=vms)
    def show(self, model: ModelVM) -> None:
        if model.hidden and not model.deleted:
            restore_snapshot(model.hidden.pop(), acting_user=self.ada)

    @rule(model=consumes(vms))
    def delete(self, model: ModelVM) -> None:
        if not model.deleted:
            delete_vm(model.vm.pk, acting_user=self.ada)
            model.deleted, model.holder = True, None

    @rule(target=vms)
    def restore(self) -> ModelVM:
        gone = [model for model in self.all if model.deleted]
        if not gone:
            return self.new()
        restore_vm(gone[0].vm.pk, acting_user=self.ada)
        gone[0].deleted = False
        return gone[0]

    @invariant()
    def the_rows_fit_the_model(self) -> None:
        rows = {vm.pk: vm for vm in VM.objects.filter(created_by=self.ada)}
        assert set(rows) == {model.vm.pk for model in self.all}
        for model in self.all:
            row = rows[model.vm.pk]
            assert (row.head_id, row.epoch) == (model.head, model.epoch)
            assert (row.deleted_at is not None, row.lease_session) == (model.deleted, model.holder)

    def teardown(self) -> None:
        for model in self.all:
            for pk, machine in model.saved.items():
                snapshot = Snapshot.objects.get(pk=pk)
                assert (snapshot.deleted_at is not None) == (pk in model.hidden)
                assert (snapshot.disk_root, snapshot.memory_root) == (machine.disk.root, machine.memory.root)
                found = locate(snapshot.disk_root, snapshot.disk_home_id, machine.disk.blocks, [0, 1])
                assert snapshot.disk_root in found.nodes
                digest, _ = machine.disk.places[7]
                assert read_raw(snapshot.disk_home_id, bytes.fromhex(digest)) == machine.disk.chunks[digest]


def pick(model: ModelVM, number: int) -> uuid.UUID:
    """One of the VM's snapshots."""
    return list(model.saved)[number % len(model.saved)]


@pytest.mark.django_db(transaction=True)
def test_any_order_of_actions_fits_the_model() -> None:
    limits = settings(
        max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(VMs, settings=limits)
