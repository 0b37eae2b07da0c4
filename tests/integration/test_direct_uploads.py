"""Uploads straight into S3: a real S3 server, a browser's PUTs by httpx, and a proxy that makes S3 fail."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django.fixtures import Settings

from sessions.actions.vms import create_vm
from storage.chunks import put_chunk, read_raw
from storage.codec import encode_frame
from storage.models import Chunk, StagedUpload
from storage.stores import get_store
from storage.stores.s3 import S3Store
from storage.uploads import ABANDONED_AFTER, remove_abandoned_uploads
from tests.support.faulty_http import Fault, FaultyProxy, Seen
from tests.support.machines import Refused, Socket, digest_of, make_image, make_token, make_user
from tests.support.s3 import S3Server
from webvm.accounts.models import Tenant

pytestmark = pytest.mark.django_db(transaction=True)
Frame = tuple[str, bytes, str]


class World:
    """A user with a VM, chunks in a bucket of their own behind a proxy, and what their browser does."""

    def __init__(self, proxy: FaultyProxy) -> None:
        self.proxy = proxy
        self.machine = make_image()[1]
        self.user = make_user("ada@example.org")
        self.token = make_token(self.user)
        self.vm = create_vm("tiny", acting_user=self.user)
        self.pages = "https://webvm.example.org"

    def socket(self) -> Socket:
        return Socket(self.vm.pk, token=self.token)

    @property
    def tenant(self) -> Tenant:
        return Tenant.objects.get(pk=self.vm.tenant_id)

    @property
    def store(self) -> S3Store:
        store = get_store()
        assert isinstance(store, S3Store)
        return store

    def objects(self, prefix: str) -> list[str]:
        found = self.store.client.list_objects_v2(Bucket=self.store.bucket, Prefix=prefix)
        return [item["Key"] for item in found.get("Contents", [])]


@pytest.fixture(scope="module")
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(int(s3_server.url.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
def world(settings: Settings, s3_server: S3Server, proxy: FaultyProxy) -> Iterator[World]:
    settings.CHUNK_STORE = "s3"
    settings.S3_BUCKET = s3_server.make_bucket()
    settings.S3_ACCESS_KEY = settings.S3_SECRET_KEY = "test"
    settings.S3_ENDPOINT_URL = proxy.url
    proxy.seen.clear()
    yield World(proxy)
    proxy.fault = lambda seen: None


def frame_of(raw: bytes, digest: str | None = None) -> Frame:
    frame = encode_frame(raw)
    return digest or digest_of(raw), frame, hashlib.sha256(frame).hexdigest()


def named(frames: list[Frame]) -> list[list[Any]]:
    return [[digest, len(frame), sha] for digest, frame, sha in frames]


async def place(socket: Socket, frames: list[Frame]) -> dict[str, Any]:
    answer = await socket.request("place", epoch=socket.epoch, frames=named(frames))
    put: dict[str, Any] = answer["put"]
    return put


async def put(place: dict[str, Any], body: bytes, **headers: str) -> int:
    async with httpx.AsyncClient() as client:
        answer = await client.put(place["url"], content=body, headers={**place["headers"], **headers})
        return answer.status_code


async def bring(socket: Socket, frames: list[Frame]) -> dict[str, Any]:
    """All that a browser does: place, put, tell; the answer."""
    places = await place(socket, frames)
    for digest, frame, _ in frames:
        if digest in places:
            assert await put(places[digest], frame) == 200
    return await socket.request("uploaded", epoch=socket.epoch, frames=named(frames))


async def test_a_save_goes_past_the_socket(world: World) -> None:
    async with world.socket() as socket:
        await socket.lease()
        digests = world.machine.write("one")
        chunks = [[digest, len(world.machine.raw(digest))] for digest in digests]
        answer = await socket.request("negotiate", epoch=socket.epoch, chunks=chunks)
        assert answer["direct"] is True
        frames = [frame_of(world.machine.raw(digest)) for digest in answer["missing"]]
        taken = await bring(socket, frames)
        assert sorted(taken["stored"]) == sorted(answer["missing"])
        assert taken["refused"] == {}
        assert "fresh_bytes" not in taken
        answer = await socket.request("negotiate", epoch=socket.epoch, chunks=chunks)
        assert (answer["missing"], answer["direct"]) == ([], False)
        snapshot = await socket.commit(world.machine, None)
    tenant = await sync_to_async(lambda: world.tenant)()
    assert snapshot["stored_bytes"] == tenant.used_bytes == sum(len(frame) for _, frame, _ in frames)
    for digest in digests:
        raw = await sync_to_async(read_raw)(tenant.pk, bytes.fromhex(digest))
        assert raw == world.machine.raw(digest)
    assert await sync_to_async(world.objects)("up/") == []
    assert not await StagedUpload.objects.aexists()


async def test_the_signed_put_takes_that_frame_and_no_other(world: World) -> None:
    raw = os.urandom(20_000)
    digest, frame, sha = frame_of(raw)
    other = os.urandom(len(frame))
    checksum = {"x-amz-checksum-sha256": "A" * 43 + "="}
    async with world.socket() as socket:
        await socket.lease()
        signed = (await place(socket, [(digest, frame, sha)]))[digest]
        assert await put(signed, other) == 400
        assert await put(signed, frame + b"x") == 403
        assert await put(signed, frame[:-1]) == 403
        assert await put(signed, frame, **checksum) == 403
        assert await put({**signed, "headers": {}}, frame) == 403
        assert await put({**signed, "url": signed["url"].replace("/up/", "/t/")}, frame) == 403
        assert await put(signed, frame) == 200
        assert await put(signed, frame) == 412
        taken = await socket.request("uploaded", epoch=socket.epoch, frames=named([(digest, frame, sha)]))
        assert taken["stored"] == [digest]
        again = await socket.request("uploaded", epoch=socket.epoch, frames=named([(digest, frame, sha)]))
        assert again["stored"] == [digest], "the first answer may have been lost"


async def test_a_member_cannot_poison_what_anothers_save_relies_on(world: World) -> None:
    """Mallory puts garbage for the digest of what Ada is about to save: before, with and without telling."""
    mine = b"what Ada saves" * 500
    digest = digest_of(mine)
    bodies = [encode_frame(b"garbage" * 900), b"no frame at all", encode_frame(bytes(20 << 20))]
    lies: list[Frame] = [(digest, body, hashlib.sha256(body).hexdigest()) for body in bodies]
    async with world.socket() as socket:
        await socket.lease()
        for lie in lies:
            signed = (await place(socket, [lie]))[digest]
            assert await put(signed, lie[1]) == 200
            taken = await socket.request("uploaded", epoch=socket.epoch, frames=named([lie]))
            assert taken["stored"] == []
            assert taken["refused"][digest]["code"] == "bad_chunk"
        # And one that is never told of.
        silent = frame_of(b"more garbage", digest)
        assert await put((await place(socket, [silent]))[digest], silent[1]) == 200
        assert not await Chunk.objects.filter(digest=bytes.fromhex(digest), tenant=world.vm.tenant).aexists()
        chunks = [[digest, len(mine)]]
        answer = await socket.request("negotiate", epoch=socket.epoch, chunks=chunks)
        assert answer["missing"] == [digest]
        # By S3 as by the socket, Ada's own bytes are what is stored.
        await bring(socket, [frame_of(mine)])
    tenant = await sync_to_async(lambda: world.tenant)()
    assert await sync_to_async(read_raw)(tenant.pk, bytes.fromhex(digest)) == mine
    by_socket = b"through the socket" * 99
    await sync_to_async(put_chunk)(tenant, hashlib.sha256(by_socket).digest(), encode_frame(by_socket))
    assert len(await sync_to_async(world.objects)("up/")) == 1, "only the silent one is left"


async def test_what_was_never_put_is_refused_by_itself(world: World) -> None:
    good, absent = frame_of(b"good" * 99), frame_of(b"absent" * 99)
    async with world.socket() as socket:
        await socket.lease()
        places = await place(socket, [good, absent])
        assert await put(places[good[0]], good[1]) == 200
        taken = await socket.request("uploaded", epoch=socket.epoch, frames=named([good, absent]))
    assert taken["stored"] == [good[0]]
    assert taken["refused"][absent[0]]["code"] == "upload_missing"


async def test_the_quota_is_checked_with_what_is_under_way_before_anything_is_signed(world: World) -> None:
    frames = [frame_of(os.urandom(50_000)) for _ in range(4)]
    await Tenant.objects.filter(pk=world.vm.tenant_id).aupdate(quota_bytes=170_000, used_bytes=0)
    async with world.socket() as socket:
        await socket.lease()
        assert len(await place(socket, frames[:2])) == 2
        with pytest.raises(Refused) as refused:
            await place(socket, frames[2:])
        assert refused.value.code == "quota_exceeded"
        # The same again is no more than before; and what was taken counts once.
        assert len(await place(socket, [frames[0], frames[2]])) == 2
        with pytest.raises(Refused):
            await place(socket, frames[3:])
    assert world.proxy.count("PUT", "/up/") == 0


async def test_what_nobody_may_say_closes_the_socket(world: World) -> None:
    digest, frame, sha = frame_of(b"x" * 99)
    ok = [digest, len(frame), sha]
    for frames in (
        [[digest, 0, sha]],
        [[digest, 300_000, sha]],
        [[digest, len(frame), "x"]],
        [ok[:2]],
        [ok] * 33,
        [[digest, "9", sha]],
        "x",
    ):
        async with world.socket() as socket:
            await socket.lease(take_over=True)
            message = {"id": 9, "type": "place", "epoch": socket.epoch, "frames": frames}
            await socket.send_text(json.dumps(message))
            assert await socket.closed() == 4400


async def test_an_old_epoch_gets_no_url(world: World) -> None:
    frames = [frame_of(b"x" * 99)]
    async with world.socket() as socket:
        await socket.lease()
        for kind in ("place", "uploaded"):
            with pytest.raises(Refused) as refused:
                await socket.request(kind, epoch=socket.epoch + 1, frames=named(frames))
            assert refused.value.code == "lease_lost"


async def test_with_a_local_store_or_switched_off_everything_comes_through_the_socket(
    world: World, settings: Settings
) -> None:
    settings.S3_DIRECT_UPLOADS = False
    frames = [frame_of(b"x" * 99)]
    async with world.socket() as socket:
        await socket.lease()
        answer = await socket.request("negotiate", epoch=socket.epoch, chunks=[[frames[0][0], 99]])
        assert (answer["missing"], answer["direct"]) == ([frames[0][0]], False)
        assert await place(socket, frames) == {}
        taken = await socket.request("uploaded", epoch=socket.epoch, frames=named(frames))
        assert taken["refused"][frames[0][0]]["code"] == "upload_missing"


FAULTS: list[Fault] = ["500", "503", "reset", "reset_after", "cut"]


@pytest.mark.parametrize("where", ["GET", "PUT", "DELETE"])
async def test_one_failure_of_s3_is_not_felt(world: World, where: str) -> None:
    failed: dict[str, Fault] = {}

    def once_each(seen: Seen) -> Fault | None:
        # What the browser puts is the browser's affair.
        if seen.method != where or (where == "PUT" and "/up/" in seen.path) or seen.path in failed:
            return None
        failed[seen.path] = FAULTS[len(failed) % len(FAULTS)]
        return failed[seen.path]

    frames = [frame_of(f"chunk {number}".encode() * 99) for number in range(10)]
    async with world.socket() as socket:
        await socket.lease()
        world.proxy.fault = once_each
        taken = await bring(socket, frames)
        world.proxy.fault = lambda seen: None
    assert set(failed.values()) == set(FAULTS)
    assert taken["refused"] == {}
    assert sorted(taken["stored"]) == sorted(digest for digest, _, _ in frames)


@pytest.mark.parametrize("fault", ["503", "reset", "cut"])
async def test_an_s3_that_stays_away_is_told_and_loses_nothing(world: World, fault: Fault) -> None:
    frames = [frame_of(f"chunk {number}".encode() * 99) for number in range(2)]
    async with world.socket() as socket:
        await socket.lease()
        places = await place(socket, frames)
        for digest, frame, _ in frames:
            assert await put(places[digest], frame) == 200
        world.proxy.fault = lambda seen: fault
        taken = await socket.request("uploaded", epoch=socket.epoch, frames=named(frames))
        assert taken["stored"] == []
        assert {error["code"] for error in taken["refused"].values()} == {"store_unavailable"}
        world.proxy.fault = lambda seen: None
        taken = await socket.request("uploaded", epoch=socket.epoch, frames=named(frames))
        assert sorted(taken["stored"]) == sorted(digest for digest, _, _ in frames)


async def test_a_put_that_only_seemed_to_work_is_found_out(world: World) -> None:
    frames = [frame_of(b"lost" * 99)]
    async with world.socket() as socket:
        await socket.lease()
        world.proxy.fault = lambda seen: "lie" if seen.method == "PUT" else None
        taken = await bring(socket, frames)
    assert taken["refused"][frames[0][0]]["code"] == "upload_missing"


async def test_what_was_abandoned_is_removed_when_it_is_old(world: World) -> None:
    left, fresh, never = (frame_of(name * 99) for name in (b"left", b"fresh", b"never"))
    async with world.socket() as socket:
        await socket.lease()
        places = await place(socket, [left, fresh, never])
        for digest, frame, _ in (left, fresh):
            assert await put(places[digest], frame) == 200
    assert await sync_to_async(remove_abandoned_uploads)() == 0
    names = {key: places[key]["url"].partition("?")[0].partition("/up/")[2] for key in places}
    for digest in (left[0], never[0]):
        await StagedUpload.objects.filter(name=f"up/{names[digest]}").aupdate(
            placed_at=timezone.now() - ABANDONED_AFTER - timedelta(seconds=1)
        )
    assert await sync_to_async(remove_abandoned_uploads)() == 2
    assert await sync_to_async(world.objects)("up/") == [f"up/{names[fresh[0]]}"]
    assert await sync_to_async(remove_abandoned_uploads)() == 0


def test_the_bucket_is_prepared_for_the_sites_pages_only(world: World, settings: Settings) -> None:
    call_command("preparebucket", world.pages)
    url = world.store.sign_upload(f"up/{world.tenant.pk}/{'0' * 64}", 3, bytes(32), 60).url
    wanted = {"Access-Control-Request-Method": "PUT"}
    wanted["Access-Control-Request-Headers"] = "content-type,if-none-match,x-amz-checksum-sha256"
    allowed = httpx.options(url, headers={**wanted, "Origin": world.pages})
    assert allowed.headers["Access-Control-Allow-Origin"] == world.pages
    refused = httpx.options(url, headers={**wanted, "Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in refused.headers
    for bad in ("*", "https://a/b", "ftp://a", ""):
        with pytest.raises(CommandError, match="is no origin"):
            call_command("preparebucket", bad)
    settings.CHUNK_STORE = "local"
    with pytest.raises(CommandError, match="not S3"):
        call_command("preparebucket", world.pages)
