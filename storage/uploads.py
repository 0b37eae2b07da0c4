"""Frames that browsers put into the object store by themselves (docs/design/delivery.md).

They land in the store's upload space under a name made of the tenant, the digest and the frame's own SHA-256,
which S3 checks. Only what was read back from there and verified becomes a chunk, through `put_chunk` like
every other: what somebody puts there can spoil nobody else's chunk, whatever it is.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import close_old_connections, transaction
from django.db.models import Sum
from django.utils import timezone

from storage.chunks import find_missing, put_chunk
from storage.codec import MAX_FRAME_BYTES
from storage.errors import BadChunk, ChunkNotFound, StoreUnavailable, UploadMissing
from storage.models import StagedUpload
from storage.states import has_room, lock_tenants, quota_exceeded
from storage.stores import SignedUpload, UploadSpace, find_upload_space
from webvm.accounts.models import Tenant
from webvm.errors import QuotaExceeded, ServerError, WebVMError

# How long a signed PUT may begin, and when one that was never told of is removed.
URL_SECONDS = 5 * 60
ABANDONED_AFTER = timedelta(hours=1)
# Frames in one request, which bounds what one request can make the service do.
MAX_OFFERED = 32
# Frames that this process fetches and verifies at once, for everybody.
TAKEN_AT_ONCE = 8

_threads = ThreadPoolExecutor(TAKEN_AT_ONCE, thread_name_prefix="uploads")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """A frame that a client wants to put: the digest of its raw bytes, its own length and SHA-256."""

    digest: bytes
    size: int
    sha256: bytes


@dataclass
class Taken:
    """What became of frames that were put. `fresh_bytes`: stored bytes that were new to the tenant."""

    stored: list[bytes] = field(default_factory=list)
    refused: dict[bytes, WebVMError] = field(default_factory=dict)
    fresh_bytes: int = 0


def place_uploads(tenant: Tenant, offers: Iterable[Offer]) -> dict[bytes, SignedUpload]:
    """Where to put the frames, by digest; empty when the store takes none from browsers.

    The quota is checked with what is still under way, before anything is signed. Raises `BadChunk`,
    `QuotaExceeded`, `StoreUnavailable`.
    """
    space = find_upload_space()
    if space is None:
        return {}
    named = {_name(tenant, offer): offer for offer in offers}
    if any(not 1 <= offer.size <= MAX_FRAME_BYTES for offer in named.values()):
        raise BadChunk("The chunk is larger than 256 KiB.")
    with transaction.atomic():
        # One at a time for a tenant, so that many at once do not each find the same room.
        lock_tenants(tenant.pk)
        staged = StagedUpload.objects.filter(tenant=tenant)
        waiting = staged.exclude(name__in=named).aggregate(bytes=Sum("size"))["bytes"] or 0
        wanted = sum(offer.size for offer in named.values())
        fits = has_room(tenant.pk, waiting + wanted).exists()
        if fits:
            StagedUpload.objects.bulk_create(
                [StagedUpload(tenant=tenant, name=name, size=offer.size) for name, offer in named.items()],
                update_conflicts=True,
                unique_fields=["name"],
                update_fields=["placed_at"],
            )
    if not fits:
        raise quota_exceeded(tenant.pk)
    return {
        offer.digest: space.sign_upload(name, offer.size, offer.sha256, URL_SECONDS)
        for name, offer in named.items()
    }


def take_uploads(tenant: Tenant, offers: Iterable[Offer]) -> Taken:
    """Verify frames that were put and make them the tenant's chunks; idempotent.

    Each is refused by itself: `BadChunk` for one that lies (it is deleted), `UploadMissing`, `QuotaExceeded`,
    `StoreUnavailable`.
    """
    space = find_upload_space()
    taken = Taken()
    wanted = list(offers)
    if space is None:
        taken.refused = {offer.digest: UploadMissing() for offer in wanted}
        return taken
    for offer, outcome in zip(
        wanted, _threads.map(lambda offer: _take(space, tenant, offer), wanted), strict=True
    ):
        if isinstance(outcome, WebVMError):
            taken.refused[offer.digest] = outcome
        else:
            taken.stored.append(offer.digest)
            taken.fresh_bytes += outcome
    return taken


def remove_abandoned_uploads(most: int = 1000) -> int:
    """Delete frames that were never told of, at most so many; answers how many. Raises `StoreUnavailable`."""
    space = find_upload_space()
    if space is None:
        return 0
    old = StagedUpload.objects.filter(placed_at__lt=timezone.now() - ABANDONED_AFTER)
    found = list(old.order_by("placed_at")[:most])
    for upload in found:
        space.delete_upload(upload.name)
        # Not when somebody was told to put it again meanwhile.
        old.filter(pk=upload.pk).delete()
    return len(found)


def _take(space: UploadSpace, tenant: Tenant, offer: Offer) -> int | WebVMError:
    """The stored bytes that it added, or why not."""
    close_old_connections()
    name = _name(tenant, offer)
    try:
        try:
            frame = space.read_upload(name, MAX_FRAME_BYTES)
        except ChunkNotFound:
            # Taken before, and only the answer was lost.
            return UploadMissing() if find_missing(tenant, [offer.digest]) else 0
        started = timezone.now()
        try:
            row = put_chunk(tenant, offer.digest, frame)
        except (BadChunk, QuotaExceeded) as error:
            _forget(space, name)
            return error
        _forget(space, name)
        return row.stored_size if row.tenant_id == tenant.pk and row.created_at >= started else 0
    except WebVMError as error:
        return error
    except Exception:
        _log.exception("an upload of tenant %s could not be taken", tenant.pk)
        return ServerError()
    finally:
        close_old_connections()


def _forget(space: UploadSpace, name: str) -> None:
    try:
        space.delete_upload(name)
    except StoreUnavailable as error:
        # Its row stays, so that it is removed as an abandoned one.
        _log.warning("the upload %s could not be deleted: %s", name, error)
        return
    StagedUpload.objects.filter(name=name).delete()


def _name(tenant: Tenant, offer: Offer) -> str:
    return f"up/{tenant.pk}/{hashlib.sha256(offer.digest + offer.sha256).hexdigest()}"
