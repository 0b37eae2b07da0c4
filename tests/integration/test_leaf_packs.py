"""Packs of leaves: made by a worker behind a CDN, of the tenant's own chunks, and never in the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from kombu.exceptions import OperationalError

from sessions.actions.snapshots import make_fork
from sessions.actions.vms import create_vm
from storage.chunks import find_missing
from storage.errors import BadIndex, StoreUnavailable
from storage.index import Extent, build_index
from storage.leaf_packs import AGAIN_S, KEPT_FREE, make_packs
from storage.models import Chunk, ChunkState
from storage.states import has_room
from storage.stores.local import LocalStore
from storage.tasks import pack_leaves_task
from tests.support.collecting import check_books, contents_of
from tests.support.leaf_packs import (
    BASE,
    Queue,
    Saved,
    install_queue,
    is_stored,
    key_in,
    locate,
    packs_of,
    page,
    save_as_a_client,
    unpacked,
)
from tests.support.machines import DISK_BLOCKS, MEMORY_BLOCKS, bring, make_image, make_user, save, upload
from tests.support.pages import browser
from webvm.accounts.access import personal_tenant
from webvm.accounts.models import Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def behind_a_cdn(settings: Any, tmp_path: Path) -> None:
    settings.CHUNK_DIR = tmp_path / "chunks"
    settings.CHUNK_BASE_URL = BASE


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    yield from install_queue(monkeypatch)


@pytest.fixture
def saved(queue: Queue) -> Saved:
    return Saved()


def test_it_works(saved: Saved, queue: Queue) -> None:
    before = locate(saved.ada, saved.vm, saved.snapshot)
    assert before["packs"] == {}
    used = saved.tenant.used_bytes
    assert [(home, len(leaves)) for home, leaves in queue.tasks] == [(str(saved.tenant.pk), 2)]
    queue.work()
    after = locate(saved.ada, saved.vm, saved.snapshot)
    assert queue.tasks == [], "what is made is not asked for again"
    assert set(after["packs"]) == {"0", "1"}
    assert (after["urls"].keys(), after["nodes"]) == (before["urls"].keys(), before["nodes"])
    for leaf, url in after["packs"].items():
        assert url.startswith(f"{BASE}t/{saved.tenant.pk}/")
        alone = locate(saved.ada, saved.vm, saved.snapshot, [int(leaf)])
        assert unpacked(url) == set(alone["urls"])
        assert alone["packs"] == {leaf: url}
    rows = packs_of(saved.tenant)
    assert {row.state for row in rows} == {ChunkState.LIVE}
    assert saved.tenant.used_bytes == used + sum(row.stored_size for row in rows)
    check_books()


def test_only_a_memory_and_only_behind_a_cdn(saved: Saved, queue: Queue, settings: Any) -> None:
    changed = saved.machine.disk.write({n: page(f"disk {n}") for n in range(DISK_BLOCKS)})
    snapshot = save(saved.vm, saved.machine, "two", saved.ada, extra=changed)
    assert locate(saved.ada, saved.vm, snapshot, device="disk")["packs"] == {}
    for base in ("/chunks/", "/elsewhere/"):
        settings.CHUNK_BASE_URL = base
        assert locate(saved.ada, saved.vm, snapshot)["packs"] == {}
    assert queue.tasks == []
    settings.CHUNK_BASE_URL = "//cdn.example.org/"
    locate(saved.ada, saved.vm, snapshot)
    queue.work()
    assert locate(saved.ada, saved.vm, snapshot)["packs"]
    settings.CHUNK_BASE_URL = "/chunks/"
    assert locate(saved.ada, saved.vm, snapshot)["packs"] == {}, "the service itself has bundles"


def test_a_small_delta_gets_none(queue: Queue) -> None:
    machine, ada = make_image()[1].copy(), make_user()
    vm = create_vm("tiny", acting_user=ada)
    changed = machine.memory.write({1030 + n: page(f"few {n}") for n in range(100)})
    snapshot = save(vm, machine, "small", ada, extra=changed)
    assert len(locate(ada, vm, snapshot)["urls"]) >= 3
    assert queue.tasks == []


def test_chunks_that_serve_many_leaves_are_had_singly(queue: Queue) -> None:
    saved = Saved()
    # 64 pages of a chunk, a few in the first leaf and the others in the second.
    changed = saved.machine.memory.write({n: page(f"across {n}") for n in range(1014, 1078)})
    snapshot = save(saved.vm, saved.machine, "two", saved.ada, extra=changed)
    answer = locate(saved.ada, saved.vm, snapshot)
    queue.work()
    packs = locate(saved.ada, saved.vm, snapshot)["packs"]
    assert changed[0] in answer["urls"]
    assert changed[0] not in unpacked(packs["0"])
    assert changed[0] in unpacked(packs["1"])


def test_it_is_asked_for_once_in_a_while(saved: Saved, queue: Queue) -> None:
    for _ in range(3):
        locate(saved.ada, saved.vm, saved.snapshot)
    assert len(queue.tasks) == 1
    assert AGAIN_S >= 60


def test_a_broker_that_is_away_is_in_nobodys_way(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise OperationalError

    monkeypatch.setattr(pack_leaves_task, "delay", away)
    assert locate(saved.ada, saved.vm, saved.snapshot)["urls"]


def test_the_task_may_come_twice_and_for_anything(saved: Saved, queue: Queue) -> None:
    locate(saved.ada, saved.vm, saved.snapshot)
    ((home, leaves),) = queue.tasks
    for _ in range(3):
        pack_leaves_task(home, leaves)
    assert len(packs_of(saved.tenant)) == 2
    check_books()
    # What is no leaf of the tenant's own, or nothing at all, is passed over.
    other = personal_tenant(make_user()).pk
    root = saved.snapshot.memory_root
    chunk = next(iter(locate(saved.ada, saved.vm, saved.snapshot)["urls"]))
    for args in ((str(other), leaves), (home, [root, chunk, "0" * 64])):
        pack_leaves_task(*args)
    assert len(packs_of(saved.tenant)) == 2
    assert not Chunk.objects.filter(tenant=other).exists()


def test_a_full_quota_has_no_packs_and_opens_all_the_same(saved: Saved, queue: Queue) -> None:
    tenant = saved.tenant
    used = tenant.used_bytes
    # So full, and so nearly full that a save would soon find no room.
    for quota in (used - 1, used, used + 10, used * KEPT_FREE // (KEPT_FREE - 1)):
        Tenant.objects.filter(pk=tenant.pk).update(quota_bytes=quota)
        assert locate(saved.ada, saved.vm, saved.snapshot)["urls"]
        queue.work()
        assert locate(saved.ada, saved.vm, saved.snapshot)["packs"] == {}
        assert saved.tenant.used_bytes == used
        queue.work()
    Tenant.objects.filter(pk=tenant.pk).update(quota_bytes=used * 2)
    locate(saved.ada, saved.vm, saved.snapshot)
    queue.work()
    assert len(locate(saved.ada, saved.vm, saved.snapshot)["packs"]) == 2
    after = saved.tenant
    assert has_room(after.pk, after.quota_bytes // KEPT_FREE).exists()
    check_books()


def test_a_store_that_fails_costs_nothing(
    saved: Saved, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreUnavailable

    used = saved.tenant.used_bytes
    locate(saved.ada, saved.vm, saved.snapshot)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put", refuse)
        queue.work()
    assert saved.tenant.used_bytes == used
    assert locate(saved.ada, saved.vm, saved.snapshot)["packs"] == {}
    queue.work()
    assert len(locate(saved.ada, saved.vm, saved.snapshot)["packs"]) == 2


class TestWhoseItIs:
    def test_public_chunks_are_not_in_it(self, saved: Saved, queue: Queue) -> None:
        published = next(iter(locate(saved.ada, saved.vm, saved.snapshot, [0])["urls"]))
        upload(None, [saved.machine.raw(published)])
        queue.work()
        answer = locate(saved.ada, saved.vm, saved.snapshot, [0])
        assert published not in answer["urls"]
        assert unpacked(answer["packs"]["0"]) == set(answer["urls"])

    def test_a_fork_reads_the_originals_and_makes_its_own(self, saved: Saved, queue: Queue) -> None:
        bob = make_user("bob@example.org")
        fork = make_fork(saved.snapshot, personal_tenant(bob), acting_user=bob)
        assert fork.head
        locate(bob, fork, fork.head)
        queue.work()
        theirs = locate(bob, fork, fork.head)["packs"]
        assert set(theirs) == {"0", "1"}
        assert all(key_in(url).startswith(f"t/{saved.tenant.pk}/") for url in theirs.values())
        assert not packs_of(personal_tenant(bob))
        # Bob changes most of the first leaf: its pack has his chunks only, the second leaf stays as it was.
        machine = saved.machine.copy()
        machine.memory.write({n: page(f"bob's {n}") for n in range(768)})
        snapshot = save_as_a_client(fork, saved.machine, machine, bob)
        locate(bob, fork, snapshot)
        queue.work()
        answer = locate(bob, fork, snapshot)
        assert set(answer["packs"]) == {"0", "1"}
        assert answer["packs"]["1"] == theirs["1"]
        own = f"t/{fork.tenant_id}/"
        assert key_in(answer["packs"]["0"]).startswith(own)
        his = {digest for digest, url in answer["urls"].items() if key_in(url).startswith(own)}
        assert unpacked(answer["packs"]["0"]) <= his
        # Ada sees nothing of it.
        assert locate(saved.ada, saved.vm, saved.snapshot)["packs"].keys() == {"0", "1"}
        assert all(
            key_in(url).startswith(f"t/{saved.tenant.pk}/")
            for url in locate(saved.ada, saved.vm, saved.snapshot)["packs"].values()
        )
        check_books()

    def test_the_same_memory_of_two_tenants_is_two_packs(self, queue: Queue) -> None:
        ada = Saved()
        eve = make_user("eve@example.org")
        vm = create_vm("tiny", acting_user=eve)
        snapshot = save(vm, ada.machine, "one", eve, extra=ada.machine.memory.named())
        answer = locate(eve, vm, snapshot)
        assert answer["packs"] == {}
        locate(ada.ada, ada.vm, ada.snapshot)
        queue.work()
        mine, hers = (
            locate(user, machine, at)["packs"]
            for user, machine, at in ((ada.ada, ada.vm, ada.snapshot), (eve, vm, snapshot))
        )
        assert {key_in(url).split("/")[1] for url in mine.values()} == {str(ada.tenant.pk)}
        assert {key_in(url).split("/")[1] for url in hers.values()} == {str(vm.tenant_id)}
        assert not {key_in(url).split("/")[2] for url in mine.values()} & {
            key_in(url).split("/")[2] for url in hers.values()
        }, "not even the names are alike"

    def test_a_stranger_is_answered_as_before(self, saved: Saved, queue: Queue) -> None:
        eve = make_user("eve@example.org")
        body = json.dumps({"snapshot": str(saved.snapshot.pk), "device": "memory", "leaves": [0, 1]})
        path = f"/api/v1/vms/{saved.vm.pk}/locate"

        def ask() -> tuple[int, bytes]:
            answer = browser(eve).post(path, body, content_type="application/json")
            return answer.status_code, answer.content

        before = ask()
        locate(saved.ada, saved.vm, saved.snapshot)
        queue.work()
        assert ask() == before
        assert before[0] == 404
        # What is asked of the tenant's own: whether a pack of somebody else's is there is told to nobody.
        digests = [bytes(row.digest) for row in packs_of(saved.tenant)]
        assert find_missing(personal_tenant(eve), digests) == digests

    def test_a_pack_cannot_be_named_by_an_index(self, saved: Saved, queue: Queue) -> None:
        locate(saved.ada, saved.vm, saved.snapshot)
        queue.work()
        pack = packs_of(saved.tenant)[0]
        root, nodes = build_index([Extent(0, 1, bytes(pack.digest), 0)], MEMORY_BLOCKS)
        saved.machine.memory.chunks.update(nodes)
        bring(saved.tenant, saved.machine, nodes)
        with pytest.raises(BadIndex):
            save(saved.vm, saved.machine, "two", saved.ada, memory_root=root)


def test_asking_costs_no_more_statements_with_packs(saved: Saved, queue: Queue) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            locate(saved.ada, saved.vm, saved.snapshot)
        return len(queries)

    locate(saved.ada, saved.vm, saved.snapshot, [0])
    before = count()
    queue.work()
    assert count() == before
    for number in range(3):
        Saved(f"other{number}@example.org")
    assert count() == before


def test_what_a_pack_has_is_what_the_memory_has(saved: Saved, queue: Queue) -> None:
    before = contents_of(saved.snapshot)
    home = saved.tenant.pk
    locate(saved.ada, saved.vm, saved.snapshot)
    leaves = [bytes.fromhex(leaf) for leaf in queue.tasks[0][1]]
    assert make_packs(home, leaves) == 2
    assert make_packs(home, leaves) == 0
    assert contents_of(saved.snapshot) == before
    assert all(is_stored(saved.tenant, pack) for pack in packs_of(saved.tenant))
