"""Importing an archive: a machine comes back as it was; what is wrong is said and changes nothing."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import tarfile
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from asgiref.sync import sync_to_async
from django.conf import LazySettings

from sessions.actions.vms import create_vm
from sessions.archives.export import archive_parts
from sessions.archives.imports import begin_import, cancel_import
from sessions.archives.manifest import LAYOUTS, STATE_HEADER, STATE_MAGIC
from sessions.archives.running import run_import
from sessions.models import VM, ImportJob, Snapshot
from sessions.tasks import import_archive
from storage.codec import BLOCK, CHUNK_BYTES
from storage.devices import read_bytes
from storage.models import Chunk
from storage.stores import get_store
from storage.stores.local import LocalStore
from tests.support.machines import (
    MEMORY_BLOCKS,
    block,
    bring,
    make_image,
    make_token,
    make_user,
    save,
)
from webvm.accounts.models import AuditEntry, Membership, Tenant

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]


def state_header(ram_mib: int = 1, vga_mib: int = 2, layout: int = LAYOUTS[0]) -> bytes:
    return STATE_HEADER.pack(STATE_MAGIC, layout, ram_mib << 20, vga_mib << 20).ljust(BLOCK, b"\0")


class World:
    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.version, image = make_image()
        self.machine = image.copy()
        self.ada, self.bob = make_user("ada@example.org"), make_user("bob@example.org")
        self.token = make_token(self.bob)
        self.vm = create_vm("tiny", acting_user=self.ada, name="A <b>machine</b>")
        scattered = {number: block(f"changed {number}") for number in range(3, 1400, 70)}
        bring(self.vm.tenant, self.machine, self.machine.disk.write(scattered))
        # The page cache: pages that are blocks of the disk.
        pages = {256: state_header(), 20: block("tiny disk 1500"), 21: scattered[73], 22: block("its own")}
        bring(self.vm.tenant, self.machine, self.machine.memory.write(pages))
        self.snapshot = save(self.vm, self.machine, "one", self.ada)
        self.archive = b"".join(archive_parts(Snapshot.objects.get(pk=self.snapshot.pk)))

    @property
    def tenant(self) -> Tenant:
        return Tenant.objects.get(memberships__user=self.bob)

    def facts(self) -> tuple[Any, ...]:
        """All that a refused import must leave alone."""
        files = sorted(path.name for path in self.spool.glob("*"))
        chunks = Chunk.objects.filter(tenant=self.tenant).count()
        return VM.objects.count(), Snapshot.objects.count(), chunks, self.tenant.used_bytes, files


@pytest.fixture
def world(settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    settings.SPOOL_DIR = tmp_path / "spool"
    monkeypatch.setattr(import_archive, "delay", import_archive)  # in this process, at once
    return World(tmp_path / "spool")


async def post(
    token: str, content: bytes | Any, query: str = "", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    from webvm.asgi import application

    transport = httpx.ASGITransport(application)  # type: ignore[arg-type]
    given = {"Authorization": f"Bearer {token}", **(headers or {})}
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        answer = await client.post(f"/api/v1/vms/import{query}", content=content, headers=given)
    return answer.status_code, answer.json()


@sync_to_async
def job_of(answer: dict[str, Any]) -> ImportJob:
    return ImportJob.objects.get(pk=answer["id"])


def device_bytes(snapshot: Snapshot, name: str, blocks: int) -> bytes:
    return b"".join(
        read_bytes(getattr(snapshot, f"{name}_root"), getattr(snapshot, f"{name}_home_id"), blocks)
    )


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
        own = Chunk.objects.filter(tenant=world.tenant, node_level=None)
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


Members = list[tuple[tarfile.TarInfo, bytes]]


def members_of(archive: bytes) -> Members:
    raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(archive), read_across_frames=True).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def tar_of(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, raw in members:
            tar.addfile(member, io.BytesIO(raw))
    return out.getvalue()


def pack(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(tar_of(members))


def pieces(raw: bytes) -> str:
    parts = (raw[at : at + CHUNK_BYTES] for at in range(0, len(raw), CHUNK_BYTES))
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def rebuilt(
    members: Members, change: Callable[[dict[str, Any]], object] = dict, *, memory: bytes | None = None
) -> bytes:
    """An archive with another manifest or memory whose digests are right."""
    raws = {member.name: raw for member, raw in members}
    manifest = json.loads(raws["manifest.json"])
    change(manifest)
    raws["manifest.json"] = json.dumps(manifest).encode()
    raws["memory.raw"] = memory or raws["memory.raw"]
    digests = {name: pieces(raws[name]) for name in ("disk.raw", "memory.raw")}
    digests["manifest.json"] = hashlib.sha256(raws["manifest.json"]).hexdigest()
    raws["digests.json"] = json.dumps(digests).encode()
    return pack((info(name, len(raw)), raw) for name, raw in raws.items())


def info(name: str, size: int = 0, type: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, type, link
    return member


def renamed(members: Members, old: str, new: str) -> bytes:
    for member, _ in members:
        member.name = new if member.name == old else member.name
    return pack(members)


def lying(members: Members, name: str, size: int) -> bytes:
    """A header that claims another size than what follows has."""
    raw = b""
    for member, data in members:
        member.size = size if member.name == name else member.size
        raw += member.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)
    return zstandard.ZstdCompressor(level=1).compress(raw + bytes(1024))


def flipped(members: Members, name: str) -> bytes:
    return pack((member, raw[:-1] + b"!" if member.name == name else raw) for member, raw in members)


def of_memory(members: Members, header: bytes) -> bytes:
    raw = bytearray({member.name: raw for member, raw in members}["memory.raw"])
    raw[256 * BLOCK : 257 * BLOCK] = header
    return rebuilt(members, memory=bytes(raw))


def bomb(members: Members) -> bytes:
    """A manifest of a gigabyte of spaces in a few kilobytes."""
    head = zstandard.ZstdCompressor(level=1).compress(info("manifest.json", 1 << 30).tobuf())
    return head + b"".join([zstandard.ZstdCompressor(level=1).compress(b" " * (16 << 20))] * 64)


def wide(members: Members) -> bytes:
    """A frame that wants a window of 128 MiB."""
    options = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    stream = zstandard.ZstdCompressor(compression_params=options).compressobj()
    return stream.compress(tar_of(members)) + stream.flush()


HOSTILE: dict[str, tuple[str, Callable[[Members], bytes]]] = {
    "nothing": ("bad_archive", lambda _: b""),
    "a zip": ("bad_archive", lambda _: b"PK\x03\x04" + bytes(5000)),
    "a plain tar": ("bad_archive", tar_of),
    "no tar inside": ("bad_archive", lambda _: zstandard.ZstdCompressor().compress(b"hello" * 5000)),
    "an empty tar": ("bad_archive", lambda _: pack([])),
    "cut in the middle": ("archive_damaged", lambda members: pack(members)[: len(pack(members)) // 2]),
    "without its last member": ("bad_archive", lambda members: pack(members[:-1])),
    "in another order": ("bad_archive", lambda m: pack([m[0], m[2], m[1], m[3]])),
    "with one more": ("bad_archive", lambda m: pack([*m, (info("more", 1), b"x")])),
    "with one more in between": ("bad_archive", lambda m: pack([m[0], (info("evil", 1), b"x"), *m[1:]])),
    "an absolute name": ("bad_archive", lambda m: renamed(m, "disk.raw", "/disk.raw")),
    "a name that climbs": ("bad_archive", lambda m: renamed(m, "disk.raw", "../disk.raw")),
    "a long name": ("bad_archive", lambda m: renamed(m, "disk.raw", "x" * 300 + "/disk.raw")),
    "a symbolic link": (
        "bad_archive",
        lambda m: pack([m[0], (info("disk.raw", 0, tarfile.SYMTYPE, "/etc/passwd"), b""), *m[2:]]),
    ),
    "a hard link": (
        "bad_archive",
        lambda m: pack([m[0], (info("disk.raw", 0, tarfile.LNKTYPE, "manifest.json"), b""), *m[2:]]),
    ),
    "a device": ("bad_archive", lambda m: pack([m[0], (info("disk.raw", 0, tarfile.BLKTYPE), b""), *m[2:]])),
    "a directory": ("bad_archive", lambda m: pack([(info("manifest.json", 0, tarfile.DIRTYPE), b""), *m])),
    "a disk of another size": ("bad_archive", lambda m: lying(m, "disk.raw", 1 << 40)),
    "a negative size": ("bad_archive", lambda m: lying(m, "digests.json", -5)),
    "a manifest of a gigabyte": ("bad_archive", bomb),
    "a huge window": ("archive_damaged", wide),
    "a changed disk": ("archive_damaged", lambda m: flipped(m, "disk.raw")),
    "a changed memory": ("archive_damaged", lambda m: flipped(m, "memory.raw")),
    "digests that are none": ("bad_archive", lambda m: flipped(m, "digests.json")),
    "a manifest that is no JSON": ("bad_archive", lambda m: flipped(m, "manifest.json")),
    "deep JSON": (
        "bad_archive",
        lambda m: pack([(info("manifest.json", 1 << 19), b"[" * (1 << 19)), *m[1:]]),
    ),
    "another format": ("bad_archive", lambda m: rebuilt(m, lambda man: man.update(format="ova"))),
    "a later version": ("archive_version", lambda m: rebuilt(m, lambda man: man.update(version=2))),
    "a field too many": ("bad_archive", lambda m: rebuilt(m, lambda man: man.update(tenant="x"))),
    "a name of two lines with escapes": (
        "bad_archive",
        lambda m: rebuilt(m, lambda man: man.update(name="a\x1b[2J")),
    ),
    "a picture that is none": (
        "bad_archive",
        lambda m: rebuilt(m, lambda man: man.update(thumbnail="PHN2Zz4=")),
    ),
    "an unknown machine": (
        "image_missing",
        lambda m: rebuilt(m, lambda man: man["machine"].update(cmdline="other")),
    ),
    "a disk of petabytes": (
        "image_missing",
        lambda m: rebuilt(m, lambda man: man["disk"].update(blocks=1 << 31)),
    ),
    "no device state": ("bad_memory", lambda m: of_memory(m, bytes(BLOCK))),
    "a later layout": ("bad_memory", lambda m: of_memory(m, state_header(layout=LAYOUTS[-1] + 1))),
    "a memory of another size": ("bad_memory", lambda m: of_memory(m, state_header(ram_mib=64))),
    "a layout that nobody knows": (
        "bad_memory",
        lambda m: rebuilt(m, lambda man: man["memory"].update(layout=99)),
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_what_is_wrong_is_said_and_changes_nothing(world: World, what: str) -> None:
    code, make = HOSTILE[what]
    before = await sync_to_async(world.facts)()
    status, answer = await post(world.token, make(members_of(world.archive)))
    assert status == 202
    job = await job_of(answer)
    assert (job.state, job.error_code) == ("failed", code), job.error
    assert job.error.endswith(".")
    assert (await sync_to_async(world.facts)())[:4] == before[:4]
    assert not list(world.spool.glob("*"))


async def test_an_archive_that_tar_made_anew_is_taken(world: World) -> None:
    """Extracted and packed again by hand: other headers, other frames, the same contents."""
    status, answer = await post(world.token, pack(members_of(world.archive)))
    assert (status, answer["state"]) == (202, "succeeded")


async def test_an_image_that_is_missing_is_named(world: World) -> None:
    archive = rebuilt(
        members_of(world.archive),
        lambda manifest: (
            manifest["machine"].update(memory_mib=7),
            manifest["image"].update(title="<i>Other</i> Linux", slug="other", version=3),
        ),
    )
    _, answer = await post(world.token, archive)
    assert answer["error_code"] == "image_missing"
    assert "<i>Other</i> Linux, version 3 (other)" in answer["error"]


def test_the_layout_is_the_client_s() -> None:
    source = ROOT.joinpath("frontend/src/machine/pc/state.ts").read_text(encoding="utf-8")
    assert f"LAYOUT_VERSION = {LAYOUTS[-1]};" in source


async def test_a_disk_of_many_gigabytes_has_its_size_in_a_pax_header(world: World) -> None:
    member = tarfile.TarInfo("disk.raw")
    member.size = 64 << 30
    header = member.tobuf(tarfile.PAX_FORMAT)
    assert len(header) > 512
    members = members_of(world.archive)
    raw = b"".join(
        (header if name.name == "disk.raw" else name.tobuf()) + data + bytes(-len(data) % 512)
        for name, data in members
    )
    _, answer = await post(world.token, zstandard.ZstdCompressor().compress(raw + bytes(1024)))
    assert answer["error"] == "The archive's disk.raw does not have the size that its manifest says."


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
