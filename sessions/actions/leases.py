"""The lease: who may write a VM's head. The epoch is the fencing token: it only rises, one step for every new
holder.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from sessions.access import get_vm, lock_vm
from sessions.actions.autosaves import keep_autosave
from sessions.announce import announce, vm_group
from sessions.errors import LeaseHeld, LeaseLost
from sessions.models import VM
from sessions.quotas import require_room_for_session
from webvm.accounts.audit import record
from webvm.accounts.models import User

LEASE_TTL = timedelta(seconds=30)
ANSWER_WITHIN = timedelta(seconds=5)
"""A holder that was asked for the lease and has not said for so long that it is saving gets no more time."""
SAVE_WITHIN = timedelta(seconds=60)
"""However often it says so, the holder has no longer than this."""
RESERVED = timedelta(seconds=15)
"""For so long after the question a lease that was given back is kept for whoever asked."""


@dataclass(frozen=True)
class Lease:
    """`expires_in` in seconds; `head` is the snapshot the holder must have started from to save."""

    epoch: int
    expires_in: int
    head: UUID | None


@dataclass(frozen=True)
class Asked:
    """How a question for the lease stands: `free` to be taken; the holder was `asked`, or is `saving` for the
    one who asked; or it is `silent`, and may be passed over.
    """

    state: Literal["free", "asked", "saving", "silent"]


def held_by(vm: VM, now: datetime | None = None) -> User | None:
    """Whoever holds the VM's lease at this moment, if anybody does. `lease_user` should be loaded."""
    expires = vm.lease_expires_at
    if vm.lease_session is None or expires is None or expires <= (now or timezone.now()):
        return None
    return vm.lease_user


def who_holds(vm: VM, asking: User) -> dict[str, Any]:
    """Who has the VM and since when, for the answers `lease_held` and `lease_lost`; empty when nobody has."""
    if vm.lease_session is None or vm.lease_user is None:
        return {}
    since = vm.lease_since.isoformat() if vm.lease_since else None
    return {"holder": str(vm.lease_user), "since": since, "yours": vm.lease_user_id == asking.pk}


def take_lease(vm_id: UUID, session: UUID, *, take_over: bool, acting_user: User) -> Lease:
    """Become the writer. The same session asking again (a reconnect) keeps its epoch; anybody else gets the
    next one.

    A lease that nobody gave back may still be held by a tab that cannot be heard now and that builds on the
    head: an autosaved head then becomes one that stays, so that its work can be kept as a fork.

    Raises `NotFound`, and `LeaseHeld` while another session holds it, or asked its holder for it and has yet
    to take it, and `take_over` is false; `SessionQuotaExceeded`.
    """
    get_vm(acting_user, vm_id)
    now = timezone.now()
    with transaction.atomic():
        vm = lock_vm(vm_id)
        same = vm.lease_session == session and vm.lease_user_id == acting_user.pk
        if not same:
            holder = held_by(vm, now)
            if holder is not None and not take_over:
                raise LeaseHeld(**who_holds(vm, acting_user))
            if _reserved(vm, session, now) and not take_over:
                since = vm.asked_at and vm.asked_at.isoformat()
                raise LeaseHeld(holder=str(vm.asked_by), since=since, yours=vm.asked_by_id == acting_user.pk)
            require_room_for_session(vm, now)
            if vm.lease_session is not None:
                keep_autosave(vm)
            vm.epoch += 1
            vm.asked_session = vm.asked_by = vm.asked_at = vm.yielding_at = None
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
                "asked_session",
                "asked_by",
                "asked_at",
                "yielding_at",
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
        raise LeaseLost(**who_holds(get_vm(acting_user, vm_id), acting_user))
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


def ask_lease(vm_id: UUID, session: UUID, *, acting_user: User) -> Asked:
    """Ask whoever holds the VM to save and give it back, and how far that is. Asked again and again until it
    is `free` or `silent`. A question of another session in the meantime takes the place of this one.

    Raises `NotFound`.
    """
    get_vm(acting_user, vm_id)
    now = timezone.now()
    with transaction.atomic():
        vm = lock_vm(vm_id)
        if held_by(vm, now) is None or vm.lease_session == session:
            return Asked("free")
        asked_at = vm.asked_at
        if vm.asked_session != session or asked_at is None or now - asked_at > SAVE_WITHIN + ANSWER_WITHIN:
            VM.objects.filter(pk=vm_id).update(
                asked_session=session, asked_by=acting_user, asked_at=now, yielding_at=None
            )
            record("ask_lease", acting_user=acting_user, tenant=vm.tenant, target=vm, epoch=vm.epoch)
            announce(vm_group(vm_id))
            return Asked("asked")
    heard = vm.yielding_at or asked_at
    if now - heard > ANSWER_WITHIN or now - asked_at > SAVE_WITHIN:
        return Asked("silent")
    return Asked("saving" if vm.yielding_at else "asked")


def yield_lease(vm_id: UUID, epoch: int, *, acting_user: User) -> None:
    """The holder saves for whoever asked, and will give the lease back then. Raises `NotFound`,
    `LeaseLost`.
    """
    get_vm(acting_user, vm_id)
    if not _mine(vm_id, epoch, acting_user, yielding_at=timezone.now()):
        raise LeaseLost(**who_holds(get_vm(acting_user, vm_id), acting_user))


def check_lease(vm: VM, epoch: int, acting_user: User) -> None:
    """That `acting_user` holds the lease with this epoch. Raises `LeaseLost`. Lock the VM if the answer must
    last.
    """
    if vm.epoch != epoch or vm.lease_session is None or vm.lease_user_id != acting_user.pk:
        raise LeaseLost(**who_holds(vm, acting_user))


def _reserved(vm: VM, session: UUID, now: datetime) -> bool:
    """Whether somebody else asked for the lease a moment ago and was given it."""
    if vm.asked_session in (None, session) or vm.asked_by is None or vm.asked_at is None:
        return False
    return now - max(vm.asked_at, vm.yielding_at or vm.asked_at) <= RESERVED


def _mine(vm_id: UUID, epoch: int, user: User, **values: object) -> bool:
    """One conditional UPDATE: right on every database without a lock."""
    mine = VM.objects.filter(pk=vm_id, deleted_at=None, epoch=epoch, lease_user=user).exclude(
        lease_session=None
    )
    return bool(mine.update(**values))
