"""A VM's history: listed, named, deleted, resumed from, forked."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions.actions.leases import take_lease
from sessions.actions.links import exchange_link, make_link
from sessions.actions.snapshots import fork_snapshot
from sessions.actions.vms import create_vm, delete_vm
from sessions.models import VM, Snapshot
from storage.chunks import read_raw
from tests.support.machines import PNG, Machine, bring, make_image, make_user, reload, save
from tests.support.pages import browser, call
from webvm.accounts.models import AuditEntry, Tenant, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine() -> Machine:
    return make_image()[1].copy()


@pytest.fixture
def ada(machine: Machine) -> User:
    return make_user("ada@example.org", name="Ada")


@pytest.fixture
def client(ada: User) -> Client:
    return browser(ada)


@pytest.fixture
def vm(ada: User) -> VM:
    return create_vm("tiny", acting_user=ada)


@pytest.fixture
def chain(vm: VM, machine: Machine, ada: User) -> list[Snapshot]:
    """Three saves, oldest first."""
    return [save(vm, machine, text, ada) for text in ("one", "two", "three")]


def test_it_works(client: Client, vm: VM, chain: list[Snapshot]) -> None:
    status, page = call(client, "GET", f"/vms/{vm.pk}/snapshots")
    assert status == 200
    assert [item["message"] for item in page["items"]] == ["three", "two", "one"]
    assert [item["parent"] for item in page["items"]] == [str(chain[1].pk), str(chain[0].pk), None]
    assert {item["author"] for item in page["items"]} == {"Ada"}
    assert call(client, "GET", f"/snapshots/{chain[0].pk}") == (200, page["items"][2])
    thumbnail = client.get(page["items"][0]["thumbnail_url"])
    assert thumbnail.content == PNG
    assert thumbnail.headers["Content-Type"] == "image/png"
    assert thumbnail.headers["X-Content-Type-Options"] == "nosniff"
    assert "private" in thumbnail.headers["Cache-Control"]


def test_naming(client: Client, chain: list[Snapshot]) -> None:
    url = f"/snapshots/{chain[0].pk}"
    assert call(client, "PATCH", url, {"name": "Before the exam"})[1]["name"] == "Before the exam"
    assert call(client, "PATCH", url, {"name": "x" * 121})[0] == 422
    assert call(client, "GET", url)[1]["name"] == "Before the exam"
    assert call(client, "PATCH", url, {"name": ""})[1]["name"] == ""


def test_deleting_a_parent_keeps_the_chain(client: Client, vm: VM, chain: list[Snapshot]) -> None:
    middle = f"/snapshots/{chain[1].pk}"
    assert call(client, "DELETE", middle) == (204, None)
    assert call(client, "GET", middle)[0] == 404
    _, page = call(client, "GET", f"/vms/{vm.pk}/snapshots")
    assert [item["message"] for item in page["items"]] == ["three", "one"]
    assert page["items"][0]["parent"] == str(chain[1].pk)
    assert call(client, "GET", f"/vms/{vm.pk}/open?snapshot={chain[2].pk}")[0] == 200
    assert call(client, "GET", f"/vms/{vm.pk}/open?snapshot={chain[1].pk}")[0] == 404
    assert call(client, "POST", f"/vms/{vm.pk}/resume_from", {"snapshot": str(chain[1].pk)})[0] == 404
    _, deleted = call(client, "GET", f"/vms/{vm.pk}/snapshots?deleted=true")
    assert [item["message"] for item in deleted["items"]] == ["two"]
    assert call(client, "POST", f"{middle}/restore")[0] == 200
    assert call(client, "GET", middle)[0] == 200
    assert AuditEntry.objects.filter(action__in=["delete_snapshot", "restore_snapshot"]).count() == 2


def test_deleting_the_head_is_refused(client: Client, vm: VM, chain: list[Snapshot]) -> None:
    status, answer = call(client, "DELETE", f"/snapshots/{chain[2].pk}")
    assert (status, answer["error"]["code"]) == (409, "snapshot_is_head")
    assert "Resume from another snapshot first" in answer["error"]["message"]
    call(client, "POST", f"/vms/{vm.pk}/resume_from", {"snapshot": str(chain[0].pk)})
    assert call(client, "DELETE", f"/snapshots/{chain[2].pk}")[0] == 204


def test_undoing_ends_after_thirty_days(client: Client, chain: list[Snapshot]) -> None:
    call(client, "DELETE", f"/snapshots/{chain[0].pk}")
    Snapshot.objects.filter(pk=chain[0].pk).update(deleted_at=timezone.now() - timedelta(days=31))
    assert call(client, "POST", f"/snapshots/{chain[0].pk}/restore")[0] == 410


def test_resuming_from_an_older_one_makes_a_branch(
    client: Client, vm: VM, machine: Machine, ada: User, chain: list[Snapshot]
) -> None:
    status, answer = call(client, "POST", f"/vms/{vm.pk}/resume_from", {"snapshot": str(chain[0].pk)})
    assert (status, answer["head"]) == (200, str(chain[0].pk))
    opened = call(client, "GET", f"/vms/{vm.pk}/open")[1]
    assert opened["disk"]["root"] == chain[0].disk_root
    assert opened["disk"]["public"] is False
    branch = save(reload(vm), machine, "branch", ada)
    assert branch.parent_id == chain[0].pk
    page = client.get(f"/vms/{vm.pk}/history/").content.decode()
    assert f'from <a href="#snapshot-{chain[0].pk}">one</a>' in page
    # And back to what the image was.
    assert call(client, "POST", f"/vms/{vm.pk}/resume_from", {"snapshot": None})[1]["head"] is None
    assert call(client, "GET", f"/vms/{vm.pk}/open")[1]["disk"]["public"] is True


def test_resuming_waits_for_the_lease(client: Client, vm: VM, ada: User, chain: list[Snapshot]) -> None:
    take_lease(vm.pk, uuid.uuid4(), take_over=False, acting_user=ada)
    status, answer = call(client, "POST", f"/vms/{vm.pk}/resume_from", {"snapshot": str(chain[0].pk)})
    assert (status, answer["error"]["code"], answer["error"]["holder"]) == (409, "lease_held", "Ada")
    assert reload(vm).head_id == chain[2].pk
    page = client.post(
        f"/vms/{vm.pk}/resume-from/",
        {"snapshot": str(chain[0].pk), "next": f"/vms/{vm.pk}/history/"},
        follow=True,
    ).content.decode()
    assert "open somewhere else" in page
    VM.objects.update(lease_expires_at=timezone.now())
    assert call(client, "POST", f"/vms/{vm.pk}/resume_from", {"snapshot": str(chain[0].pk)})[0] == 200


def test_resuming_from_another_machines_snapshot(
    client: Client, vm: VM, ada: User, chain: list[Snapshot]
) -> None:
    other = create_vm("tiny", acting_user=ada)
    for snapshot in (chain[0].pk, uuid.uuid4()):
        status, answer = call(client, "POST", f"/vms/{other.pk}/resume_from", {"snapshot": str(snapshot)})
        assert (status, answer["error"]["code"]) == (404, "not_found")


def test_a_fork_starts_as_the_original_and_goes_its_own_way(
    client: Client, vm: VM, machine: Machine, ada: User, chain: list[Snapshot]
) -> None:
    status, made = call(client, "POST", f"/snapshots/{chain[2].pk}/fork", {})
    assert (status, made["name"]) == (201, "Tiny Linux (copy)")
    fork = VM.objects.get(pk=made["id"])
    _, opened = call(client, "GET", f"/vms/{fork.pk}/open")
    assert opened["disk"] == {"root": chain[2].disk_root, "blocks": 2048, "public": False}
    assert opened["memory"]["root"] == chain[2].memory_root
    _, history = call(client, "GET", f"/vms/{fork.pk}/snapshots")
    assert [(item["kind"], item["parent"]) for item in history["items"]] == [("fork", None)]
    saved = save(fork, machine.copy(), "changed", ada)
    assert reload(vm).head_id == chain[2].pk
    assert saved.parent_id == fork.head_id


def test_a_fork_costs_the_same_however_long_the_history(
    vm: VM, machine: Machine, ada: User, chain: list[Snapshot]
) -> None:
    def cost(snapshot: Snapshot) -> int:
        with CaptureQueriesContext(connection) as captured:
            fork_snapshot(snapshot.pk, acting_user=ada)
        return len(captured)

    before = cost(chain[0])
    bring(
        vm.tenant, machine, machine.disk.write({number: b"%4096d" % number for number in range(0, 2048, 3)})
    )
    big = save(vm, machine, "much", ada)
    assert cost(big) == before


def test_a_fork_in_another_tenant_counts_only_what_it_changes_and_outlives_the_original(
    vm: VM, machine: Machine, ada: User, chain: list[Snapshot]
) -> None:
    bob = make_user("bob@example.org")
    secret = make_link(chain[2].pk, acting_user=ada).secret
    fork = exchange_link(secret, acting_user=bob)
    assert fork.tenant.used_bytes == 0
    delete_vm(vm.pk, acting_user=ada)
    theirs = machine.copy()
    save(fork, theirs, "bob's", bob)
    tenant = Tenant.objects.get(pk=fork.tenant_id)
    assert 0 < tenant.used_bytes < 4096
    # The whole disk can be read through the fork's own tenant, also what only the deleted original has.
    for digest, _ in theirs.disk.places.values():
        assert read_raw(tenant.pk, bytes.fromhex(digest)) == theirs.disk.chunks[digest]
    status, opened = call(browser(bob), "GET", f"/vms/{fork.pk}/open")
    assert (status, opened["disk"]["root"]) == (200, theirs.disk.root)


def test_the_history_page(client: Client, vm: VM, chain: list[Snapshot]) -> None:
    empty = create_vm("tiny", acting_user=User.objects.get())
    assert "Nothing saved yet" in client.get(f"/vms/{empty.pk}/history/").content.decode()
    named = client.post(f"/snapshots/{chain[0].pk}/name/", {"name": "<i>first</i>"}, follow=True)
    assert "&lt;i&gt;first&lt;/i&gt;" in named.content.decode()
    refused = client.post(
        f"/snapshots/{chain[2].pk}/delete/", {"next": f"/vms/{vm.pk}/history/"}, follow=True
    ).content.decode()
    assert "Resume from another snapshot first" in refused
    deleted = client.post(f"/snapshots/{chain[1].pk}/delete/", follow=True).content.decode()
    assert f'action="/snapshots/{chain[1].pk}/restore/"' in deleted
    assert "Deleted the snapshot by mistake?" in deleted
    assert "Bring back" in client.get(f"/vms/{vm.pk}/history/?deleted=1").content.decode()
    client.post(f"/snapshots/{chain[1].pk}/restore/")
    assert Snapshot.objects.get(pk=chain[1].pk).deleted_at is None
    resumed = client.post(f"/vms/{vm.pk}/resume-from/", {"snapshot": str(chain[0].pk)})
    assert resumed.headers["Location"] == f"/vms/{vm.pk}/"
    assert reload(vm).head_id == chain[0].pk
    client.post(f"/vms/{vm.pk}/resume-from/", {"snapshot": "nonsense"})
    assert reload(vm).head_id == chain[0].pk
    forked = client.post(f"/snapshots/{chain[0].pk}/fork/")
    assert forked.headers["Location"].startswith("/vms/")
    assert VM.objects.count() == 3
