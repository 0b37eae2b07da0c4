"""The lease: one writer, an epoch that only rises, and races that have one winner."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from sessions.actions.commits import Save, commit_snapshot
from sessions.actions.leases import LEASE_TTL, release_lease, renew_lease, take_lease
from sessions.actions.vms import create_vm, delete_vm, restore_vm
from sessions.errors import HeadMoved, LeaseHeld, LeaseLost
from sessions.models import VM, Snapshot
from tests.support.machines import Machine, bring, make_image, make_user, reload
from webvm.accounts.models import AuditEntry, Membership, Tenant, User
from webvm.errors import NotFound, WebVMError


class World:
    def __init__(self) -> None:
        self.machine: Machine = make_image()[1].copy()
        self.ada = make_user("ada@example.org", name="Ada")
        self.bob = make_user("bob@example.org", name="Bob")
        tenant = Tenant.objects.create(name="Lab")
        for user in (self.ada, self.bob):
            Membership.objects.create(tenant=tenant, user=user)
        self.vm = create_vm("tiny", acting_user=self.ada, tenant=tenant)

    def take(self, user: User, session: uuid.UUID | None = None, *, take_over: bool = False) -> int:
        return take_lease(self.vm.pk, session or uuid.uuid4(), take_over=take_over, acting_user=user).epoch


@pytest.fixture
def world(db: None) -> World:
    return World()


def expire(vm: VM) -> None:
    VM.objects.filter(pk=vm.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))


def test_it_works(world: World) -> None:
    session = uuid.uuid4()
    lease = take_lease(world.vm.pk, session, take_over=False, acting_user=world.ada)
    assert (lease.epoch, lease.expires_in, lease.head) == (1, 30, None)
    vm = reload(world.vm)
    assert vm.lease_session == session
    assert vm.lease_expires_at is not None
    assert timedelta(seconds=28) < vm.lease_expires_at - timezone.now() <= LEASE_TTL
    assert renew_lease(vm.pk, 1, acting_user=world.ada) == 30
    release_lease(vm.pk, 1, acting_user=world.ada)
    assert reload(vm).lease_session is None
    assert world.take(world.bob) == 2


def test_the_same_session_keeps_its_epoch(world: World) -> None:
    session = uuid.uuid4()
    assert world.take(world.ada, session) == world.take(world.ada, session) == 1
    expire(world.vm)
    assert world.take(world.ada, session) == 1
    assert AuditEntry.objects.filter(action="take_lease").count() == 1


def test_a_session_of_somebody_else_is_another_session(world: World) -> None:
    session = uuid.uuid4()
    world.take(world.ada, session)
    with pytest.raises(LeaseHeld) as held:
        world.take(world.bob, session)
    assert held.value.details["holder"] == "Ada"


def test_an_expired_lease_is_free_and_the_old_holder_is_fenced(world: World) -> None:
    world.take(world.ada)
    expire(world.vm)
    assert renew_lease(world.vm.pk, 1, acting_user=world.ada) == 30, "nobody took it in between"
    expire(world.vm)
    assert world.take(world.bob) == 2
    with pytest.raises(LeaseLost):
        renew_lease(world.vm.pk, 1, acting_user=world.ada)
    release_lease(world.vm.pk, 1, acting_user=world.ada)  # changes nothing
    assert renew_lease(world.vm.pk, 2, acting_user=world.bob) == 30


def test_nobody_renews_anothers_lease(world: World) -> None:
    world.take(world.ada)
    with pytest.raises(LeaseLost):
        renew_lease(world.vm.pk, 1, acting_user=world.bob)
    release_lease(world.vm.pk, 1, acting_user=world.bob)
    assert reload(world.vm).lease_user == world.ada


def test_taking_over_is_written_down(world: World) -> None:
    world.take(world.ada)
    assert world.take(world.bob, take_over=True) == 2
    entry = AuditEntry.objects.filter(action="take_lease").latest("pk")
    assert entry.data == {"epoch": 2, "taken_from": world.ada.pk}


def test_deleting_the_vm_ends_the_lease_for_good(world: World) -> None:
    world.take(world.ada)
    delete_vm(world.vm.pk, acting_user=world.ada)
    with pytest.raises(NotFound):
        renew_lease(world.vm.pk, 1, acting_user=world.ada)
    restore_vm(world.vm.pk, acting_user=world.ada)
    with pytest.raises(LeaseLost):
        renew_lease(world.vm.pk, 1, acting_user=world.ada)
    assert world.take(world.ada) == 2


def race(*works: Callable[[], Any]) -> list[Any]:
    """Run all at once, each with a database connection of its own; the results or the typed errors."""
    start = threading.Barrier(len(works))
    outcomes: list[Any] = [None] * len(works)

    def run(number: int, work: Callable[[], Any]) -> None:
        start.wait()
        try:
            outcomes[number] = work()
        except WebVMError as error:
            outcomes[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return outcomes


@pytest.mark.django_db(transaction=True)
def test_racing_for_the_lease_has_one_winner() -> None:
    world = World()
    outcomes = race(*[lambda: world.take(world.ada)] * 6)
    assert outcomes.count(1) == 1
    assert [type(outcome) for outcome in outcomes if outcome != 1] == [LeaseHeld] * 5
    assert reload(world.vm).epoch == 1


@pytest.mark.django_db(transaction=True)
def test_racing_take_overs_get_an_epoch_each() -> None:
    world = World()
    outcomes = race(*[lambda: world.take(world.ada, take_over=True)] * 6)
    assert sorted(outcomes) == [1, 2, 3, 4, 5, 6]
    assert reload(world.vm).epoch == 6


@pytest.mark.django_db(transaction=True)
def test_racing_saves_have_one_winner() -> None:
    world = World()
    epoch = world.take(world.ada)
    saves = []
    for text in ("one", "two", "three", "four"):
        machine = world.machine.copy()
        bring(world.vm.tenant, machine, machine.write(text))
        saves.append(Save(epoch, None, machine.disk.root, machine.memory.root, uuid.uuid4(), text))
    outcomes = race(
        *[lambda each=each: commit_snapshot(world.vm.pk, each, acting_user=world.ada) for each in saves]
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, Snapshot)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, HeadMoved)]
    assert (len(won), len(lost)) == (1, 3)
    assert reload(world.vm).head_id == won[0].pk
    assert {error.details["head"] for error in lost} == {str(won[0].pk)}
    assert Snapshot.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_same_save_sent_twice_at_once_is_one_snapshot() -> None:
    world = World()
    epoch = world.take(world.ada)
    bring(world.vm.tenant, world.machine, world.machine.write("one"))
    roots = (world.machine.disk.root, world.machine.memory.root)
    save = Save(epoch, None, *roots, uuid.uuid4(), "one")
    outcomes = race(*[lambda: commit_snapshot(world.vm.pk, save, acting_user=world.ada).pk] * 4)
    assert len(set(outcomes)) == 1
    assert Snapshot.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_take_over_and_a_save_at_once_leave_one_truth() -> None:
    world = World()
    epoch = world.take(world.ada)
    bring(world.vm.tenant, world.machine, world.machine.write("one"))
    save = Save(epoch, None, world.machine.disk.root, world.machine.memory.root, uuid.uuid4(), "one")
    saved, taken = race(
        lambda: commit_snapshot(world.vm.pk, save, acting_user=world.ada),
        lambda: take_lease(world.vm.pk, uuid.uuid4(), take_over=True, acting_user=world.bob),
    )
    assert taken.epoch == 2
    if isinstance(saved, Snapshot):  # the save came first: the new holder starts from it
        assert reload(world.vm).head_id == saved.pk
        assert taken.head == saved.pk
    else:
        assert isinstance(saved, LeaseLost)
        assert taken.head is None
        assert not Snapshot.objects.exists()
