"""What the service should be: the model that tests/integration/model compares it with."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Q, Sum

from sessions.models import VM, Snapshot
from storage.models import Chunk, ChunkState
from tests.support.machines import Machine, make_token, make_user
from tests.support.wire import InProcess, Reader
from webvm.accounts.access import personal_tenant
from webvm.accounts.models import Tenant

UNDO = timedelta(days=30)


class Person:
    """A user with a personal tenant; sees the service through the API."""

    def __init__(self) -> None:
        self.user = make_user()
        self.tenant = personal_tenant(self.user)
        self.api = Reader("http://testserver", "", make_token(self.user), InProcess())

    def reader(self, vm: uuid.UUID) -> Reader:
        self.api.vm_id = vm
        return self.api

    def used(self) -> int:
        """The bytes that count against the quota."""
        return Tenant.objects.values_list("used_bytes", flat=True).get(pk=self.tenant.pk)

    @contextmanager
    def full(self) -> Iterator[int]:
        """Meanwhile the tenant has all the bytes that it may; answers how many these are."""
        quota, used = Tenant.objects.values_list("quota_bytes", "used_bytes").get(pk=self.tenant.pk)
        Tenant.objects.filter(pk=self.tenant.pk).update(quota_bytes=used)
        try:
            yield used
        finally:
            Tenant.objects.filter(pk=self.tenant.pk).update(quota_bytes=quota)


@dataclass
class Saved:
    """An acknowledged snapshot."""

    id: uuid.UUID
    vm: ModelVM
    machine: Machine
    deleted_at: datetime | None = None
    purged: bool = False


@dataclass
class ModelVM:
    """A VM, as its owner was told it is."""

    id: uuid.UUID
    owner: Person
    machine: Machine
    head: Saved | None = None
    epoch: int = 0
    holder: uuid.UUID | None = None
    held_until: datetime | None = None
    deleted_at: datetime | None = None
    purged: bool = False
    saved: list[Saved] = field(default_factory=list)

    @property
    def is_there(self) -> bool:
        return self.deleted_at is None and not self.purged

    def check(self, row: VM) -> None:
        head = self.head.id if self.head else None
        assert (row.head_id, row.epoch, row.lease_session) == (head, self.epoch, self.holder)
        assert (row.deleted_at is not None) == (self.deleted_at is not None)


@dataclass
class Draft:
    """A save that was begun: perhaps uploaded, perhaps committed, perhaps its answer was lost."""

    vm: ModelVM
    machine: Machine
    digests: list[str]
    epoch: int
    expected: Saved | None
    key: uuid.UUID = field(default_factory=uuid.uuid4)
    acknowledged: Saved | None = None

    @property
    def is_answered(self) -> bool:
        """Its snapshot is there: the same key has to be answered with it."""
        return self.acknowledged is not None and not self.acknowledged.purged


def named_by(tenant: Tenant, digests: list[str]) -> set[str]:
    """Those that the tenant may name: through a row of its own, or the public's."""
    rows = Chunk.objects.filter(Q(tenant=tenant) | Q(tenant=None), digest__in=map(bytes.fromhex, digests))
    return {bytes(digest).hex() for digest in rows.values_list("digest", flat=True)}


def check_accounts(people: list[Person]) -> None:
    """Each tenant is charged what its rows add up to."""
    for person in people:
        own = Chunk.objects.filter(tenant=person.tenant, home=person.tenant)
        used = own.filter(state__in=[ChunkState.PENDING, ChunkState.LIVE])
        held = own.filter(state__in=[ChunkState.CONDEMNED, ChunkState.DELETED])
        now = Tenant.objects.get(pk=person.tenant.pk)
        sums = [rows.aggregate(sum=Sum("stored_size"))["sum"] or 0 for rows in (used, held)]
        assert [now.used_bytes, now.condemned_bytes] == sums


def check_references(saved: list[Saved]) -> None:
    """No snapshot that is alive leads to a chunk that is not: neither in the rows where it is read nor where
    the bytes are.
    """
    rows = Snapshot.objects.in_bulk([each.id for each in saved])
    wanted: dict[uuid.UUID, set[bytes]] = {}
    for each in saved:
        row = rows[each.id]
        for home, device in (
            (row.disk_home_id, each.machine.disk),
            (row.memory_home_id, each.machine.memory),
        ):
            if home is not None:
                wanted.setdefault(home, set()).update(map(bytes.fromhex, device.named()))
    public = {bytes(digest) for digest in Chunk.objects.filter(tenant=None).values_list("digest", flat=True)}
    for home, digests in wanted.items():
        found = Chunk.objects.filter(tenant=home, digest__in=digests)
        assert digests - public <= {bytes(row.digest) for row in found}
        assert {row.state for row in found} <= {ChunkState.LIVE}
        for chunk in found:
            if chunk.home_id not in {home, None}:
                assert Chunk.objects.get(tenant=chunk.home_id, digest=chunk.digest).state == ChunkState.LIVE
