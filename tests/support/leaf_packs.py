"""A machine whose memory is worth packs, behind a CDN's address, and a worker's queue that a test empties."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.cache import cache

from sessions.actions.commits import Save, commit_snapshot
from sessions.actions.leases import release_lease, take_lease
from sessions.actions.vms import create_vm
from sessions.models import VM, Snapshot
from storage.chunks import store_key
from storage.codec import BLOCK, decode_frame
from storage.models import Chunk, ChunkState
from storage.packs import MAX_PACK_BYTES, decode_pack
from storage.stores import get_store
from storage.tasks import pack_leaves_task
from tests.support.collecting import named_by
from tests.support.machines import MEMORY_BLOCKS, Machine, bring, make_image, make_user, save, upload
from tests.support.pages import browser
from webvm.accounts.models import Tenant, User

BASE = "https://cdn.example.org/chunks/"
LEAVES = [0, 1]


class Queue:
    """What was asked of a worker that does not run yet."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, list[str]]] = []

    def delay(self, home: str, leaves: list[str]) -> None:
        json.dumps([home, leaves])
        self.tasks.append((home, leaves))

    def work(self) -> None:
        """The worker does what is asked, then is asked anew as if time had passed."""
        for task in self.tasks:
            pack_leaves_task(*task)
        self.tasks.clear()
        cache.clear()


def install_queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    queue = Queue()
    monkeypatch.setattr(pack_leaves_task, "delay", queue.delay)
    cache.clear()
    yield queue
    cache.clear()


def page(text: str) -> bytes:
    return text.encode().ljust(BLOCK, b"-")


class Saved:
    """A saved machine whose memory is all its own: 4 MiB in the first leaf and 1 in the second."""

    def __init__(self, email: str = "ada@example.org") -> None:
        self.machine: Machine = make_image()[1].copy()
        self.ada: User = make_user(email)
        self.vm: VM = create_vm("tiny", acting_user=self.ada)
        changed = self.machine.memory.write({n: page(f"{email} {n}") for n in range(MEMORY_BLOCKS)})
        bring(self.tenant, self.machine, changed)
        self.snapshot = save(self.vm, self.machine, "one", self.ada)

    def save_in_another(self) -> Saved:
        """The same memory saved as another machine of the same person."""
        self.vm = create_vm("tiny", acting_user=self.ada)
        named = self.machine.memory.named() | self.machine.disk.named()
        self.snapshot = save(self.vm, self.machine, "one", self.ada, extra=named)
        return self

    @property
    def tenant(self) -> Tenant:
        return Tenant.objects.get(pk=self.vm.tenant_id)


def save_as_a_client(vm: VM, before: Machine, machine: Machine, user: User) -> Snapshot:
    """Saves what the machine has and `before` had not: no node twice, as the helper `save` would."""
    lease = take_lease(vm.pk, uuid.uuid4(), take_over=True, acting_user=user)
    upload(vm.tenant, [machine.raw(digest) for digest in named_by(machine) - named_by(before)])
    wanted = Save(
        epoch=lease.epoch,
        expected_head=lease.head,
        disk_root=machine.disk.root,
        memory_root=machine.memory.root,
        idempotency_key=uuid.uuid4(),
        message="new",
        thumbnail=None,
    )
    try:
        return commit_snapshot(vm.pk, wanted, acting_user=user)
    finally:
        release_lease(vm.pk, lease.epoch, acting_user=user)


def locate(user: User, vm: VM, snapshot: Snapshot, leaves: list[int] = LEAVES, device: str = "memory") -> Any:
    """The answer of the API."""
    body = json.dumps({"snapshot": str(snapshot.pk), "device": device, "leaves": leaves})
    answer = browser(user).post(f"/api/v1/vms/{vm.pk}/locate", body, content_type="application/json")
    assert answer.status_code == 200, answer.content
    return answer.json()


def key_in(url: str) -> str:
    return urlsplit(url).path.removeprefix("/chunks/")


def unpacked(url: str) -> set[str]:
    """The digests of what the pack at a URL has, each verified."""
    stored = get_store().get(key_in(url))
    return {digest.hex() for digest in decode_pack(decode_frame(stored, MAX_PACK_BYTES))}


def packs_of(tenant: Tenant) -> list[Chunk]:
    """The rows of the packs that living leaves of the tenant have."""
    leaves = Chunk.objects.filter(tenant=tenant, pack__isnull=False, state=ChunkState.LIVE)
    named = leaves.values_list("pack", flat=True)
    rows = Chunk.objects.filter(tenant=tenant, digest__in=[bytes(digest) for digest in named if digest])
    return list(rows.order_by("pk"))


def is_stored(tenant: Tenant, pack: Chunk) -> bool:
    return get_store().exists(store_key(tenant.pk, bytes(pack.digest)))
