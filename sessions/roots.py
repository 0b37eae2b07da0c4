"""What the garbage collector and the verifier ask this app: which disks and memories are alive, and whose."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal
from uuid import UUID

from django.db.models import QuerySet

from sessions.actions.purge import expired_snapshots, expired_vms, purge_expired
from sessions.devices import device_of
from sessions.models import VM, Snapshot
from storage.gc.roots import Root

DEVICES: tuple[Literal["disk", "memory"], ...] = ("disk", "memory")
PAGE = 200


class SnapshotRoots:
    """See `storage.gc.roots.RootSource`. Every snapshot counts until it is purged: a deleted one can come
    back. The cursor is a device's name and the id of a snapshot."""

    def roots_in(self, home: UUID, after: str, limit: int) -> list[tuple[str, bytes]]:
        begun = after.partition(" ")[0] or DEVICES[0]
        for device in DEVICES[DEVICES.index(begun) :]:
            rows = Snapshot.objects.filter(**{f"{device}_home": home}).exclude(**{f"{device}_root": ""})
            if device == begun and after:
                rows = rows.filter(pk__gt=UUID(after.partition(" ")[2]))
            page = rows.order_by("pk").values_list("pk", f"{device}_root")[:limit]
            found = [(f"{device} {pk}", bytes.fromhex(root)) for pk, root in page]
            if found:
                return found
        return []

    def uses_version(self, version_id: UUID) -> bool:
        return VM.objects.filter(image_version=version_id).exists()

    def all_roots(self) -> Iterator[Root]:
        after: UUID | None = None
        while True:
            rows = Snapshot.objects.select_related("vm__tenant", "vm__image_version").defer("thumbnail")
            page = list((rows.filter(pk__gt=after) if after else rows).order_by("pk")[:PAGE])
            for snapshot in page:
                yield from roots_of(snapshot)
            if not page:
                return
            after = page[-1].pk

    def purge(self, now: datetime, limit: int) -> int:
        return purge_expired(now, limit)

    def to_purge(self, now: datetime) -> dict[str, int]:
        return {"machines": expired_vms(now).count(), "snapshots": _expired(now).count()}

    def homes_to_purge(self, now: datetime) -> set[UUID]:
        homes = [_expired(now).order_by().values_list(f"{device}_home", flat=True) for device in DEVICES]
        return {home for found in homes for home in found.distinct() if home}

    def purgeable_roots_in(self, home: UUID, now: datetime) -> set[bytes]:
        held: set[str] = set()
        for device in DEVICES:
            held.update(
                _expired(now).filter(**{f"{device}_home": home}).values_list(f"{device}_root", flat=True)
            )
        gone = set(_expired(now).values_list("pk", flat=True))
        for device in DEVICES:
            keep = Snapshot.objects.filter(**{f"{device}_home": home, f"{device}_root__in": held})
            for pk, root in keep.values_list("pk", f"{device}_root").iterator():
                if pk not in gone:
                    held.discard(root)
        return {bytes.fromhex(root) for root in held if root}


def roots_of(snapshot: Snapshot) -> Iterator[Root]:
    """The snapshot's devices that have any content. Its VM, tenant and image version should be loaded."""
    vm = snapshot.vm
    for name in DEVICES:
        device = device_of(vm, snapshot, name)
        if device.root:
            yield Root(
                home=device.home,
                root=device.root,
                blocks=device.blocks,
                tenant=f"{vm.tenant} ({vm.tenant_id})",
                vm=f"{vm.name} ({vm.pk})",
                snapshot=f"{snapshot.title} ({snapshot.pk})",
                device=name,
            )


def _expired(now: datetime) -> QuerySet[Snapshot]:
    """Snapshots that a purge would remove, alone or with their VM."""
    of_vms = Snapshot.objects.filter(vm__in=expired_vms(now).values("pk"))
    return Snapshot.objects.filter(pk__in=of_vms.values("pk").union(expired_snapshots(now).values("pk")))
