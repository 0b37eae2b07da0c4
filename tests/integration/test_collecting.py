"""Garbage collection: what nothing leads to is freed, in its time; everything else stays."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from sessions.actions.commits import Save, commit_snapshot
from sessions.actions.leases import take_lease
from sessions.actions.snapshots import delete_snapshot, make_fork
from sessions.actions.vms import create_vm, delete_vm
from sessions.models import VM, Snapshot
from storage.chunks import find_missing, put_chunk, store_key
from storage.codec import digest_of, encode_frame
from storage.errors import ChunkBusy, MissingChunks, StoreUnavailable
from storage.gc import sweep
from storage.gc.collect import collect_garbage
from storage.gc.sweep import grace_time
from storage.models import Chunk, ChunkState, Collection
from storage.states import CLAIM_LASTS, forget_deleted, pin_time
from storage.stores import ChunkStore, get_store
from storage.stores.local import LocalStore
from tests.support.collecting import check_books, collect_all, contents_of
from tests.support.killing import Killed, Killer
from tests.support.machines import Machine, block, make_image, make_user, save, upload
from webvm.accounts.access import personal_tenant
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.models import AuditEntry, Tenant, User
from webvm.errors import PermissionDenied, QuotaExceeded

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine() -> Machine:
    return make_image()[1].copy()


@pytest.fixture
def ada(machine: Machine) -> User:
    return make_user("ada@example.org", name="Ada")


@pytest.fixture
def vm(ada: User) -> VM:
    return create_vm("tiny", acting_user=ada)


def states(tenant: Tenant) -> dict[str, int]:
    found: dict[str, int] = {}
    for state in Chunk.objects.filter(tenant=tenant).values_list("state", flat=True):
        found[state] = found.get(state, 0) + 1
    return found


def used(tenant: Tenant) -> int:
    return Tenant.objects.values_list("used_bytes", flat=True).get(pk=tenant.pk)


def test_it_works(vm: VM, machine: Machine, ada: User) -> None:
    save(vm, machine, "one", ada)
    gone = save(vm, machine, "two", ada)
    last = save(vm, machine, "three", ada)
    before = contents_of(last)
    delete_snapshot(gone.pk, acting_user=ada)
    now = timezone.now()
    done = collect_garbage(acting_user=None, now=now)
    assert (done.purged, done.condemned.chunks) == (0, 0)  # it can still be brought back

    later = now + undo_time() + timedelta(hours=1)
    done = collect_garbage(acting_user=None, now=later)
    # Two data chunks; the leaf and the root of the disk; those of the memory.
    assert (done.purged, done.condemned.chunks, done.swept.objects) == (1, 6, 0)
    freed = done.condemned.stored_bytes
    assert 0 < freed < used(vm.tenant)
    check_books()

    done = collect_garbage(acting_user=None, now=later + grace_time() + timedelta(seconds=1))
    assert (done.condemned.chunks, done.swept.objects, done.swept.stored_bytes) == (0, 6, freed)
    assert states(vm.tenant) == {ChunkState.LIVE: 12}
    check_books()
    assert contents_of(last) == before
    assert AuditEntry.objects.filter(action="purge_snapshot", target_id=str(gone.pk)).exists()


def test_a_deleted_machine_frees_what_only_it_used(vm: VM, machine: Machine, ada: User) -> None:
    other = create_vm("tiny", acting_user=ada)
    first = save(vm, machine.copy(), "same", ada)
    twin = save(other, machine.copy(), "same", ada)  # the same bytes: one copy of them
    only = save(vm, machine.copy(), "another", ada)
    before = contents_of(twin)
    assert contents_of(first) == before
    delete_vm(vm.pk, acting_user=ada)
    collect_all()
    assert not Snapshot.objects.filter(pk__in=[first.pk, only.pk]).exists()
    assert not VM.objects.filter(pk=vm.pk).exists()
    assert contents_of(twin) == before
    assert states(vm.tenant) == {ChunkState.LIVE: 6}
    check_books()


def test_a_fork_keeps_what_it_reads(vm: VM, machine: Machine, ada: User) -> None:
    """And no more: the original's tenant gets back what the fork does not lead to."""
    eve = make_user("eve@example.org")
    original = save(vm, machine, "ada's", ada, extra=machine.disk.write({1500: block("ada's")}))
    theirs = machine.copy()
    forked = make_fork(original, personal_tenant(eve), acting_user=eve)
    save(vm, machine, "only ada's", ada)
    before = contents_of(loaded(forked.head_id))
    delete_vm(vm.pk, acting_user=ada)
    collect_all()
    assert not VM.objects.filter(pk=vm.pk).exists()
    assert contents_of(loaded(forked.head_id)) == before
    assert states(vm.tenant) == {ChunkState.LIVE: 8}

    # The fork saves: what it shares with the original is adopted, and is a reference even without a snapshot.
    kept = save(forked, theirs, "eve's", eve)
    delete_snapshot(forked.head_id or uuid.uuid4(), acting_user=eve)
    saved = contents_of(kept)
    assert Chunk.objects.filter(tenant=forked.tenant_id, home=vm.tenant_id).exists()
    collect_all()
    assert contents_of(kept) == saved
    check_books()
    delete_vm(forked.pk, acting_user=eve)
    collect_all()
    assert not Chunk.objects.exclude(tenant=None).exists()
    assert {tenant.used_bytes for tenant in Tenant.objects.all()} == {0}


def loaded(pk: uuid.UUID | None) -> Snapshot:
    return Snapshot.objects.select_related("vm__image_version").get(pk=pk or uuid.UUID(int=0))


def test_abandoned_uploads_go_when_nobody_waits_for_them_any_more(vm: VM, ada: User) -> None:
    upload(vm.tenant, [block("never committed")])
    now = timezone.now()
    assert collect_garbage(acting_user=None, now=now + pin_time() - timedelta(hours=1)).condemned.chunks == 0
    assert states(vm.tenant) == {ChunkState.PENDING: 1}
    assert collect_garbage(acting_user=None, now=now + pin_time() + timedelta(hours=1)).condemned.chunks == 1
    assert used(vm.tenant) == 0
    collect_all()
    assert not states(vm.tenant)


def test_asking_for_it_pins_an_upload(vm: VM, ada: User) -> None:
    raw = block("asked for again")
    upload(vm.tenant, [raw])
    Chunk.objects.filter(tenant=vm.tenant).update(state_at=timezone.now() - pin_time() * 0.9)
    assert find_missing(vm.tenant, [digest_of(raw)]) == []
    assert collect_garbage(acting_user=None, now=timezone.now() + pin_time() / 2).condemned.chunks == 0


class TestRevival:
    """What was condemned comes back whole, whoever asks for it in time."""

    @pytest.fixture
    def condemned(self, vm: VM, machine: Machine, ada: User) -> Machine:
        """The machine as it was in a snapshot whose chunks are condemned."""
        save(vm, machine, "keep", ada)
        old = machine.copy()
        gone = save(vm, old, "gone", ada)
        save(vm, machine, "now", ada)
        delete_snapshot(gone.pk, acting_user=ada)
        done = collect_garbage(acting_user=None, now=timezone.now() + undo_time() + timedelta(hours=1))
        assert done.condemned.chunks == 6
        return old

    def test_by_a_negotiate_and_a_commit(self, vm: VM, condemned: Machine, ada: User) -> None:
        known = {
            bytes.fromhex(digest) for device in (condemned.disk, condemned.memory) for digest in device.chunks
        }
        mine = set(Chunk.objects.filter(tenant=vm.tenant).values_list("digest", flat=True))
        assert find_missing(vm.tenant, known & {bytes(digest) for digest in mine}) == []
        assert states(vm.tenant)[ChunkState.PENDING] == 6
        check_books()
        back = commit_again(vm, condemned, ada)
        assert states(vm.tenant) == {ChunkState.LIVE: 18}
        collect_all()
        contents_of(back)
        check_books()

    def test_by_a_commit_alone(self, vm: VM, condemned: Machine, ada: User) -> None:
        """A client that negotiated before it was condemned; only the roots are named, the rest is below."""
        back = commit_again(vm, condemned, ada)
        assert states(vm.tenant) == {ChunkState.LIVE: 18}
        check_books()
        collect_all()
        contents_of(back)

    def test_by_an_upload(self, vm: VM, condemned: Machine, ada: User) -> None:
        root = condemned.disk.root
        row = put_chunk(vm.tenant, bytes.fromhex(root), encode_frame(condemned.disk.chunks[root]))
        assert row.state == ChunkState.PENDING
        assert row.node_level is None  # what it names may be gone: the commit looks below it
        check_books()

    def test_what_was_deleted_is_missing(self, vm: VM, condemned: Machine, ada: User) -> None:
        collect_garbage(
            acting_user=None, now=timezone.now() + undo_time() + grace_time() + timedelta(hours=2)
        )
        with pytest.raises(MissingChunks):
            commit_again(vm, condemned, ada)

    def test_not_beyond_the_quota(self, vm: VM, condemned: Machine, ada: User) -> None:
        root = bytes.fromhex(condemned.disk.root)
        Tenant.objects.filter(pk=vm.tenant_id).update(quota_bytes=used(vm.tenant))
        with pytest.raises(QuotaExceeded):
            find_missing(vm.tenant, [root])
        with pytest.raises(QuotaExceeded):
            put_chunk(vm.tenant, root, encode_frame(condemned.disk.chunks[condemned.disk.root]))
        check_books()


def commit_again(vm: VM, machine: Machine, user: User) -> Snapshot:
    """Save the machine as it is, uploading nothing."""
    lease = take_lease(vm.pk, uuid.uuid4(), take_over=True, acting_user=user)
    wanted = Save(
        epoch=lease.epoch,
        expected_head=lease.head,
        disk_root=machine.disk.root,
        memory_root=machine.memory.root,
        idempotency_key=uuid.uuid4(),
    )
    return commit_snapshot(vm.pk, wanted, acting_user=user)


class TestDeleting:
    @pytest.fixture
    def doomed(self, vm: VM) -> bytes:
        """The raw bytes of a chunk that is condemned long enough."""
        raw = block("doomed")
        upload(vm.tenant, [raw])
        now = timezone.now() - timedelta(hours=1)
        Chunk.objects.filter(tenant=vm.tenant).update(state_at=now - pin_time() - grace_time() * 2)
        collect_garbage(acting_user=None, now=now - grace_time())
        assert states(vm.tenant) == {ChunkState.CONDEMNED: 1}
        return raw

    def test_an_upload_of_the_same_bytes_waits_for_the_deletion(
        self, vm: VM, doomed: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At no moment is there a row without an object, or an object to be deleted behind a new row."""
        digest, seen = digest_of(doomed), []

        class Watched:
            def __init__(self, store: ChunkStore) -> None:
                self.store = store

            def __getattr__(self, name: str) -> object:
                return getattr(self.store, name)

            def delete(self, key: str) -> None:
                # In a thread of the sweep, so with no transaction of its own: only the states are looked at.
                seen.append(key)
                self.store.delete(key)

        monkeypatch.setattr(sweep, "get_store", lambda: Watched(get_store()))
        real = forget_deleted

        def forget(*args: Any) -> int:
            with pytest.raises(ChunkBusy):
                put_chunk(vm.tenant, digest, encode_frame(doomed))
            assert find_missing(vm.tenant, [digest]) == [digest]
            return real(*args)

        monkeypatch.setattr(sweep, "forget_deleted", forget)
        assert collect_garbage(acting_user=None, now=timezone.now()).swept.objects == 1
        assert len(seen) == 1
        assert put_chunk(vm.tenant, digest, encode_frame(doomed)).state == ChunkState.PENDING
        check_books()

    def test_a_deletion_that_was_cut_off_is_finished_later(
        self, vm: VM, doomed: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sweep, "delete_claimed", killed)
            with pytest.raises(Killed):
                collect_garbage(acting_user=None, now=timezone.now())
        assert states(vm.tenant) == {ChunkState.DELETED: 1}
        check_books()
        soon = collect_garbage(acting_user=None, now=timezone.now() + CLAIM_LASTS / 2)
        assert soon.swept.objects == 0
        assert collect_garbage(acting_user=None, now=timezone.now() + CLAIM_LASTS * 2).swept.objects == 1
        assert not states(vm.tenant)
        check_books()

    def test_an_upload_ends_a_deletion_that_was_cut_off_long_ago(
        self, vm: VM, doomed: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sweep, "delete_claimed", killed)
            with pytest.raises(Killed):
                collect_garbage(acting_user=None, now=timezone.now())
        Chunk.objects.filter(tenant=vm.tenant).update(state_at=timezone.now() - CLAIM_LASTS * 2)
        row = put_chunk(vm.tenant, digest_of(doomed), encode_frame(doomed))
        assert row.state == ChunkState.PENDING
        assert get_store().exists(store_key(vm.tenant_id, digest_of(doomed)))
        check_books()

    def test_a_store_that_refuses_loses_nothing(
        self, vm: VM, doomed: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_self: object, key: str) -> None:
            raise StoreUnavailable

        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, "delete", refuse)
            with pytest.raises(StoreUnavailable):
                collect_garbage(acting_user=None, now=timezone.now())
        check_books()
        assert collect_garbage(acting_user=None, now=timezone.now() + CLAIM_LASTS * 2).swept.objects == 1
        check_books()


def killed(*_: object) -> None:
    raise Killed


def test_a_run_that_is_cut_off_anywhere_goes_on(vm: VM, machine: Machine, ada: User) -> None:
    """Killed before every single statement that changes something, in one collection after the other."""
    now = timezone.now()
    old = save(vm, machine, "the first", ada)
    for number in range(1, 200):
        kept = save(vm, machine, f"save {number}", ada)
        before = contents_of(kept)
        delete_snapshot(old.pk, acting_user=ada)
        old = kept
        killer = Killer(number)
        with connection.execute_wrapper(killer):
            for _ in range(2):
                now += undo_time() * 2
                try:
                    collect_garbage(acting_user=None, now=now)
                except Killed:
                    check_books()
                    assert contents_of(kept) == before
                    break
        now += undo_time()
        collect_garbage(acting_user=None, now=now)
        collect_garbage(acting_user=None, now=now + grace_time())
        check_books()
        assert contents_of(kept) == before
        assert states(vm.tenant) == {ChunkState.LIVE: 6}
        if not killer.has_killed:
            break
    assert 30 < number < 199


def test_only_site_admins_collect(ada: User) -> None:
    with pytest.raises(PermissionDenied):
        collect_garbage(acting_user=ada)
    assert not Collection.objects.exclude(run=0).exists()
