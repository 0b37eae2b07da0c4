"""The lease: who may write a VM's head. The epoch is the fencing token: it only rises, one step for every new
holder.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from sessions.access import get_vm, lock_vm
from sessions.announce import announce, vm_group
from sessions.errors import LeaseHeld, LeaseLost
from sessions.models import VM
from sessions.quotas import require_room_for_session
from webvm.accounts.audit import record
from webvm.accounts.models import User

LEASE_TTL = timedelta(seconds=30)


@dataclass(frozen=True)
class Lease:
    """`expires_in` in seconds; `head` is the snapshot the holder must have started from to save."""

    epoch: int
    expires_in: int
    head: UUID | None


def held_by(vm: VM, now: datetime | None = None) -> User | None:
    """Whoever holds the VM's lease at this moment, if anybody does. `lease_user` should be loaded."""
    expires = vm.lease_expires_at
    if vm.lease_session is None or expires is None or expires <= (now or timezone.now()):
        return None
    return vm.lease_user


def take_lease(vm_id: UUID, session: UUID, *, take_over: bool, acting_user: User) -> Lease:
    """Become the writer. The same session asking again (a reconnect) keeps its epoch; anybody else gets the
    next one.

    Raises `NotFound`, `LeaseHeld` while another session holds it and `take_over` is false, and
    `SessionQuotaExceeded`.
    """
    get_vm(acting_user, vm_id)
    now = timezone.now()
    with transaction.atomic():
        vm = lock_vm(vm_id)
        same = vm.lease_session == session and vm.lease_user_id == acting_user.pk
        if not same:
            holder = held_by(vm, now)
            if holder is not None and not take_over:
                raise LeaseHeld(holder=str(holder), since=vm.lease_since and vm.lease_since.isoformat())
            require_room_for_session(vm, now)
            vm.epoch += 1
            vm.lease_session, vm.lease_user, vm.lease_since = session, acting_user, now
        vm.lease_expires_at = now + LEASE_TTL
        vm.last_used_at = now
        vm.save(
            update_fields=[
                "epoch",
                "lease_session",
                "lease_user",
                "lease_since",
                "lease_expires_at",
                "last_used_at",
            ]
        )
        if not same:
            taken_from = holder.pk if holder else None
            record(
                "take_lease",
                acting_user=acting_user,
                tenant=vm.tenant,
                target=vm,
                epoch=vm.epoch,
                taken_from=taken_from,
            )
            announce(vm_group(vm_id))
    return Lease(vm.epoch, int(LEASE_TTL.total_seconds()), vm.head_id)


def renew_lease(vm_id: UUID, epoch: int, *, acting_user: User) -> int:
    """Hold it for another `LEASE_TTL`; answers the seconds. A lease that ran out but that nobody took since
    is renewed too: its epoch still fences. Raises `NotFound`, `LeaseLost`."""
    get_vm(acting_user, vm_id)
    now = timezone.now()
    if not _mine(vm_id, epoch, acting_user, lease_expires_at=now + LEASE_TTL, last_used_at=now):
        raise LeaseLost
    return int(LEASE_TTL.total_seconds())


def release_lease(vm_id: UUID, epoch: int, *, acting_user: User) -> None:
    """Let others write at once. Raises `NotFound`; releasing what one does not hold changes nothing."""
    get_vm(acting_user, vm_id)
    with transaction.atomic():
        if _mine(
            vm_id,
            epoch,
            acting_user,
            lease_session=None,
            lease_user=None,
            lease_since=None,
            lease_expires_at=None,
        ):
            announce(vm_group(vm_id))


def check_lease(vm: VM, epoch: int, acting_user: User) -> None:
    """That `acting_user` holds the lease with this epoch. Raises `LeaseLost`. Lock the VM if the answer must
    last.
    """
    if vm.epoch != epoch or vm.lease_session is None or vm.lease_user_id != acting_user.pk:
        raise LeaseLost


def _mine(vm_id: UUID, epoch: int, user: User, **values: object) -> bool:
    """One conditional UPDATE: right on every database without a lock."""
    mine = VM.objects.filter(pk=vm_id, deleted_at=None, epoch=epoch, lease_user=user).exclude(
        lease_session=None
    )
    return bool(mine.update(**values))
