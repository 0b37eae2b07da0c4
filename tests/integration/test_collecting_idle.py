"""What the schedule costs for those of whom nothing has changed: nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from sessions.actions.snapshots import delete_snapshot, make_fork
from sessions.actions.vms import create_vm
from sessions.models import VM, Snapshot
from storage import nodes
from storage.gc.collect import Collected, collect_garbage
from storage.gc.sweep import grace_time
from storage.models import Chunk, ChunkState, Collection
from storage.states import pin_time
from storage.stores.local import LocalStore
from tests.support.collecting import check_books, collect_all, contents_of
from tests.support.machines import Machine, block, make_image, make_user, save, upload
from webvm.accounts.access import personal_tenant
from webvm.accounts.actions.tenants import undo_time

pytestmark = pytest.mark.django_db


class Cost:
    """The statements of a collection, the rows that they gave or changed, and the objects that it read."""

    def __init__(self, now: datetime) -> None:
        nodes.cache.clear()
        self.rows = 0
        with (
            CaptureQueriesContext(connection) as queries,
            mock.patch.object(LocalStore, "get", autospec=True, side_effect=LocalStore.get) as reads,
            connection.execute_wrapper(self._count),
        ):
            self.done: Collected = collect_garbage(acting_user=None, now=now)
        self.statements = len(queries)
        self.reads = reads.call_count

    def _count(self, run: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        cursor = context["cursor"]
        result = run(sql, params, many, context)
        if sql.startswith("SELECT"):
            fetched = cursor.fetchall()
            self.rows += len(fetched)
            return run(sql, params, many, context)
        self.rows += max(cursor.rowcount, 0)
        return result

    def seen(self) -> tuple[int, int, int]:
        return self.statements, self.rows, self.reads


@pytest.fixture
def machine() -> Machine:
    return make_image()[1]


def add_tenant(machine: Machine, saves: int) -> VM:
    """A tenant with a machine and its saves, and another one with a fork of the last."""
    user = make_user()
    vm = create_vm("tiny", acting_user=user)
    machine = machine.copy()
    for number in range(saves):
        last = save(vm, machine, f"{user.pk} {number}", user)
    other = make_user()
    make_fork(last, personal_tenant(other), acting_user=other)
    return vm


def test_idle_tenants_cost_nothing(machine: Machine) -> None:
    """However many there are and whatever they have; also right after a run over all of them."""
    add_tenant(machine, 1)
    now = collect_all()[1]
    few = Cost(now)
    for _ in range(4):
        vm = add_tenant(machine, 12)
        gone = Snapshot.objects.filter(vm=vm, parent=None).first()
        assert gone
        assert vm.created_by
        delete_snapshot(gone.pk, acting_user=vm.created_by)
    now = collect_all(now)[1]
    assert Collection.objects.exclude(run=0).count() == 4
    many = Cost(now)
    assert (many.done.tenants, many.reads) == (0, 0)
    assert many.seen() == few.seen()
    assert many.rows < 5


def test_one_deleted_snapshot_brings_one_run(machine: Machine) -> None:
    """When its time is over, over its tenant alone, and once."""
    vms = [add_tenant(machine, 2) for _ in range(3)]
    now = collect_all()[1]
    assert vms[0].created_by
    gone = Snapshot.objects.filter(vm=vms[0], parent=None).get()
    delete_snapshot(gone.pk, acting_user=vms[0].created_by)
    Snapshot.objects.filter(pk=gone.pk).update(deleted_at=now)
    assert collect_garbage(acting_user=None, now=now + undo_time() - timedelta(hours=1)).tenants == 0
    now += undo_time() + timedelta(hours=1)
    done = collect_garbage(acting_user=None, now=now)
    assert (done.purged, done.tenants, done.condemned.chunks) == (1, 1, 6)
    # Its grace time needs no run.
    done = collect_garbage(acting_user=None, now=now + grace_time() + timedelta(seconds=1))
    assert (done.tenants, done.swept.objects) == (0, 6)
    check_books()


def test_abandoned_uploads_cost_their_own_rows(machine: Machine) -> None:
    """Not those of their tenant; and they go in their time, as ever."""
    small, large = add_tenant(machine, 1), add_tenant(machine, 12)
    now = collect_all()[1]
    costs = []
    for vm in (small, large):
        upload(vm.tenant, [block(f"{vm.pk} {number}") for number in range(3)])
        # Uploaded by the clock of this test, which is ahead.
        Chunk.objects.filter(tenant=vm.tenant, state=ChunkState.PENDING).update(state_at=now)
        costs.append(Cost(now + pin_time() + timedelta(seconds=1)))
        now += pin_time() * 2
        assert collect_garbage(acting_user=None, now=now).swept.objects == 3
        check_books()
    first, second = costs
    assert (first.done.tenants, first.done.condemned.chunks) == (0, 3)
    assert second.seen() == first.seen()
    assert second.reads == 0
    contents_of(Snapshot.objects.select_related("vm__image_version").filter(vm=large).latest("created_at"))
