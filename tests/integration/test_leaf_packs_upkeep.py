"""Packs of leaves and the storage's upkeep: they go with their leaf, not before it, whatever is cut off."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from sessions.actions.snapshots import delete_snapshot
from sessions.actions.vms import delete_vm
from storage import nodes
from storage.chunks import store_key
from storage.gc import roots
from storage.gc.barrier import note_garbage
from storage.gc.collect import collect_garbage
from storage.gc.mark import begin, make_step
from storage.gc.preview import would_condemn
from storage.gc.sweep import grace_time, sweep
from storage.leaf_packs import make_packs
from storage.models import Chunk, ChunkState
from storage.states import pin_time
from storage.stores import get_store
from storage.stores.local import LocalStore
from tests.support.collecting import check_books, collect_all, contents_of
from tests.support.killing import Killed, Killer
from tests.support.leaf_packs import (
    BASE,
    Queue,
    Saved,
    install_queue,
    is_stored,
    locate,
    packs_of,
    unpacked,
)
from tests.support.machines import save
from webvm.accounts.actions.tenants import undo_time
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


@pytest.fixture
def packed(saved: Saved, queue: Queue) -> Saved:
    locate(saved.ada, saved.vm, saved.snapshot)
    queue.work()
    assert len(packs_of(saved.tenant)) == 2
    return saved


def leaves_of(saved: Saved) -> list[bytes]:
    rows = Chunk.objects.filter(tenant=saved.tenant, node_level=0)
    return [bytes(row.digest) for row in rows]


def verify(*options: str) -> tuple[int, Any]:
    nodes.cache.clear()
    out = StringIO()
    status = 0
    try:
        call_command("verifystorage", "--json", *options, stdout=out)
    except SystemExit as ended:
        status = int(ended.code or 0)
    return status, json.loads(out.getvalue())


def settle(saved: Saved) -> None:
    """Collects what is garbage, also uploads that nobody named for long."""
    note_garbage(saved.tenant.pk)
    later = timezone.now() + pin_time() + timedelta(hours=1)
    collect_garbage(acting_user=None, now=later)
    collect_garbage(acting_user=None, now=later + grace_time())


def check_whole(saved: Saved) -> None:
    """Every pack that a living leaf has is alive, and the storage finds nothing amiss."""
    for pack in packs_of(saved.tenant):
        assert pack.state == ChunkState.LIVE
        assert is_stored(saved.tenant, pack)
    status, answer = verify()
    damages = [each for each in answer["damages"] if each["tenant"] != "the public"]
    assert (damages, status in {0, 1}) == ([], True)


class TestCollecting:
    def test_a_pack_stays_as_long_as_its_leaf(self, packed: Saved) -> None:
        note_garbage(packed.tenant.pk)
        collect_all()
        before = locate(packed.ada, packed.vm, packed.snapshot)["packs"]
        assert set(before) == {"0", "1"}
        # The next save replaces the first leaf; the second is the next snapshot's too.
        second = save(packed.vm, packed.machine, "two", packed.ada)
        collect_all()
        assert len(packs_of(packed.tenant)) == 2, "the first snapshot is still there"
        delete_snapshot(packed.snapshot.pk, acting_user=packed.ada)
        collect_all()
        assert locate(packed.ada, packed.vm, second)["packs"] == {"1": before["1"]}
        assert len(packs_of(packed.tenant)) == 1
        with pytest.raises(Exception, match="not"):
            unpacked(before["0"])
        check_whole(packed)
        check_books()

    def test_a_pack_goes_with_its_leaf(self, packed: Saved) -> None:
        used = packed.tenant.used_bytes
        rows = packs_of(packed.tenant)
        delete_vm(packed.vm.pk, acting_user=packed.ada)
        now = timezone.now() + undo_time() + timedelta(hours=1)
        foreseen = set(would_condemn(packed.tenant.pk, now=now).digests)
        assert {bytes(row.digest).hex() for row in rows} <= foreseen
        collect_garbage(acting_user=None, now=now)
        assert {row.state for row in Chunk.objects.filter(pk__in=[row.pk for row in rows])} == {
            ChunkState.CONDEMNED
        }
        tenant = packed.tenant
        assert (tenant.used_bytes, tenant.condemned_bytes) == (0, used)
        collect_all(now)
        assert not Chunk.objects.filter(tenant=tenant).exists()
        assert not any(is_stored(tenant, row) for row in rows)
        check_books()

    def test_a_leaf_that_comes_back_gets_a_new_one(self, packed: Saved, queue: Queue) -> None:
        """Condemned and named again by a commit: the pack went its own way, and comes anew."""
        leaves = leaves_of(packed)
        delete_vm(packed.vm.pk, acting_user=packed.ada)
        collect_garbage(acting_user=None, now=timezone.now() + undo_time() + timedelta(hours=1))
        again = packed.save_in_another()
        assert set(leaves) <= set(leaves_of(again))
        check_whole(again)
        assert locate(again.ada, again.vm, again.snapshot)["packs"] == {}
        queue.work()
        assert set(locate(again.ada, again.vm, again.snapshot)["packs"]) == {"0", "1"}
        check_whole(again)
        check_books()
        collect_all()
        check_whole(again)

    def test_whatever_step_a_run_is_at(self, saved: Saved) -> None:
        """A pack that is made between any two steps of a run stays, and one of a garbage leaf goes."""
        home = saved.tenant.pk
        for number in range(40):
            Chunk.objects.filter(tenant=home).update(pack=None)
            Chunk.objects.filter(tenant=home, raw_size__gt=256 * 1024).delete()
            _recount(saved.tenant)
            old = saved.snapshot
            saved.snapshot = save(saved.vm, saved.machine, f"save {number}", saved.ada)
            delete_snapshot(old.pk, acting_user=saved.ada)
            now = timezone.now() + undo_time() * 2
            for source in roots.sources:
                while source.purge(now, 100):
                    pass
            run = begin(home, now)
            steps = 0
            while make_step(home, run, now) is not None:
                steps += 1
                if steps == number:
                    make_packs(home, leaves_of(saved))
            if steps < number:
                break
            nodes.cache.clear()
            contents_of(saved.snapshot)
            check_whole(saved)
            check_books()
            if number:
                assert set(locate(saved.ada, saved.vm, saved.snapshot)["packs"]) == {"0", "1"}
            sweep(now=now + grace_time() * 2)
            check_whole(saved)
            check_books()
            living = {bytes(row.digest) for row in packs_of(saved.tenant)}
            kept = Chunk.objects.filter(tenant=home, raw_size__gt=256 * 1024)
            assert {bytes(row.digest) for row in kept} == living, "no pack is left without a leaf"
        assert 5 < number < 39

    def test_collecting_may_be_cut_off_anywhere(self, packed: Saved, queue: Queue) -> None:
        now = timezone.now()
        for number in range(1, 200):
            old = packed.snapshot
            packed.snapshot = save(packed.vm, packed.machine, f"save {number}", packed.ada)
            locate(packed.ada, packed.vm, packed.snapshot)
            queue.work()
            delete_snapshot(old.pk, acting_user=packed.ada)
            killer = Killer(number * 3)
            with connection.execute_wrapper(killer):
                for _ in range(2):
                    now += undo_time() * 2
                    try:
                        collect_garbage(acting_user=None, now=now)
                    except Killed:
                        check_books()
                        check_whole(packed)
                        break
            now += undo_time()
            collect_garbage(acting_user=None, now=now)
            collect_garbage(acting_user=None, now=now + grace_time())
            check_books()
            check_whole(packed)
            assert len(packs_of(packed.tenant)) == 2
            if not killer.has_killed:
                break
        assert 5 < number < 199


class TestMaking:
    def test_it_may_be_killed_anywhere(self, saved: Saved, queue: Queue) -> None:
        """Before every statement that changes something: nothing is wrong then, and the next one ends it."""
        settle(saved)
        leaves = leaves_of(saved)
        home = saved.tenant.pk
        used = saved.tenant.used_bytes
        for number in range(1, 60):
            killer = Killer(number)
            with connection.execute_wrapper(killer):
                try:
                    make_packs(home, leaves)
                except Killed:
                    check_books()
                    check_whole(saved)
                    assert locate(saved.ada, saved.vm, saved.snapshot)["urls"]
            if number % 2:  # goes on from there
                make_packs(home, leaves)
                assert set(locate(saved.ada, saved.vm, saved.snapshot)["packs"]) == {"0", "1"}
                check_whole(saved)
            # What was left half made is an upload that nobody names.
            Chunk.objects.filter(tenant=home).update(pack=None)
            settle(saved)
            assert saved.tenant.used_bytes == used
            assert saved.tenant.condemned_bytes == 0
            check_books()
            if not killer.has_killed:
                break
        assert 5 < number < 59

    def test_the_leaf_went_meanwhile(self, saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
        settle(saved)
        leaves = leaves_of(saved)
        tenant = saved.tenant
        used = tenant.used_bytes
        put = LocalStore.put

        def slow(store: LocalStore, key: str, stored: bytes) -> None:
            put(store, key, stored)
            Chunk.objects.filter(tenant=tenant, node_level=0).update(
                state=ChunkState.CONDEMNED, state_at=timezone.now()
            )

        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, "put", slow)
            assert make_packs(tenant.pk, leaves) == 0
        Chunk.objects.filter(tenant=tenant, node_level=0).update(state=ChunkState.LIVE, state_at=None)
        assert packs_of(tenant) == []
        settle(saved)
        assert saved.tenant.used_bytes == used
        check_books()

    @pytest.mark.django_db(transaction=True)
    def test_workers_at_once_make_one(self, saved: Saved) -> None:
        leaves = leaves_of(saved)
        home = saved.tenant.pk
        begun = threading.Barrier(4)
        made: list[int] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                begun.wait(20)
                made.append(make_packs(home, leaves))
            except BaseException as error:
                errors.append(error)
            finally:
                connection.close()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert errors == []
        assert sum(made) == 2
        rows = packs_of(saved.tenant)
        assert len(rows) == 2
        assert Chunk.objects.filter(tenant=home, raw_size__gt=256 * 1024).count() == 2
        check_books()


class TestDamage:
    @pytest.mark.parametrize("how", ["missing", "truncated", "other bytes"])
    def test_an_object_is_found_dropped_and_made_anew(self, packed: Saved, queue: Queue, how: str) -> None:
        tenant = packed.tenant
        pack, other = packs_of(tenant)
        key = store_key(tenant.pk, bytes(pack.digest))
        good = get_store().get(key)
        get_store().delete(key)
        if how != "missing":
            get_store().put(key, good[:100] if how == "truncated" else get_store().get(_key(tenant, other)))
        status, answer = verify()
        assert status == 1
        (damage,) = [each for each in answer["damages"] if each["tenant"] != "the public"]
        assert (damage["digest"], damage["affected"]) == (bytes(pack.digest).hex(), [])
        _, answer = verify("--repair")
        (damage,) = [each for each in answer["damages"] if each["tenant"] != "the public"]
        assert damage["repaired"]
        check_books()
        check_whole(packed)
        assert len(packs_of(tenant)) == 1
        assert len(locate(packed.ada, packed.vm, packed.snapshot)["packs"]) == 1
        queue.work()
        answers = locate(packed.ada, packed.vm, packed.snapshot)["packs"]
        assert set(answers) == {"0", "1"}
        assert all(unpacked(url) for url in answers.values())
        check_books()
        check_whole(packed)

    @pytest.mark.parametrize("how", ["no row", "condemned"])
    def test_a_row_that_is_wrong_is_let_go_of(self, packed: Saved, queue: Queue, how: str) -> None:
        tenant = packed.tenant
        pack, _ = packs_of(tenant)
        row = Chunk.objects.filter(pk=pack.pk)
        if how == "no row":
            row.delete()
        else:
            row.update(state=ChunkState.CONDEMNED, state_at=timezone.now())
        _recount(tenant)
        _, answer = verify("--repair")
        (damage,) = [each for each in answer["damages"] if each["tenant"] != "the public"]
        assert damage["repaired"]
        check_whole(packed)
        check_books()
        locate(packed.ada, packed.vm, packed.snapshot)
        queue.work()
        assert len(packs_of(tenant)) == 2
        check_whole(packed)
        check_books()


def _key(tenant: Tenant, row: Chunk) -> str:
    return store_key(tenant.pk, bytes(row.digest))


def _recount(tenant: Tenant) -> None:
    """The books after rows were changed behind everybody's back."""
    own = Chunk.objects.filter(tenant=tenant, home=tenant)
    counts = [
        sum(row.stored_size for row in own.filter(state__in=states))
        for states in ((ChunkState.PENDING, ChunkState.LIVE), (ChunkState.CONDEMNED, ChunkState.DELETED))
    ]
    Tenant.objects.filter(pk=tenant.pk).update(used_bytes=counts[0], condemned_bytes=counts[1])
