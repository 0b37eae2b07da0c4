"""Image versions as holders of public chunks: what each names, and freeing those that nobody needs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from storage.gc import roots
from storage.gc.barrier import note_public_garbage
from storage.models import ImageVersion
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.audit import record

_STEP = 20


def kept_versions() -> QuerySet[ImageVersion]:
    """Those whose data is there."""
    return ImageVersion.objects.filter(freed_at=None).defer("recipe", "boot_trace", "read_trails", "facts")


def digests_of(version: ImageVersion) -> Iterator[bytes]:
    """Everything that a version names itself: its roots, its packs, the pieces of its blobs."""
    for name in (version.disk_root, version.memory_root, version.warm_pack, version.boot_pack):
        if name:
            yield bytes.fromhex(name)
    for part in version.machine.values():
        if isinstance(part, dict):
            yield from map(bytes.fromhex, part.get("chunks", []))


def version_roots(after: str, limit: int) -> list[tuple[str, bytes]]:
    """A page of what the versions name, as `RootSource.roots_in` does it. A version is never parted."""
    versions = kept_versions().order_by("pk")
    if after:
        versions = versions.filter(pk__gt=UUID(after))
    page = versions[: max(1, min(limit, _STEP))]
    return [(str(version.pk), digest) for version in page for digest in digests_of(version)]


def due_versions(now: datetime) -> list[ImageVersion]:
    """Versions to be freed: withdrawn long enough ago, and no machine is of one. Costs a look-up for each
    that is withdrawn and not freed yet."""
    withdrawn = kept_versions().filter(is_withdrawn=True, withdrawn_at__lte=now - undo_time())
    return [version for version in withdrawn.order_by("pk") if not is_used(version)]


def is_used(version: ImageVersion) -> bool:
    return any(source.uses_version(version.pk) for source in roots.sources)


def free_versions(now: datetime) -> int:
    """Lets go of the data of versions that nobody needs; how many. From then on they cannot be offered again;
    what tenants still name of their chunks stays nevertheless."""
    return sum(_free(version.pk, now) for version in due_versions(now))


def _free(version_id: UUID, now: datetime) -> bool:
    with transaction.atomic():
        # Locked first: a machine that is made of it this moment is then either seen, or sees what happened.
        locked = ImageVersion.objects.select_for_update(of=("self",)).select_related("image")
        version = locked.filter(
            pk=version_id, freed_at=None, is_withdrawn=True, withdrawn_at__lte=now - undo_time()
        ).first()
        if version is None or is_used(version):
            return False
        version.freed_at = now
        version.disk_root = version.memory_root = version.warm_pack = version.boot_pack = ""
        version.boot_trace, version.read_trails = [], []
        version.machine = _without_blobs(version.machine)
        version.save()
        note_public_garbage(now)
        record(
            "free_image_version",
            acting_user=None,
            target=version,
            slug=version.image.slug,
            number=version.number,
        )
    return True


def _without_blobs(machine: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in machine.items() if not isinstance(part, dict)}
