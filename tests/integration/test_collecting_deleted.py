"""Collecting what people deleted: not while it can be brought back, and all of it after that."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from sessions.actions.snapshots import delete_snapshot, make_fork, restore_snapshot
from sessions.actions.vms import create_vm, delete_vm, restore_vm
from sessions.errors import UndoTooLate
from sessions.models import VM, Snapshot
from storage.gc.collect import collect_garbage
from storage.models import Chunk
from tests.support.collecting import collect_all, contents_of, loaded
from tests.support.machines import Machine, make_image, make_user, save
from tests.support.pages import browser, call
from webvm.accounts.access import personal_tenant
from webvm.accounts.actions import create_tenant, delete_account, delete_tenant, restore_tenant
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.models import Tenant, User
from webvm.errors import NotFound, PermissionDenied

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


class TestUndo:
    def test_within_the_time(self, vm: VM, machine: Machine, ada: User) -> None:
        first = save(vm, machine, "one", ada)
        save(vm, machine, "two", ada)
        delete_snapshot(first.pk, acting_user=ada)
        delete_vm(vm.pk, acting_user=ada)
        collect_garbage(acting_user=None, now=timezone.now() + undo_time() - timedelta(minutes=1))
        restore_vm(vm.pk, acting_user=ada)
        restore_snapshot(first.pk, acting_user=ada)
        contents_of(loaded(first))

    def test_too_late(self, vm: VM, machine: Machine, ada: User) -> None:
        first = save(vm, machine, "one", ada)
        save(vm, machine, "two", ada)
        delete_snapshot(first.pk, acting_user=ada)
        Snapshot.objects.filter(pk=first.pk).update(deleted_at=timezone.now() - undo_time())
        with pytest.raises(UndoTooLate):
            restore_snapshot(first.pk, acting_user=ada)
        collect_garbage(acting_user=None)
        with pytest.raises(NotFound):
            restore_snapshot(first.pk, acting_user=ada)

    def test_a_head_is_never_purged(self, vm: VM, machine: Machine, ada: User) -> None:
        head = save(vm, machine, "one", ada)
        Snapshot.objects.filter(pk=head.pk).update(deleted_at=timezone.now() - undo_time() * 2)
        collect_all()
        contents_of(loaded(head))


class TestTenants:
    def test_a_deleted_tenant_goes_with_everything(self, machine: Machine, ada: User) -> None:
        tenant = create_tenant("Physics", acting_user=ada)
        vm = create_vm("tiny", acting_user=ada, tenant=tenant)
        save(vm, machine, "one", ada)
        delete_tenant(tenant, acting_user=ada)
        collect_garbage(acting_user=None, now=timezone.now() + undo_time() - timedelta(hours=1))
        assert VM.objects.filter(pk=vm.pk).exists()
        collect_all()
        assert not Tenant.objects.filter(pk=tenant.pk).exists()
        assert not Chunk.objects.exclude(tenant=None).exists()

    def test_a_deleted_user_goes_with_their_machines(self, vm: VM, machine: Machine, ada: User) -> None:
        save(vm, machine, "one", ada)
        delete_account(ada, acting_user=ada)
        collect_all()
        assert not Tenant.objects.filter(pk=vm.tenant_id).exists()
        assert not Chunk.objects.exclude(tenant=None).exists()

    def test_within_the_time_it_can_be_brought_back(self, machine: Machine, ada: User) -> None:
        tenant = create_tenant("Physics", acting_user=ada)
        head = save(create_vm("tiny", acting_user=ada, tenant=tenant), machine.copy(), "one", ada)
        mine = create_vm("tiny", acting_user=ada)
        own = save(mine, machine.copy(), "two", ada)
        before = contents_of(head), contents_of(own)
        delete_tenant(tenant, acting_user=ada)
        delete_account(ada, acting_user=ada)
        collect_garbage(acting_user=None, now=timezone.now() + undo_time() - timedelta(hours=1))
        eve = make_user("eve@example.org")
        with pytest.raises(PermissionDenied):
            restore_tenant(tenant.pk, eve, acting_user=eve)
        out = StringIO()
        call_command("restoretenant", stdout=out)
        assert "Physics, until" in out.getvalue()
        for gone in (tenant.pk, mine.tenant_id):
            call_command("restoretenant", str(gone), "--owner", "eve@example.org", stdout=out)
        client = browser(eve)
        for snapshot in (head, own):
            items = call(client, "GET", f"/vms?tenant={snapshot.tenant_id}")[1]["items"]
            assert [item["id"] for item in items] == [str(snapshot.vm_id)]
        collect_all()
        assert (contents_of(loaded(head)), contents_of(loaded(own))) == before
        assert personal_tenant(eve).pk not in {tenant.pk, mine.tenant_id}
        with pytest.raises(CommandError, match="no deleted tenant"):
            call_command("restoretenant", str(tenant.pk), "--owner", "eve@example.org")

    def test_it_stays_as_long_as_a_fork_reads_its_chunks(self, vm: VM, machine: Machine, ada: User) -> None:
        eve = make_user("eve@example.org")
        original = save(vm, machine, "one", ada)
        forked = make_fork(original, personal_tenant(eve), acting_user=eve)
        before = contents_of(original)
        delete_account(ada, acting_user=ada)
        collect_all()
        assert forked.head
        assert contents_of(loaded(forked.head)) == before
        assert Tenant.objects.filter(pk=vm.tenant_id).exists()
        delete_vm(forked.pk, acting_user=eve)
        collect_all()
        assert not Tenant.objects.filter(pk=vm.tenant_id).exists()
