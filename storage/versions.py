"""Taking an image version out of the catalogue, and putting it back while its data is there."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.formats import date_format

from storage.errors import VersionFreed
from storage.gc.versions import is_used
from storage.models import ImageVersion
from webvm.accounts.access import require_site_admin
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.audit import record
from webvm.accounts.models import User


def retire_version(version: ImageVersion, *, acting_user: User | None) -> None:
    """Nobody can start a new machine from it; machines that exist go on. Its data is freed when it has been
    withdrawn for `undo_time` and no machine needs it. Idempotent. Raises `PermissionDenied`.
    """
    require_site_admin(acting_user, "publish images")
    with transaction.atomic():
        offered = ImageVersion.objects.filter(pk=version.pk, is_withdrawn=False)
        if offered.update(is_withdrawn=True, withdrawn_at=timezone.now()):
            record("withdraw_image_version", acting_user=acting_user, target=version)
    version.refresh_from_db()


def offer_version_again(version: ImageVersion, *, acting_user: User | None) -> None:
    """Undoes `retire_version`. Idempotent. Raises `VersionFreed` when it is too late, `PermissionDenied`."""
    require_site_admin(acting_user, "publish images")
    with transaction.atomic():
        withdrawn = ImageVersion.objects.filter(pk=version.pk, is_withdrawn=True)
        if withdrawn.update(is_withdrawn=False, withdrawn_at=None):
            record("restore_image_version", acting_user=acting_user, target=version)
        require_data(version.pk)
    version.refresh_from_db()


def fate_of(version: ImageVersion) -> str:
    """What becomes of the data of a withdrawn version, for the admins' page; empty for another."""
    if version.freed_at is not None:
        return f"data deleted {date_format(version.freed_at, 'j M Y')}"
    if not version.is_withdrawn or version.withdrawn_at is None:
        return ""
    if is_used(version):
        return "machines still use it"
    return f"data deleted after {date_format(version.withdrawn_at + undo_time(), 'j M Y')}"


def require_data(version_id: UUID) -> None:
    """In the transaction that has just made something that needs the version: it stays from then on. Raises
    `VersionFreed`."""
    if not ImageVersion.objects.filter(pk=version_id, freed_at=None).exists():
        raise VersionFreed
