"""Downloads of a disk and of a whole machine: what arrives, for whom, and what a broken one does."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from asgiref.sync import sync_to_async

from sessions.actions.links import exchange_link_as_guest, make_link
from sessions.actions.vms import create_vm
from sessions.archives.downloads import PER_USER, slots
from sessions.models import Snapshot
from storage.codec import BLOCK, CHUNK_BYTES
from storage.errors import StoreUnavailable
from storage.images.ext4 import write_image
from storage.images.tree import Spool, Tree
from storage.stores import get_store
from storage.stores.local import LocalStore
from tests.support.machines import (
    DISK_BLOCKS,
    MEMORY_BLOCKS,
    Machine,
    bring,
    make_image,
    make_token,
    make_user,
    save,
)
from tests.support.pages import browser
from webvm.accounts.models import Membership
from webvm.errors import NotFound

pytestmark = pytest.mark.django_db(transaction=True)


class World:
    def __init__(self) -> None:
        self.version, image = make_image()
        self.machine = image.copy()
        self.ada = make_user("ada@example.org")
        self.token = make_token(self.ada)
        self.vm = create_vm("tiny", acting_user=self.ada, name='Ada\'s <b>"box"/../ü</b>')
        self.snapshot = save(self.vm, self.machine, "one", self.ada)

    def disk(self) -> bytes:
        return raw_of(self.machine, "disk")


def raw_of(machine: Machine, name: str) -> bytes:
    """All of a device's bytes, as its client has them."""
    device = getattr(machine, name)
    raw = bytearray(device.blocks * BLOCK)
    for number, (digest, offset) in device.places.items():
        raw[number * BLOCK : number * BLOCK + BLOCK] = device.chunks[digest][offset * BLOCK :][:BLOCK]
    return bytes(raw)


@pytest.fixture
def world() -> World:
    return World()


async def get(
    token: str, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[httpx.Response, bytes]:
    from webvm.asgi import application

    transport = httpx.ASGITransport(application)  # type: ignore[arg-type]
    given = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://testserver") as client,
        client.stream(method, f"/api/v1{path}", headers=given) as response,
    ):
        return response, b"".join([part async for part in response.aiter_raw()])


def disk_path(snapshot: Snapshot) -> str:
    return f"/snapshots/{snapshot.pk}/disk.raw"


async def test_it_works(world: World) -> None:
    response, body = await get(world.token, disk_path(world.snapshot))
    assert response.status_code == 200
    assert body == world.disk()
    assert response.headers["content-length"] == str(DISK_BLOCKS * BLOCK)
    assert response.headers["accept-ranges"] == "bytes"
    assert "content-encoding" not in response.headers


async def test_its_name_is_safe_for_any_file_system(world: World) -> None:
    response, _ = await get(world.token, disk_path(world.snapshot), method="HEAD")
    shown = response.headers["content-disposition"]
    assert shown.startswith("attachment; filename*=utf-8''")
    assert "%C3%BC" in shown
    assert re.fullmatch(r"[\w%-]+\.raw", shown.partition("''")[2]), shown


async def test_head_tells_all_and_sends_nothing(world: World) -> None:
    response, body = await get(world.token, disk_path(world.snapshot), method="HEAD")
    assert (response.status_code, body) == (200, b"")
    assert response.headers["content-length"] == str(DISK_BLOCKS * BLOCK)


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-4999", 5, 5000),
        (f"bytes={CHUNK_BYTES - 3}-{CHUNK_BYTES + 4}", CHUNK_BYTES - 3, CHUNK_BYTES + 5),
        (f"bytes={1500 * BLOCK}-", 1500 * BLOCK, DISK_BLOCKS * BLOCK),
        (f"bytes={4 * 1024 * 1024 - 1}-{99 * DISK_BLOCKS * BLOCK}", 4 * 1024 * 1024 - 1, DISK_BLOCKS * BLOCK),
        ("bytes=-100", DISK_BLOCKS * BLOCK - 100, DISK_BLOCKS * BLOCK),
    ],
)
async def test_a_part_is_sent_to_who_asks_for_one(world: World, asked: str, start: int, end: int) -> None:
    response, body = await get(world.token, disk_path(world.snapshot), {"Range": asked})
    assert response.status_code == 206
    assert body == world.disk()[start:end]
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{DISK_BLOCKS * BLOCK}"
    assert response.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=9-3", "bytes=-", "bytes=1-2,5-6", "blocks=0-1", "bytes=a-b"])
async def test_what_is_no_range_gets_everything(world: World, asked: str) -> None:
    response, body = await get(world.token, disk_path(world.snapshot), {"Range": asked})
    assert (response.status_code, len(body)) == (200, DISK_BLOCKS * BLOCK)


@pytest.mark.parametrize("asked", [f"bytes={DISK_BLOCKS * BLOCK}-", "bytes=-0", f"bytes={10**17}-"])
async def test_a_range_behind_the_end_says_where_the_end_is(world: World, asked: str) -> None:
    response, body = await get(world.token, disk_path(world.snapshot), {"Range": asked})
    assert response.status_code == 416
    assert response.headers["content-range"] == f"bytes */{DISK_BLOCKS * BLOCK}"
    assert json.loads(body)["error"]["code"] == "range_not_satisfiable"


async def test_a_broken_download_goes_on_only_with_the_same_disk(world: World) -> None:
    first, _ = await get(world.token, disk_path(world.snapshot), method="HEAD")
    etag = first.headers["etag"]
    wanted = {"Range": "bytes=100-199", "If-Range": etag}
    response, body = await get(world.token, disk_path(world.snapshot), wanted)
    assert (response.status_code, body) == (206, world.disk()[100:200])
    later = await sync_to_async(save)(world.vm, world.machine, "two", world.ada)
    response, body = await get(world.token, disk_path(later), wanted)
    assert (response.status_code, body) == (200, world.disk())


async def test_somebody_elses_disk_looks_like_none(world: World) -> None:
    eve = await sync_to_async(lambda: make_token(make_user("eve@example.org")))()
    for what in ("disk.raw", "export"):
        theirs = await get(eve, f"/snapshots/{world.snapshot.pk}/{what}")
        nothing = await get(eve, f"/snapshots/{uuid.uuid4()}/{what}")
        assert theirs[0].status_code == nothing[0].status_code == 404
        assert theirs[1] == nothing[1]


async def test_a_guest_downloads_only_what_is_its_own(world: World) -> None:
    def prepare() -> tuple[str, Snapshot]:
        link = make_link(world.snapshot.pk, acting_user=world.ada)
        guest, fork = exchange_link_as_guest(link.secret)
        return browser(guest).cookies["sessionid"].value, Snapshot.objects.get(vm=fork)

    cookie, fork = await sync_to_async(prepare)()
    signed_in = {"Cookie": f"sessionid={cookie}"}
    response, body = await get("", disk_path(fork), signed_in)
    assert (response.status_code, body) == (200, world.disk())
    response, _ = await get("", disk_path(world.snapshot), signed_in)
    assert response.status_code == 404


async def test_a_damaged_chunk_is_an_error_never_other_bytes(world: World) -> None:
    store = get_store()
    assert isinstance(store, LocalStore)
    paths = [path for path in (store.folder / "t").rglob("*") if path.is_file()]
    for path in paths:
        path.write_bytes(b"rot" + path.read_bytes()[3:])
    response, body = await get(world.token, disk_path(world.snapshot))
    assert response.status_code == 503
    assert json.loads(body)["error"]["code"] == "store_unavailable"
    with pytest.raises(StoreUnavailable):  # found on the way: the server breaks the connection off
        await get(world.token, f"/snapshots/{world.snapshot.pk}/export")


def tool(name: str, *arguments: str | Path) -> str:
    """What one of e2fsprogs says; the tests' own comparison of bytes holds where the host has none."""
    found = next((path for path in (f"/sbin/{name}", f"/usr/sbin/{name}") if Path(path).exists()), None)
    if found is None:
        return ""
    done = subprocess.run([found, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def save_disk(world: World, path: Path, text: str) -> Snapshot:
    """Save the image at `path` as the machine's disk: what a guest would have written."""
    raw, now = path.read_bytes(), world.disk()
    changes = {
        number: raw[at : at + BLOCK]
        for number, at in enumerate(range(0, len(raw), BLOCK))
        if raw[at : at + BLOCK] != now[at : at + BLOCK]
    }
    digests = world.machine.disk.write(changes)
    bring(world.vm.tenant, world.machine, digests)
    written = world.machine.disk.copy()
    snapshot = save(world.vm, world.machine, text, world.ada, disk_root=written.root)
    world.machine.disk = written  # `save` has changed a block that is not part of this
    return snapshot


async def test_the_image_is_a_file_system_elsewhere(world: World, tmp_path: Path) -> None:
    def prepare() -> Snapshot:
        with Spool(tmp_path / "spool") as spool:
            tree = Tree(spool, mtime=1_700_000_000)
            tree.write("/etc/motd", "from the image\n")
            tree.write("/root/large", os.urandom(700_000))
            image = tmp_path / "guest"
            write_image(image, tree, DISK_BLOCKS * BLOCK, identity=bytes(16), timestamp=1_700_000_000)
        save_disk(world, image, "installed")
        (tmp_path / "note").write_text("written later\n")
        tool("debugfs", "-w", "-R", f"write {tmp_path / 'note'} /root/note", image)
        return save_disk(world, image, "a file written")

    snapshot = await sync_to_async(prepare)()
    _, body = await get(world.token, disk_path(snapshot))
    assert body == world.disk()
    downloaded = tmp_path / "downloaded.raw"
    downloaded.write_bytes(body)
    tool("e2fsck", "-fn", downloaded)
    if written := tool("debugfs", "-R", "cat /root/note", downloaded):
        assert written == "written later\n"
        assert tool("debugfs", "-R", "cat /etc/motd", downloaded) == "from the image\n"


def members_of(archive: bytes) -> dict[str, bytes]:
    """What a tar of any kind finds in it."""
    raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(archive), read_across_frames=True).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        found: dict[str, bytes] = {}
        for member in tar:
            file = tar.extractfile(member)
            assert file
            found[member.name] = file.read()
        return found


async def test_a_machine_is_one_file_that_tar_opens(world: World) -> None:
    path = f"/snapshots/{world.snapshot.pk}/export"
    response, body = await get(world.token, path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/zstd"
    assert response.headers["content-disposition"].endswith(".webvm.tar.zst")
    members = members_of(body)
    assert list(members) == ["manifest.json", "disk.raw", "memory.raw", "digests.json"]
    assert members["disk.raw"] == world.disk()
    assert members["memory.raw"] == raw_of(world.machine, "memory")
    manifest = json.loads(members["manifest.json"])
    assert (manifest["format"], manifest["version"]) == ("webvm-machine", 1)
    assert manifest["image"]["slug"] == "tiny"
    assert manifest["machine"]["memory_mib"] == 1
    assert (manifest["disk"]["blocks"], manifest["memory"]["blocks"]) == (DISK_BLOCKS, MEMORY_BLOCKS)
    digests = json.loads(members["digests.json"])
    for name in ("disk.raw", "memory.raw"):
        pieces = [members[name][at : at + CHUNK_BYTES] for at in range(0, len(members[name]), CHUNK_BYTES)]
        summed = hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces)).hexdigest()
        assert digests[name] == summed
    assert (await get(world.token, path))[1] == body, "the same snapshot gives the same file"


async def test_so_many_at_once_and_no_more(world: World) -> None:
    held = [slots.take(world.ada) for _ in range(PER_USER)]
    response, body = await get(world.token, disk_path(world.snapshot))
    assert response.status_code == 429
    assert json.loads(body)["error"]["code"] == "too_many_downloads"
    for release in held:
        release()
    for _ in range(2 * PER_USER):  # a place is given back at the end
        response, _ = await get(world.token, disk_path(world.snapshot))
        assert response.status_code == 200


async def watch(world: World, path: str, when_begun: Callable[[], Awaitable[object]]) -> int:
    """A download whose reader does something after the first bytes; how many bytes were sent."""
    from webvm.asgi import application

    begun, sent = asyncio.Event(), 0
    asked = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if asked:
            return asked.pop()
        await begun.wait()
        await when_begun()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))
        if sent:
            begun.set()
            await asyncio.sleep(0.2)  # a slow reader

    headers = [(b"host", b"testserver"), (b"authorization", f"Bearer {world.token}".encode())]
    scope = {"type": "http", "method": "GET", "path": f"/api/v1{path}", "headers": headers}
    await application(scope | {"query_string": b"", "http_version": "1.1"}, receive, send)  # type: ignore[arg-type]
    return sent


async def test_a_reader_who_leaves_frees_the_place_and_ends_the_reading(world: World) -> None:
    async def leave() -> None:
        pass

    for _ in range(PER_USER + 1):
        assert await watch(world, disk_path(world.snapshot), leave) < DISK_BLOCKS * BLOCK
    await asyncio.sleep(0)
    gc.collect()
    held = [slots.take(world.ada) for _ in range(PER_USER)]
    for release in held:
        release()


async def test_who_is_removed_meanwhile_gets_nothing_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessions.archives.downloads.RECHECK_S", 0.0)

    async def removed() -> None:
        await Membership.objects.filter(user=world.ada).adelete()
        await asyncio.Event().wait()

    with pytest.raises(NotFound):
        await watch(world, disk_path(world.snapshot), removed)
