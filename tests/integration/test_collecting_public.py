"""Garbage collection of what withdrawn image versions leave behind."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions.actions.commits import Save, commit_snapshot
from sessions.actions.leases import take_lease
from sessions.actions.snapshots import delete_snapshot, make_fork
from sessions.actions.vms import create_vm, delete_vm
from sessions.models import VM, Snapshot
from storage.codec import digest_of
from storage.errors import VersionFreed
from storage.gc import barrier
from storage.gc.collect import collect_garbage
from storage.gc.sweep import grace_time
from storage.models import (
    Chunk,
    ChunkState,
    Collection,
    ImageVersion,
    PublicCollection,
)
from storage.versions import offer_version_again, retire_version
from tests.support.collecting import (
    after_undo,
    check_books,
    collect_all,
    contents_of,
    loaded,
    named_by,
    public_digests,
    public_states,
)
from tests.support.machines import Machine, block, image_machine, make_image, make_user, save
from tests.support.pages import browser, call
from webvm.accounts.access import personal_tenant
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return make_user("ada@example.org", name="Ada")


@pytest.fixture
def old() -> tuple[ImageVersion, Machine]:
    """The version that is withdrawn in these tests."""
    return make_image()


@pytest.fixture
def new(old: tuple[ImageVersion, Machine]) -> tuple[ImageVersion, Machine]:
    """The version after it, with another disk and the same memory."""
    machine = image_machine()
    machine.disk.write({number: block(f"second {number}") for number in (0, 1, 2, 7, 1500)})
    return make_image(machine=machine)


def test_a_withdrawn_version_that_nobody_needs_is_freed(
    old: tuple[ImageVersion, Machine], new: tuple[ImageVersion, Machine]
) -> None:
    retire_version(old[0], acting_user=None)
    done = collect_garbage(acting_user=None, now=timezone.now() + undo_time() - timedelta(minutes=1))
    assert (done.versions, done.condemned.chunks) == (0, 0)

    would = json.loads(dry_run())
    assert (would["versions"], would["condemned"]["chunks"]) == (0, 0)
    ImageVersion.objects.filter(pk=old[0].pk).update(withdrawn_at=timezone.now() - undo_time())
    would = json.loads(dry_run())
    lost = (named_by(old[1]) | {digest_of(b"kernel of tiny").hex()}) - named_by(new[1])
    [listed] = would["condemned"]["by_tenant"]
    # The kernel is the second version's as well.
    assert (would["versions"], listed["tenant"]) == (1, None)
    assert set(listed["chunks"]) == lost - {digest_of(b"kernel of tiny").hex()}

    now = timezone.now()
    done = collect_garbage(acting_user=None, now=now)
    assert (done.versions, done.condemned.chunks) == (1, len(listed["chunks"]))
    assert done.condemned.stored_bytes == listed["bytes"]
    assert public_states()[ChunkState.CONDEMNED] == len(listed["chunks"])
    done = collect_garbage(acting_user=None, now=now + grace_time() + timedelta(seconds=1))
    assert (done.swept.objects, done.swept.stored_bytes) == (len(listed["chunks"]), listed["bytes"])
    assert public_digests() == named_by(new[1]) | {digest_of(b"kernel of tiny").hex()}
    check_books()
    with pytest.raises(VersionFreed):
        offer_version_again(old[0], acting_user=None)
    assert ImageVersion.objects.get(pk=old[0].pk).is_withdrawn


def dry_run() -> str:
    out = StringIO()
    call_command("collectgarbage", "--dry-run", "--json", stdout=out)
    return out.getvalue()


def test_within_the_time_it_can_be_offered_again(old: tuple[ImageVersion, Machine]) -> None:
    """And the time begins anew when it is withdrawn anew."""
    retire_version(old[0], acting_user=None)
    ImageVersion.objects.update(withdrawn_at=timezone.now() - undo_time() + timedelta(minutes=1))
    offer_version_again(old[0], acting_user=None)
    retire_version(old[0], acting_user=None)
    assert collect_garbage(acting_user=None, now=timezone.now() + timedelta(hours=1)).versions == 0
    offer_version_again(old[0], acting_user=None)
    assert collect_garbage(acting_user=None, now=after_undo()).versions == 0
    assert set(public_states()) == {ChunkState.LIVE}


def test_a_machine_keeps_its_version(old: tuple[ImageVersion, Machine], ada: User) -> None:
    """Whether it was saved or not; a deleted one as long as it can be brought back."""
    vm = create_vm("tiny", acting_user=ada)
    retire_version(old[0], acting_user=None)
    collect_all()
    assert set(public_states()) == {ChunkState.LIVE}
    delete_vm(vm.pk, acting_user=ada)
    VM.objects.filter(pk=vm.pk).update(deleted_at=timezone.now())
    collect_garbage(acting_user=None, now=timezone.now() + undo_time() - timedelta(hours=1))
    assert set(public_states()) == {ChunkState.LIVE}
    collect_all()
    assert public_states() == {}
    assert not Chunk.objects.exists()


def test_a_fork_keeps_the_version(old: tuple[ImageVersion, Machine], ada: User) -> None:
    vm = create_vm("tiny", acting_user=ada)
    head = save(vm, old[1].copy(), "ada's", ada)
    eve = make_user("eve@example.org")
    fork = make_fork(head, personal_tenant(eve), acting_user=eve)
    retire_version(old[0], acting_user=None)
    delete_vm(vm.pk, acting_user=ada)
    collect_all()
    assert fork.head is not None
    contents_of(loaded(fork.head))
    saved = save(fork, old[1].copy(), "eve's", eve)
    collect_all()
    contents_of(loaded(saved))
    delete_vm(fork.pk, acting_user=eve)
    collect_all()
    assert not Chunk.objects.exists()


class TestAcrossVersions:
    """A machine of one version may name what only another one has published: then that stays."""

    @pytest.fixture
    def vm(self, old: tuple[ImageVersion, Machine], new: tuple[ImageVersion, Machine], ada: User) -> VM:
        vm = create_vm("tiny", acting_user=ada)
        assert vm.image_version_id == new[0].pk
        return vm

    def save_borrowing(self, vm: VM, machine: Machine, lender: Machine, ada: User) -> Snapshot:
        """Block 0 of the disk is taken from another version's chunk, at another place."""
        digest, at = lender.disk.places[2]
        assert digest not in named_by(machine)
        machine.disk.places[900] = (digest, at)
        machine.disk.chunks[digest] = lender.disk.chunks[digest]
        return save(vm, machine, "borrowed", ada)

    def test_a_chunk(
        self, vm: VM, old: tuple[ImageVersion, Machine], new: tuple[ImageVersion, Machine], ada: User
    ) -> None:
        saved = self.save_borrowing(vm, new[1].copy(), old[1], ada)
        before = contents_of(loaded(saved))
        borrowed = bytes.fromhex(old[1].disk.places[2][0])
        assert Chunk.objects.filter(tenant=vm.tenant, home=None).exists()
        retire_version(old[0], acting_user=None)
        collect_all()
        assert ImageVersion.objects.get(pk=old[0].pk).freed_at is not None
        assert contents_of(loaded(saved)) == before
        assert Chunk.objects.get(tenant=None, digest=borrowed).state == ChunkState.LIVE
        check_books()

        # When it is named no more, it goes, without anything else of the public having changed.
        newest = save(vm, new[1].copy(), "without it", ada)
        delete_snapshot(saved.pk, acting_user=ada)
        collect_all()
        assert not Chunk.objects.filter(tenant=None, digest=borrowed).exists()
        contents_of(loaded(newest))

    def test_a_tree_that_another_machine_of_the_tenant_made(
        self, old: tuple[ImageVersion, Machine], ada: User
    ) -> None:
        """The second machine's commit does not look below a root that it finds in its tenant's rows. The
        first one's version goes; what the root leads to stays."""
        first = create_vm("tiny", acting_user=ada)
        machine = old[1].copy()
        made = save(first, machine, "the same", ada)
        other = image_machine("other")
        version, _ = make_image("other", machine=other)
        second = create_vm("other", acting_user=ada)
        twin = save(second, machine.copy(), "the same", ada)
        assert (twin.disk_root, twin.memory_root) == (made.disk_root, made.memory_root)
        before = contents_of(loaded(twin))
        retire_version(old[0], acting_user=None)
        delete_vm(first.pk, acting_user=ada)
        collect_all()
        assert ImageVersion.objects.get(pk=old[0].pk).freed_at is not None
        assert contents_of(loaded(twin)) == before
        assert PublicCollection.objects.get().has_borrowed

        # And what was made from that in turn, in a fork in another tenant.
        eve = make_user("eve@example.org")
        fork = make_fork(loaded(twin), personal_tenant(eve), acting_user=eve)
        machine.disk.write({3: block("eve's")})
        forked = save(fork, machine, "eve's", eve, extra=machine.disk.named())
        before = contents_of(loaded(forked))
        delete_vm(second.pk, acting_user=ada)
        collect_all()
        assert contents_of(loaded(forked)) == before
        delete_vm(fork.pk, acting_user=eve)
        retire_version(version, acting_user=None)
        collect_all()
        assert not Chunk.objects.exists()

    def test_a_published_root_as_it_is(self, vm: VM, old: tuple[ImageVersion, Machine], ada: User) -> None:
        """A machine that becomes, block by block, what another version is."""
        save(vm, old[1].copy(), "first something else", ada)
        head = commit_as(vm, image_machine(), ada)
        before = contents_of(loaded(head))
        retire_version(old[0], acting_user=None)
        collect_all()
        assert contents_of(loaded(head)) == before

    def test_nodes_from_before_it_was_written_down(
        self, old: tuple[ImageVersion, Machine], ada: User
    ) -> None:
        """An installation from before this collector: the tenants' runs write it down first."""
        first = create_vm("tiny", acting_user=ada)
        machine = old[1].copy()
        save(first, machine, "the same", ada)
        make_image("other", machine=image_machine("other"))
        twin = save(create_vm("other", acting_user=ada), machine.copy(), "the same", ada)
        Chunk.objects.update(based_on=None)
        Chunk.objects.filter(home=None).exclude(tenant=None).delete()
        barrier.note_garbage(first.tenant_id)
        Collection.objects.update(unwritten_up_to=Chunk.objects.latest("pk").pk)
        before = contents_of(loaded(twin))
        retire_version(old[0], acting_user=None)
        delete_vm(first.pk, acting_user=ada)
        collect_all()
        assert contents_of(loaded(twin)) == before
        assert Collection.objects.get(tenant=first.tenant_id).unwritten_up_to is None


def commit_as(vm: VM, machine: Machine, user: User) -> Snapshot:
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


def test_what_it_costs_does_not_grow_with_the_tenants(
    old: tuple[ImageVersion, Machine], new: tuple[ImageVersion, Machine]
) -> None:
    """A version is freed beside two tenants, and beside ten, with machines and saves of another."""
    costs = []
    for count in (2, 8):
        for _ in range(count):
            user = make_user()
            machine = new[1].copy()
            vm = create_vm("tiny", acting_user=user)
            save(vm, machine, f"{user.pk}", user)
        doomed, _ = make_image(f"doomed-{count}", machine=image_machine(f"doomed-{count}"))
        retire_version(doomed, acting_user=None)
        now = after_undo()
        with CaptureQueriesContext(connection) as queries:
            done = collect_garbage(acting_user=None, now=now)
        assert done.versions == 1
        costs.append((len(queries), done.condemned.chunks))
        collect_garbage(acting_user=None, now=now + grace_time() * 2)
    # The first time, the row that says how far it is was made.
    (first, condemned), (second, also) = costs
    assert second <= first
    assert condemned == also


def test_an_admin_sees_what_becomes_of_it(
    old: tuple[ImageVersion, Machine], new: tuple[ImageVersion, Machine], ada: User
) -> None:
    admin = make_user("admin@example.org", is_staff=True)
    client = browser(admin)
    vm = create_vm("tiny", acting_user=ada)
    status, _ = call(client, "POST", f"/admin/image-versions/{new[0].pk}/withdraw", {})
    assert status == 200
    retire_version(old[0], acting_user=admin)
    page = client.get("/admin-images/").content.decode()
    assert "machines still use it" in page
    assert "data deleted after" in page
    delete_vm(vm.pk, acting_user=ada)
    collect_all()
    page = client.get("/admin-images/").content.decode()
    assert page.count("data deleted") == 2
    status, answer = call(client, "POST", f"/admin/image-versions/{old[0].pk}/restore", {})
    assert (status, answer["error"]["code"]) == (409, "version_freed")
