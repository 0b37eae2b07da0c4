"""Importing an archive: a machine comes back as it was; what is wrong is said and changes nothing."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.conf import LazySettings

from sessions.archives.imports import begin_import, cancel_import
from sessions.archives.running import run_import
from sessions.models import VM, ImportJob, Snapshot
from storage.codec import BLOCK
from storage.devices import read_bytes
from storage.models import Chunk
from storage.stores import get_store
from storage.stores.local import LocalStore
from tests.support.archives import (
    World,
    job_of,
    make_world,
    members_of,
    pack,
    post,
)
from tests.support.machines import (
    MEMORY_BLOCKS,
    bring,
    make_token,
    make_user,
    save,
)
from tests.support.pages import browser, call
from webvm.accounts.models import AuditEntry, Membership, Tenant

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["pc"])
def world(
    request: pytest.FixtureRequest,
    settings: LazySettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    return make_world(settings, tmp_path, monkeypatch, request.param)


def device_bytes(snapshot: Snapshot, name: str, blocks: int) -> bytes:
    return b"".join(
        read_bytes(getattr(snapshot, f"{name}_root"), getattr(snapshot, f"{name}_home_id"), blocks)
    )


@pytest.mark.parametrize("world", ["pc", "linux"], indirect=True)
async def test_it_works(world: World) -> None:
    status, answer = await post(world.token, world.archive)
    assert status == 202, answer
    job = await job_of(answer)
    assert (job.state, job.error) == ("succeeded", "")

    def look() -> None:
        vm = VM.objects.get(pk=job.vm_id or "")
        snapshot = vm.head
        assert snapshot
        assert (vm.tenant, vm.created_by, vm.image_version) == (world.tenant, world.bob, world.version)
        assert (vm.name, snapshot.message, snapshot.kind) == ("A <b>machine</b>", "one", "import")
        assert snapshot.has_thumbnail
        for name, blocks in (("disk", world.version.disk_blocks), ("memory", MEMORY_BLOCKS)):
            assert device_bytes(snapshot, name, blocks) == device_bytes(world.snapshot, name, blocks)
        assert not list(world.spool.iterdir())
        used = world.tenant.used_bytes
        assert vm.stored_bytes == snapshot.stored_bytes == used > 0
        assert AuditEntry.objects.filter(action="import_vm", acting_user=world.bob).count() == 1
        # Only what changed was stored: the image's blocks, also those in the memory, stay where they are.
        own = Chunk.objects.filter(tenant=world.tenant, home=world.tenant, node_level=None)
        assert sum(chunk.raw_size for chunk in own) == BLOCK * (21 + 3)
        # The machine can be saved on top of.
        bring(world.tenant, world.machine, [*world.machine.disk.chunks, *world.machine.memory.chunks])
        save(vm, world.machine, "two", world.bob)

    await sync_to_async(look)()


async def test_the_same_archive_again_stores_nothing(world: World) -> None:
    await post(world.token, world.archive)
    before = await sync_to_async(lambda: world.tenant.used_bytes)()
    status, answer = await post(world.token, world.archive, "?name=Twin")
    assert status == 202
    job = await job_of(answer)
    vm = await VM.objects.aget(pk=job.vm_id or "")
    assert (vm.name, vm.stored_bytes) == ("Twin", 0)
    assert await sync_to_async(lambda: world.tenant.used_bytes)() == before


async def test_a_request_that_arrives_twice_makes_one_machine(world: World) -> None:
    key = uuid.uuid4()
    first = await post(world.token, world.archive, f"?key={key}")
    second = await post(world.token, world.archive, f"?key={key}")
    assert first[1]["id"] == second[1]["id"]
    assert second[1]["state"] == "succeeded"
    assert await VM.objects.filter(created_by=world.bob).acount() == 1


async def test_into_a_tenant_of_ones_own_only(world: World) -> None:
    before = await sync_to_async(world.facts)()
    tenant = world.vm.tenant_id
    status, answer = await post(world.token, world.archive, f"?tenant={tenant}")
    assert (status, answer["error"]["code"]) == (404, "not_found")
    assert await sync_to_async(world.facts)() == before
    await Membership.objects.acreate(tenant_id=tenant, user=world.bob)
    status, answer = await post(world.token, world.archive, f"?tenant={tenant}")
    assert (await VM.objects.aget(pk=answer["vm"])).tenant_id == tenant


async def test_who_is_not_signed_in_sends_nothing(world: World) -> None:
    sent = 0

    async def body() -> Any:
        nonlocal sent
        for _ in range(64):
            sent += 1
            yield bytes(1 << 20)

    before = await sync_to_async(world.facts)()
    status, answer = await post("wrong", body())
    assert (status, answer["error"]["code"]) == (401, "not_signed_in")
    assert sent <= 17, "no more is read than lets the client see the answer"
    assert await sync_to_async(world.facts)() == before


@pytest.mark.parametrize("announced", [True, False])
async def test_one_that_is_too_large_is_refused(
    world: World, settings: LazySettings, announced: bool
) -> None:
    settings.MAX_ARCHIVE_BYTES = len(world.archive) - 1

    async def body() -> Any:
        yield world.archive

    before = await sync_to_async(world.facts)()
    status, answer = await post(world.token, world.archive if announced else body())
    assert (status, answer["error"]["code"]) == (413, "archive_too_large")
    assert answer["error"]["max_bytes"] == len(world.archive) - 1
    assert (await sync_to_async(world.facts)())[:4] == before[:4]
    assert not list(world.spool.glob("*"))


async def test_a_full_quota_takes_nothing(world: World) -> None:
    await Tenant.objects.filter(memberships__user=world.bob).aupdate(quota_bytes=0)
    status, answer = await post(world.token, world.archive)
    assert (status, answer["error"]["code"]) == (413, "quota_exceeded")


async def test_a_quota_that_gets_full_on_the_way(world: World) -> None:
    used = len(world.archive)
    await Tenant.objects.filter(memberships__user=world.bob).aupdate(quota_bytes=used, used_bytes=used - 10)
    status, answer = await post(world.token, world.archive)
    assert status == 202
    job = await job_of(answer)
    assert (job.state, job.error_code) == ("failed", "quota_exceeded")
    assert await VM.objects.filter(created_by=world.bob).acount() == 0
    assert not list(world.spool.glob("*"))


async def test_an_upload_that_breaks_off_leaves_nothing(world: World) -> None:
    from webvm.asgi import application

    key = uuid.uuid4()
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": world.archive[:1000], "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"testserver"), (b"authorization", f"Bearer {world.token}".encode())]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/vms/import",
        "headers": headers,
    }
    scope |= {"query_string": f"key={key}".encode(), "http_version": "1.1"}
    await application(scope, receive, send)  # type: ignore[arg-type]
    job = await ImportJob.objects.aget(idempotency_key=key)
    assert (job.state, job.error_code) == ("failed", "upload_broke_off")
    assert not list(world.spool.glob("*"))
    status, answer = await post(world.token, world.archive, f"?key={key}")  # sent again
    assert (status, answer["id"], answer["state"]) == (202, str(job.pk), "succeeded")


async def test_a_worker_that_was_killed_is_followed_by_another(world: World) -> None:
    def prepare() -> ImportJob:
        job = begin_import(acting_user=world.bob)
        world.spool.joinpath(job.spool).write_bytes(world.archive)
        job.state, job.worker = "running", f"{socket.gethostname()}:4194304:dead"
        job.save()
        return job

    job = await sync_to_async(prepare)()
    await sync_to_async(run_import)(job.pk)
    await job.arefresh_from_db()
    assert job.state == "succeeded"
    await sync_to_async(run_import)(job.pk)  # a second delivery
    assert await VM.objects.filter(created_by=world.bob).acount() == 1


async def test_a_cancelled_one_makes_no_machine(world: World) -> None:
    def prepare() -> ImportJob:
        job = begin_import(acting_user=world.bob)
        world.spool.joinpath(job.spool).write_bytes(world.archive)
        ImportJob.objects.filter(pk=job.pk).update(state="queued")
        return cancel_import(job.pk, acting_user=world.bob)

    job = await sync_to_async(prepare)()
    await sync_to_async(run_import)(job.pk)
    await job.arefresh_from_db()
    assert job.state == "cancelled"
    assert not list(world.spool.glob("*"))
    assert await VM.objects.filter(created_by=world.bob).acount() == 0


async def test_somebody_elses_import_looks_like_none(world: World) -> None:
    from webvm.asgi import application

    _, answer = await post(world.token, world.archive)
    theirs = await sync_to_async(make_token)(world.ada)
    transport = httpx.ASGITransport(application)  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {theirs}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://testserver", headers=headers
    ) as client:
        for method in ("GET", "DELETE"):
            assert (await client.request(method, f"/api/v1/imports/{answer['id']}")).status_code == 404
        assert (await client.get("/api/v1/imports")).json() == {"items": []}


async def test_an_archive_that_tar_made_anew_is_taken(world: World) -> None:
    """Extracted and packed again by hand: other headers, other frames, the same contents."""
    status, answer = await post(world.token, pack(members_of(world.archive)))
    assert (status, answer["state"]) == (202, "succeeded")


async def test_a_store_that_is_full_fails_the_import_and_it_can_be_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage.errors import StoreUnavailable

    store = get_store()
    assert isinstance(store, LocalStore)
    put, left = LocalStore.put, [3]

    def full(self: LocalStore, key: str, stored: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise StoreUnavailable("The server's disk is full.")
        put(self, key, stored)

    monkeypatch.setattr(LocalStore, "put", full)
    key = uuid.uuid4()
    _, answer = await post(world.token, world.archive, f"?key={key}")
    assert (answer["state"], answer["error_code"]) == ("failed", "store_unavailable")
    assert await VM.objects.filter(created_by=world.bob).acount() == 0
    monkeypatch.setattr(LocalStore, "put", put)
    _, answer = await post(world.token, world.archive, f"?key={key}")
    assert answer["state"] == "succeeded"


async def test_the_page_says_how_it_went_and_shows_nothing_as_markup(world: World) -> None:
    def look() -> None:
        client = browser(world.bob)
        page = client.get("/machines/import/").content.decode()
        assert "&lt;b&gt;machine&lt;/b&gt;" in page
        assert "<b>machine" not in page
        assert "it is not compressed with zstd." in page
        assert "/machines/import/" in client.get("/machines/").content.decode()
        history = browser(world.ada).get(f"/vms/{world.vm.pk}/history/").content.decode()
        assert f"/api/v1/snapshots/{world.snapshot.pk}/export" in history
        assert f"/api/v1/snapshots/{world.snapshot.pk}/disk.raw" in history

    await post(world.token, world.archive)
    await post(world.token, b"no archive")
    await sync_to_async(look)()


async def test_a_guest_is_told_to_keep_the_account_first(world: World) -> None:
    def attempt() -> tuple[int, str, str]:
        guest = make_user(is_guest=True)
        client = browser(guest)
        status, answer = call(client, "POST", "/vms/import")
        return status, answer["error"]["code"], client.get("/machines/import/").content.decode()

    status, code, page = await sync_to_async(attempt)()
    assert (status, code) == (403, "guest_not_allowed")
    assert "Guests cannot import" in page
    assert "data-import=" not in page
