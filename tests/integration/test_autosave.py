"""Autosaves: one rolling snapshot a VM, which nothing that depends on it can lose."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client

from sessions.actions.leases import release_lease, take_lease
from sessions.actions.links import make_link
from sessions.actions.snapshots import fork_snapshot, name_snapshot, resume_from
from sessions.actions.vms import create_vm
from sessions.errors import KeyReused, LeaseLost
from sessions.models import VM, Snapshot, SnapshotKind
from tests.support.machines import Machine, make_image, make_user, reload, save
from webvm.errors import NotFound


class World:
    def __init__(self) -> None:
        self.machine: Machine = make_image()[1].copy()
        self.ada = make_user("ada@example.org", name="Ada")
        self.vm = create_vm("tiny", acting_user=self.ada)

    def save(self, text: str, **fields: Any) -> Snapshot:
        return save(self.vm, self.machine, text, self.ada, **fields)

    def auto(self, text: str, **fields: Any) -> Snapshot:
        return self.save(text, message="", is_auto=True, **fields)

    @property
    def history(self) -> list[Snapshot]:
        return list(self.vm.snapshots.order_by("created_at"))


@pytest.fixture
def world(db: None) -> World:
    return World()


def test_autosaves_fold_into_one_and_explicit_saves_stay(world: World) -> None:
    first = world.save("one", fresh_bytes=100)
    autos = [world.auto(f"auto {number}", fresh_bytes=10) for number in range(4)]
    assert [snapshot.pk for snapshot in world.history] == [first.pk, autos[-1].pk]
    rolling = world.history[1]
    assert (rolling.kind, rolling.parent_id, reload(world.vm).head_id) == ("auto", first.pk, rolling.pk)
    # What the replaced ones stored counts as the newest's: the sum is the VM's.
    assert (rolling.stored_bytes, reload(world.vm).stored_bytes) == (40, 140)
    last = world.save("two", fresh_bytes=5)
    assert [(one.kind, one.parent_id) for one in world.history] == [("save", None), ("save", first.pk)]
    assert (last.stored_bytes, reload(world.vm).stored_bytes) == (45, 145)


def test_the_first_autosave_of_a_fresh_machine_has_no_parent(world: World) -> None:
    world.auto("a")
    rolling = world.auto("b")
    assert [(one.pk, one.parent_id) for one in world.history] == [(rolling.pk, None)]


def test_an_autosave_answers_its_key_until_it_is_replaced(world: World) -> None:
    key = uuid.uuid4()
    lease = take_lease(world.vm.pk, uuid.uuid4(), take_over=False, acting_user=world.ada)
    first = world.auto("a", idempotency_key=key)
    machine = world.machine
    again = world.save("a", message="", is_auto=True, idempotency_key=key)  # the very same state
    assert again.pk == first.pk
    with pytest.raises(KeyReused):
        world.auto("something else", idempotency_key=key)
    assert world.history == [first]
    assert machine is world.machine
    with pytest.raises(LeaseLost):
        world.auto("of an old holder", epoch=lease.epoch)


@pytest.mark.parametrize("how", ["name", "link", "resume elsewhere", "lost lease"])
def test_what_depends_on_an_autosave_keeps_it(world: World, how: str) -> None:
    first = world.save("one")
    rolling = world.auto("rolling")
    if how == "name":
        name_snapshot(rolling.pk, "keep me", acting_user=world.ada)
    elif how == "link":
        make_link(rolling.pk, acting_user=world.ada)
    elif how == "resume elsewhere":
        resume_from(world.vm.pk, first.pk, acting_user=world.ada)
        world.machine = make_image("other")[1]  # its history goes on from somewhere else
        assert [one.kind for one in world.history] == ["save", "save"]
        return
    else:
        # A tab that holds it and cannot be heard: its work builds on the autosave.
        take_lease(world.vm.pk, uuid.uuid4(), take_over=False, acting_user=world.ada)
        taken = take_lease(world.vm.pk, uuid.uuid4(), take_over=True, acting_user=world.ada)
        release_lease(world.vm.pk, taken.epoch, acting_user=world.ada)
    later = world.auto("later")
    assert [(one.pk, one.kind) for one in world.history] == [
        (first.pk, "save"),
        (rolling.pk, "save"),
        (later.pk, "auto"),
    ]
    assert later.parent_id == rolling.pk


def test_a_fork_of_an_autosave_outlives_it(world: World) -> None:
    rolling = world.auto("rolling")
    fork = fork_snapshot(rolling.pk, acting_user=world.ada)
    world.auto("later")
    assert not Snapshot.objects.filter(pk=rolling.pk).exists()
    head = VM.objects.select_related("head").get(pk=fork.pk).head
    assert head is not None
    assert (head.disk_root, head.parent_id) == (rolling.disk_root, None)


@pytest.mark.parametrize("act", [fork_snapshot, make_link])
def test_a_replaced_autosave_is_not_found(world: World, act: Any) -> None:
    rolling = world.auto("rolling")
    world.auto("later")
    with pytest.raises(NotFound):
        act(rolling.pk, acting_user=world.ada)


def test_the_setting(world: World, client: Client) -> None:
    client.force_login(world.ada)
    url = f"/api/v1/vms/{world.vm.pk}"

    def patch(**fields: Any) -> Any:
        return client.patch(url, fields, content_type="application/json")

    assert client.get(url).json()["autosave_seconds"] == 30
    assert patch(autosave_seconds=0).json()["autosave_seconds"] == 0
    assert patch(autosave_seconds=600, name="New").json()["name"] == "New"
    for wrong in (9, -1, 3601):
        answer = patch(autosave_seconds=wrong)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_input")
    page = client.post(f"/vms/{world.vm.pk}/autosave/", {"seconds": "60"}, follow=True)
    assert "saves by itself every 60 seconds" in page.content.decode()
    assert reload(world.vm).autosave_seconds == 60
    client.post(f"/vms/{world.vm.pk}/autosave/", {"seconds": "soon"})
    assert reload(world.vm).autosave_seconds == 60


def test_the_setting_of_another_tenant_is_not_found(world: World, client: Client) -> None:
    client.force_login(make_user("eve@example.org"))
    answer = client.patch(
        f"/api/v1/vms/{world.vm.pk}", {"autosave_seconds": 0}, content_type="application/json"
    )
    assert answer.status_code == 404
    assert reload(world.vm).autosave_seconds == 30


def test_history_and_api_tell_an_autosave(world: World, client: Client) -> None:
    world.save("mine")
    world.auto("")
    client.force_login(world.ada)
    kinds = [item["kind"] for item in client.get(f"/api/v1/vms/{world.vm.pk}/snapshots").json()["items"]]
    assert kinds == ["auto", "save"]
    page = client.get(f"/vms/{world.vm.pk}/history/").content.decode()
    assert page.count("The next save takes its place") == 1
    assert SnapshotKind.AUTO.label == "Autosaved"
