"""Uploads that go past the socket, straight into the object store: where to put them, and taking them."""

from __future__ import annotations

from uuid import UUID

from sessions.access import get_vm
from sessions.actions.leases import check_lease
from storage.chunks import find_missing
from storage.stores import SignedUpload
from storage.uploads import Offer, Taken, place_uploads, take_uploads
from webvm.accounts.models import User


def place_chunks(
    vm_id: UUID, epoch: int, offers: list[Offer], *, acting_user: User
) -> dict[bytes, SignedUpload]:
    """Where to put those of the frames that are missing, by digest; empty when they go through the socket.

    Raises `NotFound`, `LeaseLost`, `BadChunk`, `QuotaExceeded`, `StoreUnavailable`.
    """
    vm = get_vm(acting_user, vm_id)
    check_lease(vm, epoch, acting_user)
    missing = set(find_missing(vm.tenant, [offer.digest for offer in offers]))
    return place_uploads(vm.tenant, [offer for offer in offers if offer.digest in missing])


def take_chunks(vm_id: UUID, epoch: int, offers: list[Offer], *, acting_user: User) -> Taken:
    """Verify what the client has put and make it the tenant's chunks. Raises `NotFound`, `LeaseLost`."""
    vm = get_vm(acting_user, vm_id)
    check_lease(vm, epoch, acting_user)
    return take_uploads(vm.tenant, offers)
