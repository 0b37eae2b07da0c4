"""Share links: a secret that is exchanged for one's own copy of a snapshot."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from sessions.access import get_link, get_snapshot, require_author, vms_of
from sessions.actions.autosaves import keep_snapshot
from sessions.actions.snapshots import make_fork
from sessions.errors import GuestsNotAllowed, LinkNotUsable
from sessions.models import VM, LinkUse, ShareLink, ShareMode
from webvm.accounts.access import personal_tenant
from webvm.accounts.actions import create_guest
from webvm.accounts.audit import record
from webvm.accounts.models import User
from webvm.errors import InvalidInput

MAX_LIFETIME = timedelta(days=366)
MAX_USES = 100_000


@dataclass(frozen=True)
class NewLink:
    """`secret` is seen this once; only its SHA-256 is kept."""

    link: ShareLink
    secret: str


def make_link(
    snapshot_id: UUID, *, acting_user: User, expires_in: timedelta | None = None, max_uses: int | None = None
) -> NewLink:
    """A link to a copy of the snapshot. Raises `NotFound`, `InvalidInput`."""
    snapshot = get_snapshot(acting_user, snapshot_id)
    if expires_in is not None and not timedelta(0) < expires_in <= MAX_LIFETIME:
        raise InvalidInput("A link may live for a second to a year.", field="expires_in")
    if max_uses is not None and not 1 <= max_uses <= MAX_USES:
        raise InvalidInput(f"A link may be used 1 to {MAX_USES} times.", field="max_uses")
    secret = secrets.token_urlsafe(32)
    with transaction.atomic():
        keep_snapshot(snapshot)  # also when it was autosaved
        link = ShareLink.objects.create(
            tenant=snapshot.vm.tenant,
            snapshot=snapshot,
            mode=ShareMode.FORK,
            secret_hash=hash_secret(secret),
            created_by=acting_user,
            expires_at=timezone.now() + expires_in if expires_in is not None else None,
            max_uses=max_uses,
        )
        record(
            "make_link",
            acting_user=acting_user,
            tenant=link.tenant,
            target=link,
            snapshot=str(snapshot.pk),
            mode=link.mode,
        )
    return NewLink(link, secret)


def revoke_link(link_id: UUID, *, acting_user: User) -> ShareLink:
    """From now on nobody can use it; copies made before stay. Raises `NotFound`, `PermissionDenied`."""
    link = get_link(acting_user, link_id)
    require_author(acting_user, link.tenant, link.created_by_id)
    if link.revoked_at is None:
        with transaction.atomic():
            link.revoked_at = timezone.now()
            ShareLink.objects.filter(pk=link.pk, revoked_at=None).update(revoked_at=link.revoked_at)
            record("revoke_link", acting_user=acting_user, tenant=link.tenant, target=link)
    return link


def look_at_link(secret: str) -> ShareLink:
    """The usable link behind a secret, with its snapshot, VM, image and maker. Changes nothing. Raises
    `LinkNotUsable`.
    """
    link = (
        ShareLink.objects.filter(_usable(timezone.now()), secret_hash=hash_secret(secret))
        .select_related("tenant", "snapshot__vm__image_version__image", "created_by")
        .first()
    )
    if link is None or is_used_up(link):
        raise LinkNotUsable
    return link


def exchange_link(secret: str, *, acting_user: User) -> VM:
    """A copy of the shared snapshot in the user's personal tenant. The same user gets the same VM again (also
    when the link is used up by now), unless they have deleted it. Raises `LinkNotUsable`."""
    now = timezone.now()
    with transaction.atomic():
        link = (
            ShareLink.objects.select_for_update(of=("self",))
            .filter(_usable(now), secret_hash=hash_secret(secret))
            .select_related("snapshot__vm__image_version")
            .first()
        )
        if link is None:
            raise LinkNotUsable
        use = LinkUse.objects.filter(link=link, user=acting_user).first()
        if use is not None and use.vm_id is not None:
            vm = vms_of(acting_user).filter(pk=use.vm_id).first()
            if vm is not None:
                return vm
        # The count is right without the lock too: the condition and the step are one UPDATE.
        room = Q(max_uses=None) | Q(uses__lt=F("max_uses"))
        if not ShareLink.objects.filter(room, pk=link.pk).update(uses=F("uses") + 1):
            raise LinkNotUsable
        vm = make_fork(
            link.snapshot, personal_tenant(acting_user), name=link.snapshot.vm.name, acting_user=acting_user
        )
        LinkUse.objects.update_or_create(link=link, user=acting_user, defaults={"vm": vm})
        record("exchange_link", acting_user=acting_user, tenant=link.tenant, target=link)
    return vm


def exchange_link_as_guest(secret: str) -> tuple[User, VM]:
    """For somebody without an account: a guest user is made and gets the copy. The caller signs the guest in.

    Raises `LinkNotUsable`, and `GuestsNotAllowed` when the link works but its tenant allows no guests.
    """
    with transaction.atomic():
        link = look_at_link(secret)
        if not link.tenant.allow_guests:
            raise GuestsNotAllowed
        guest = create_guest()
        return guest, exchange_link(secret, acting_user=guest)


def lifetime(seconds: int | None) -> timedelta | None:
    """Seconds as a client gave them. Raises `InvalidInput` for more than any link may live."""
    if seconds is not None and abs(seconds) > MAX_LIFETIME.total_seconds():
        raise InvalidInput("A link may live for a second to a year.", field="expires_in")
    return None if seconds is None else timedelta(seconds=seconds)


def is_used_up(link: ShareLink) -> bool:
    return link.max_uses is not None and link.uses >= link.max_uses


def hash_secret(secret: str) -> str:
    """SHA-256 as 64 hex digits. The secret has 256 random bits, so a slow hash would protect nothing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _usable(now: datetime) -> Q:
    """Neither revoked nor expired, and what it leads to is still there."""
    return (Q(expires_at=None) | Q(expires_at__gt=now)) & Q(
        revoked_at=None, snapshot__deleted_at=None, snapshot__vm__deleted_at=None, tenant__deleted_at=None
    )
