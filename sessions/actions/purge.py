"""Removing for good what was deleted and whose time to be brought back is over.

Called by the garbage collector (storage/gc), which then finds the chunks that nothing leads to any more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from sessions.models import VM, Snapshot
from storage.gc.barrier import drop_references
from storage.models import Chunk
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.audit import record
from webvm.accounts.models import Tenant

# Snapshots removed in one transaction.
STEP = 200


def expired_vms(now: datetime) -> QuerySet[VM]:
    """VMs to be purged: deleted long enough ago, or their tenant was."""
    until = now - undo_time()
    return VM.objects.filter(Q(deleted_at__lte=until) | Q(tenant__deleted_at__lte=until))


def expired_snapshots(now: datetime) -> QuerySet[Snapshot]:
    """Snapshots to be purged, of VMs that are not. Never a head."""
    return Snapshot.objects.filter(deleted_at__lte=now - undo_time()).exclude(pk=F("vm__head"))


def purge_expired(now: datetime, limit: int) -> int:
    """Removes at most about `limit` VMs and snapshots; answers how many, 0 when nothing is left to do."""
    purged = 0
    for vm_id in list(expired_vms(now).values_list("pk", flat=True)[:limit]):
        purged += _purge_vm(vm_id, now)
    if purged < limit:
        snapshots = expired_snapshots(now).values_list("vm_id", "pk")
        by_vm: dict[UUID, list[UUID]] = defaultdict(list)
        for vm_id, pk in snapshots[: limit - purged]:
            by_vm[vm_id].append(pk)
        for vm_id, pks in by_vm.items():
            purged += _purge_snapshots(vm_id, pks, now)
    if not purged:
        purged = _purge_tenants(now, limit)
    return purged


def lost_references(snapshots: Iterable[Snapshot]) -> dict[UUID, set[bytes]]:
    """What nobody may name any more when these snapshots of one locked VM go: root digests by home.

    Not what the parent of one holds too, when it is in the same VM and stays: its reference was there before
    and is there after. So the autosaves of a fork do not touch, nor lock, the tenant that it reads from.
    """
    going = {snapshot.pk: snapshot for snapshot in snapshots}
    parents = Snapshot.objects.filter(
        pk__in={each.parent_id for each in going.values() if each.parent_id},
        vm__in={each.vm_id for each in going.values()},
    )
    staying = {
        parent.pk: set(_references(parent))
        for parent in parents.only("vm", "disk_home", "disk_root", "memory_home", "memory_root")
        if parent.pk not in going
    }
    lost: dict[UUID, set[bytes]] = defaultdict(set)
    for snapshot in going.values():
        held = staying.get(snapshot.parent_id, set()) if snapshot.parent_id else set()
        for home, root in _references(snapshot):
            if (home, root) not in held:
                lost[home].add(root)
    return dict(lost)


def remove_snapshots(
    snapshots: Iterable[Snapshot], now: datetime, lost: dict[UUID, set[bytes]] | None = None
) -> int:
    """The removal itself, in the caller's transaction, which has locked their VM: none of them is a head.

    `lost`: what `lost_references` said, for a caller that had to lock those homes before. Answers how many.
    """
    gone = list(snapshots)
    drop_references(lost_references(gone) if lost is None else lost, now=now)
    Snapshot.objects.filter(pk__in=[snapshot.pk for snapshot in gone]).delete()
    return len(gone)


def _references(snapshot: Snapshot) -> Iterator[tuple[UUID, bytes]]:
    for home, root in (
        (snapshot.disk_home_id, snapshot.disk_root),
        (snapshot.memory_home_id, snapshot.memory_root),
    ):
        if home and root:
            yield home, bytes.fromhex(root)


def _purge_vm(vm_id: UUID, now: datetime) -> int:
    """Removes a VM with all its snapshots, some in each transaction; 0 when it was brought back meanwhile."""
    while True:
        with transaction.atomic():
            expired = expired_vms(now).select_for_update(of=("self",)).select_related("tenant")
            vm = expired.filter(pk=vm_id).first()
            if vm is None:
                return 0
            if vm.head_id is not None:
                VM.objects.filter(pk=vm_id).update(head=None)
            page = vm.snapshots.select_for_update().defer("thumbnail").order_by("pk")[:STEP]
            if remove_snapshots(list(page), now):
                continue
            record("purge_vm", acting_user=None, tenant=vm.tenant, target=vm, name=vm.name)
            vm.delete()
            return 1


def _purge_snapshots(vm_id: UUID, pks: list[UUID], now: datetime) -> int:
    with transaction.atomic():
        vm = VM.objects.select_for_update(of=("self",)).select_related("tenant").filter(pk=vm_id).first()
        if vm is None:
            return 0
        found = expired_snapshots(now).filter(vm=vm, pk__in=pks).select_for_update(of=("self",))
        gone = list(found.defer("thumbnail"))
        remove_snapshots(gone, now)
        for snapshot in gone:
            record("purge_snapshot", acting_user=None, tenant=vm.tenant, target=snapshot, vm=str(vm_id))
        stored = sum(snapshot.stored_bytes for snapshot in gone)
        VM.objects.filter(pk=vm_id).update(stored_bytes=F("stored_bytes") - stored)
    return len(gone)


def _purge_tenants(now: datetime, limit: int) -> int:
    """Removes tenants that were deleted and of which nothing is left: their machines and their chunks are
    gone, and nobody's fork reads from them any more."""
    purged = 0
    this = OuterRef("pk")
    gone = Tenant.objects.filter(
        ~Exists(Chunk.objects.filter(tenant=this)),
        ~Exists(Chunk.objects.filter(home=this)),
        ~Exists(Snapshot.objects.filter(disk_home=this)),
        ~Exists(Snapshot.objects.filter(memory_home=this)),
        ~Exists(VM.objects.filter(tenant=this)),
        deleted_at__lte=now - undo_time(),
    )
    for tenant_id in list(gone.order_by("deleted_at").values_list("pk", flat=True)[:limit]):
        with transaction.atomic():
            # Nobody can get in any more, so what is empty stays empty.
            tenant = gone.select_for_update(of=("self",)).filter(pk=tenant_id).first()
            if tenant is None:
                continue
            record("purge_tenant", acting_user=None, target=tenant, name=tenant.name)
            tenant.delete()
            purged += 1
    return purged
