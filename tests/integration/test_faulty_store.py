"""Saves over the socket while the chunk store misbehaves: refused with a typed error, or right."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from sessions.actions.vms import create_vm
from sessions.models import VM, Snapshot
from storage import nodes
from storage.codec import encode_frame
from storage.errors import ChunkNotFound, StoreUnavailable
from storage.gc.orphans import ORPHAN_AGE, delete_orphans
from storage.models import Chunk
from storage.stores import ChunkStore, get_store
from storage.stores.local import LocalStore
from tests.support.faulty_store import FAULTS, Call, Fault, FaultyChunkStore, Method, fault_at
from tests.support.machines import Machine, Refused, Socket, digest_of, make_image, make_token, make_user
from tests.support.wire import InProcess, Reader
from webvm.accounts.models import Tenant, User

TYPED = {"store_unavailable", "bad_chunk"}
"""How a failing store is told to a client: both mean "send it again"."""
PATIENCE = 3


def every(*methods: Method) -> list[tuple[Method, Fault]]:
    return [(method, fault) for method in methods for fault in FAULTS[method]]


@dataclass
class World:
    """A person at a machine whose store misbehaves."""

    user: User
    vm: VM
    token: str
    machine: Machine
    store: FaultyChunkStore
    head: str | None = None
    saved: list[tuple[str, Machine]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    async def save(self, text: str) -> None:
        """One save by a client that tries again what was refused with a typed error."""
        machine, key = self.machine.copy(), str(uuid.uuid4())
        digests = machine.write(text)
        async with Socket(self.vm.pk, token=self.token) as socket:
            await socket.lease(take_over=True)

            async def upload() -> None:
                for digest in await socket.negotiate(machine, digests):
                    for _ in range(PATIENCE):
                        outcome = await socket.upload(machine.raw(digest))
                        if outcome["type"] == "stored":
                            break
                        self.told.append(outcome["error"]["code"])
                    else:
                        raise Refused(outcome["error"])

            async def commit() -> dict[str, Any]:
                for _ in range(PATIENCE):
                    try:
                        return await socket.commit(machine, self.head, idempotency_key=key)
                    except Refused as refused:
                        self.told.append(refused.code)
                        error = refused
                raise error

            await upload()
            nodes.cache.clear()  # so that the commit reads from the store
            snapshot = await commit()
            await socket.request("release", epoch=socket.epoch)
        self.head, self.machine = snapshot["id"], machine
        self.saved.append((snapshot["id"], machine))

    def nothing_is_lost(self) -> None:
        """Every acknowledged snapshot reads back, and nothing else is there."""
        self.store.plan = lambda call: None
        nodes.cache.clear()
        with Reader("http://testserver", self.vm.pk, self.token, InProcess()) as reader:
            assert [each["id"] for each in reader.snapshots()] == [pk for pk, _ in reversed(self.saved)]
            assert reader.head() == self.head
            for snapshot, machine in self.saved:
                reader.holds(snapshot, machine)
        own = Chunk.objects.filter(tenant=self.vm.tenant_id, home=self.vm.tenant_id)
        used = Tenant.objects.get(pk=self.vm.tenant_id).used_bytes
        assert used == sum(own.values_list("stored_size", flat=True))


@pytest.fixture
def world(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> World:
    machine = make_image()[1]
    user = make_user()
    vm = create_vm("tiny", acting_user=user)
    store = FaultyChunkStore(get_store())
    monkeypatch.setattr("storage.stores._local_store", lambda *_: store)
    return World(user, vm, make_token(user), machine.copy(), store)


nothing_is_lost = sync_to_async(World.nothing_is_lost)


@pytest.mark.parametrize(("method", "fault"), every("put", "get"))
@pytest.mark.django_db(transaction=True)
async def test_a_fault_that_passes(world: World, method: Method, fault: Fault) -> None:
    """The first save is whole; the second meets the fault, tries again, and is whole too."""
    await world.save("before")
    world.store.calls.clear()
    world.store.plan = fault_at(method, fault, 0, 4)
    await world.save("meets the fault")
    assert world.store.faults == {fault: 2}
    assert set(world.told) <= TYPED
    await nothing_is_lost(world)


@pytest.mark.parametrize(("method", "fault"), every("put"))
@pytest.mark.django_db(transaction=True)
async def test_a_store_that_does_it_always(world: World, method: Method, fault: Fault) -> None:
    """What cannot be kept is refused; a save that was acknowledged is whole; afterwards saving works."""
    await world.save("before")
    world.store.plan = fault_at(method, fault)
    if fault in {"delay", "duplicate"}:
        await world.save("slow or twice, but right")
        assert world.told == []
    else:
        with pytest.raises(Refused) as refused:
            await world.save("never acknowledged")
        assert refused.value.code in TYPED
        assert await Snapshot.objects.acount() == 1
    world.store.plan = lambda call: None
    await world.save("after")
    await nothing_is_lost(world)


@pytest.mark.parametrize(("method", "fault"), every("get"))
@pytest.mark.django_db(transaction=True)
async def test_a_commit_that_cannot_read(world: World, method: Method, fault: Fault) -> None:
    """The index that a commit names is read from the store: when it cannot be, nothing changes."""
    await world.save("before")
    puts = 0

    def plan(call: Call) -> Fault | None:
        nonlocal puts
        puts += call.method == "put"
        # Reads that check what was put just before are left alone.
        is_check = bool(world.store.calls[:-1]) and world.store.calls[-2].method == "put"
        return fault if call.method == "get" and not is_check else None

    world.store.plan = plan
    if fault in {"delay", "duplicate"}:
        await world.save("slow or twice, but right")
    else:
        with pytest.raises(Refused):
            await world.save("never acknowledged")
        assert set(world.told) <= TYPED
        assert await Snapshot.objects.acount() == 1
    world.store.plan = lambda call: None
    await world.save("after")
    await nothing_is_lost(world)
    assert puts > 0


def test_every_method_of_a_store_can_fail() -> None:
    public = {name for name, _ in inspect.getmembers(ChunkStore, inspect.isfunction) if name[0] != "_"}
    assert set(FAULTS) == set(get_args(Method)) == public


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "fault"), every("list_spaces", "list_objects"))
def test_a_listing_that_fails_deletes_nothing_that_is_known(
    method: Method, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_image()
    orphan, later = f"pub/{digest_of(b'nobody knows me')}", timezone.now() + ORPHAN_AGE * 2
    get_store().put(orphan, encode_frame(b"nobody knows me"))
    known = [f"pub/{bytes(digest).hex()}" for digest in Chunk.objects.values_list("digest", flat=True)]
    store = FaultyChunkStore(get_store(), fault_at(method, fault), delay_s=0.001)
    monkeypatch.setattr("storage.gc.orphans.get_store", lambda: store)
    with suppress(StoreUnavailable):
        delete_orphans(acting_user=None, now=later)
    assert store.faults[fault]
    assert all(get_store().exists(key) for key in known)
    store.plan = lambda call: None
    delete_orphans(acting_user=None, now=later)
    assert not get_store().exists(orphan)


@pytest.mark.parametrize(("method", "fault"), every("put", "get", "exists", "delete"))
def test_the_double_does_what_it_says(tmp_path: Path, method: Method, fault: Fault) -> None:
    inner = LocalStore(tmp_path)
    key, stored = f"pub/{'ab' * 32}", b"a frame of some bytes"
    if method != "put":
        inner.put(key, stored)
    store = FaultyChunkStore(inner, fault_at(method, fault, 0), delay_s=0.001)
    acts: dict[Method, Callable[[], Any]] = {
        "put": lambda: store.put(key, stored),
        "get": lambda: store.get(key),
        "exists": lambda: store.exists(key),
        "delete": lambda: store.delete(key),
    }
    if fault in {"error", "error_after"}:
        with pytest.raises(StoreUnavailable):
            acts[method]()
    else:
        answer = acts[method]()
        assert (answer == stored) == (method == "get" and fault in {"delay", "duplicate"})
        assert (answer is True) == (method == "exists" and fault != "lie")
    gone = method == "put" and fault in {"error", "lie"}
    gone |= method == "delete" and fault not in {"error", "lie"}
    if gone:
        with pytest.raises(ChunkNotFound):
            inner.get(key)
    else:
        half = method == "put" and fault == "truncate"
        assert inner.get(key) == (stored[: len(stored) // 2] if half else stored)
