"""The WebSocket of an open VM: who may speak, what is answered, what ends it."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import uuid
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.test import Client
from hypothesis import HealthCheck, given
from hypothesis import settings as rounds
from hypothesis import strategies as st

from sessions.actions.vms import create_vm, delete_vm
from sessions.models import VM, Snapshot
from storage.stores.local import LocalStore
from tests.support.machines import (
    PNG,
    Refused,
    Socket,
    areload,
    block,
    frame,
    make_image,
    make_token,
    make_user,
)
from webvm.accounts.models import ApiToken, Membership, Tenant, User

pytestmark = pytest.mark.django_db(transaction=True)


class World:
    """A user with a VM of a tiny image, and what a client of it needs."""

    def __init__(self) -> None:
        self.version, self.machine = make_image()
        self.user = make_user("ada@example.org")
        self.token = make_token(self.user)
        self.vm = create_vm("tiny", acting_user=self.user)

    def socket(self, **options: Any) -> Socket:
        return Socket(self.vm.pk, **({"token": self.token} | options))

    @property
    def tenant(self) -> Tenant:
        return Tenant.objects.get(pk=self.vm.tenant_id)


@pytest.fixture
def world() -> World:
    return World()


async def test_it_works(world: World) -> None:
    async with world.socket() as socket:
        lease = await socket.lease()
        assert lease["epoch"] == 1
        assert lease["expires_in"] == 30
        assert lease["head"] is None
        assert lease["credit"] == 16
        first = await socket.save(
            world.machine, "one", None, thumbnail=base64.b64encode(PNG).decode(), reused_bytes=12
        )
        assert first["message"] == "one"
        assert first["parent"] is None
        assert first["stored_bytes"] > 0
        assert first["thumbnail_url"]
        second = await socket.save(world.machine, "two", first["id"])
        assert second["parent"] == first["id"]
        await socket.request("release", epoch=socket.epoch)
    vm = await areload(world.vm)
    assert str(vm.head_id) == second["id"]
    assert vm.stored_bytes == first["stored_bytes"] + second["stored_bytes"]
    tenant = await sync_to_async(lambda: world.tenant)()
    assert tenant.used_bytes == vm.stored_bytes


async def test_a_second_save_uploads_only_what_changed(world: World) -> None:
    async with world.socket() as socket:
        await socket.lease()
        await socket.save(world.machine, "one", None)
        digests = world.machine.write("two")
        missing = await socket.negotiate(world.machine, digests)
        # One data chunk and the path of nodes, for the disk and for the memory.
        assert 4 <= len(missing) <= 6
        assert await socket.negotiate(world.machine, digests[:1]) == digests[:1]


async def test_what_is_uploaded_survives_a_reconnect(world: World) -> None:
    session = uuid.uuid4()
    digests = world.machine.write("one")
    async with world.socket() as socket:
        await socket.lease(session)
        first, *rest = await socket.negotiate(world.machine, digests)
        await socket.upload(world.machine.raw(first))
    async with world.socket() as socket:
        assert (await socket.lease(session))["epoch"] == 1
        assert await socket.negotiate(world.machine, digests) == rest
        for digest in rest:
            await socket.upload(world.machine.raw(digest))
        snapshot = await socket.commit(world.machine, None)
    tenant = await sync_to_async(lambda: world.tenant)()
    assert snapshot["stored_bytes"] == tenant.used_bytes, "what the first socket uploaded counts too"


async def test_nobody_is_told_to_sign_in(world: World) -> None:
    for options in ({"token": None}, {"token": "wvm_wrong"}, {"token": None, "cookie": "wrong"}):
        async with world.socket(**options) as socket:
            assert socket.accepted
            assert await socket.closed() == 4401


async def test_a_session_cookie_works_from_the_same_origin_only(world: World) -> None:
    client = Client()
    await client.aforce_login(world.user)
    cookie = client.cookies["sessionid"].value
    async with world.socket(token=None, cookie=cookie) as socket:
        await socket.lease()
    for origin in ("http://evil.example", "null", "http://testserver.evil.example"):
        async with world.socket(token=None, cookie=cookie, origin=origin) as socket:
            assert not socket.accepted
        async with world.socket(origin=origin) as socket:
            assert not socket.accepted


async def test_other_addresses_are_refused(world: World) -> None:
    socket = world.socket()
    socket.communicator.scope["path"] = "/ws/elsewhere/"
    async with socket:
        assert not socket.accepted


async def test_one_writer(world: World) -> None:
    async with world.socket() as first, world.socket() as second:
        await first.lease()
        with pytest.raises(Refused) as refused:
            await second.lease()
        assert refused.value.code == "lease_held"
        assert refused.value.error["holder"] == str(world.user)
        assert refused.value.error["since"]
        assert (await second.lease(take_over=True))["epoch"] == 2
        assert await first.closed() == 4409
        assert [event["kind"] for event in first.events if event["type"] == "hint"][-1] == "lease"


async def test_an_old_epoch_is_lost_everywhere(world: World) -> None:
    async with world.socket() as first, world.socket() as second:
        await first.lease()
        await second.lease(take_over=True)
        # A third socket without a lease of its own speaks with the old epoch.
        async with world.socket() as third:
            third.epoch = 1
            for request in (
                third.request("renew", epoch=1),
                third.negotiate(world.machine, world.machine.write("x")),
                third.commit(world.machine, None),
            ):
                with pytest.raises(Refused) as refused:
                    await request
                assert refused.value.code == "lease_lost"
        assert await Snapshot.objects.acount() == 0


async def test_hints_are_numbered_and_tell_of_others(world: World) -> None:
    async with world.socket() as writer, world.socket() as watcher:
        await writer.lease()
        await writer.save(world.machine, "one", None)
        kinds, numbers = [], []
        while "head" not in kinds:
            event = await watcher.next()
            kinds.append(event["kind"])
            numbers.append(event["seq"])
        assert set(kinds) <= {"lease", "head"}
        assert numbers == list(range(1, len(numbers) + 1))


async def test_a_lost_race_changes_nothing(world: World) -> None:
    other = world.machine.copy()
    async with world.socket() as socket:
        await socket.lease()
        first = await socket.save(world.machine, "one", None)
        with pytest.raises(Refused) as refused:
            await socket.save(other, "two", None)
        assert refused.value.code == "head_moved"
        assert refused.value.error["head"] == first["id"]
    assert await Snapshot.objects.acount() == 1


async def test_the_same_key_answers_the_same_snapshot(world: World) -> None:
    key = str(uuid.uuid4())
    async with world.socket() as socket:
        await socket.lease()
        first = await socket.save(world.machine, "one", None, idempotency_key=key)
        assert await socket.commit(world.machine, None, idempotency_key=key) == first
        with pytest.raises(Refused) as refused:
            await socket.save(world.machine, "two", first["id"], idempotency_key=key)
        assert refused.value.code == "key_reused"
    # Also when the lease was taken over in between: the save did happen.
    async with world.socket() as socket:
        await socket.lease(take_over=True)
        old = world.machine.copy()
        old.write("one")
        socket.epoch -= 1
        assert (await socket.commit(old, None, idempotency_key=key))["id"] == first["id"]
    assert await Snapshot.objects.acount() == 1


async def test_a_lying_chunk_is_refused_and_the_credit_comes_back(world: World) -> None:
    async with world.socket() as socket:
        await socket.lease()
        for _ in range(20):
            outcome = await socket.upload(block("this"), digest="ab" * 32)
            assert outcome["type"] == "refused"
            assert outcome["error"]["code"] == "bad_chunk"
            assert outcome["credit"] == 1
        assert (await socket.upload(block("that")))["type"] == "stored"


class StuckStore(LocalStore):
    """A store that does not answer until it may go on."""

    def __init__(self) -> None:
        super().__init__(settings.CHUNK_DIR)
        self.go_on = threading.Event()

    def put(self, key: str, stored: bytes) -> None:
        assert self.go_on.wait(20)
        super().put(key, stored)


async def test_more_frames_than_credit_close(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StuckStore()
    monkeypatch.setattr("storage.chunks.get_store", lambda: store)
    async with world.socket() as socket:
        await socket.lease()
        # As many as the window allows are waited for, however slow the store is; one more is not.
        for number in range(16):
            await socket.send_bytes(frame(block(str(number))))
        await socket.request("renew", epoch=socket.epoch)
        await socket.send_bytes(frame(block("one too many")))
        assert await socket.closed() == 4400
        store.go_on.set()


async def test_chunks_without_a_lease_close(world: World) -> None:
    async with world.socket() as socket:
        await socket.send_bytes(b"\x01" + bytes(32) + b"frame")
        assert await socket.closed() == 4400


async def test_a_full_quota_refuses_before_and_while_uploading(world: World) -> None:
    digests = world.machine.write("one")
    async with world.socket() as socket:
        await socket.lease()
        await Tenant.objects.filter(pk=world.vm.tenant_id).aupdate(quota_bytes=10)
        missing = await socket.negotiate(world.machine, digests)
        outcome = await socket.upload(world.machine.raw(missing[0]))
        assert outcome["type"] == "refused"
        assert outcome["error"]["code"] == "quota_exceeded"
        await Tenant.objects.filter(pk=world.vm.tenant_id).aupdate(quota_bytes=0)
        with pytest.raises(Refused) as refused:
            await socket.negotiate(world.machine, digests)
        assert refused.value.code == "quota_exceeded"
    tenant = await sync_to_async(lambda: world.tenant)()
    assert tenant.used_bytes == 0


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"message": "x" * 501}, "invalid_input"),
        ({"message": "\x1b[2J"}, "invalid_input"),
        ({"thumbnail": "?"}, "invalid_input"),
        ({"thumbnail": base64.b64encode(b"<svg onload=alert(1)>").decode()}, "invalid_input"),
        ({"thumbnail": base64.b64encode(PNG + bytes(65536)).decode()}, "invalid_input"),
        ({"disk_root": "ab" * 32}, "missing_chunks"),
        ({"expected_head": str(uuid.uuid4())}, "head_moved"),
    ],
)
async def test_bad_commits_change_nothing(world: World, fields: dict[str, Any], code: str) -> None:
    async with world.socket() as socket:
        await socket.lease()
        with pytest.raises(Refused) as refused:
            await socket.save(world.machine, "one", None, **fields)
        assert refused.value.code == code
        assert await Snapshot.objects.acount() == 0
        assert (await areload(world.vm)).head_id is None
        await socket.commit(world.machine, None)


BROKEN = [
    "",
    "{",
    "[]",
    "null",
    "1",
    '"lease"',
    "{}",
    '{"id": 1}',
    '{"id": 1, "type": "dance"}',
    '{"id": "1", "type": "renew", "epoch": 1}',
    '{"id": true, "type": "renew", "epoch": 1}',
    '{"id": 1, "type": "renew", "epoch": "1"}',
    '{"id": 1, "type": "renew", "epoch": -1}',
    '{"id": 1, "type": "renew", "epoch": 1e300}',
    '{"id": 1, "type": "lease", "session": "x", "take_over": false}',
    '{"id": 1, "type": "lease", "session": "6c1f9d2e-0f0b-4f6e-9d35-0d3c6c1a7b11"}',
    '{"id": 1, "type": "negotiate", "epoch": 1, "chunks": [["AB", 1]]}',
    json.dumps({"id": 1, "type": "negotiate", "epoch": 1, "chunks": [["ab" * 32, 0]]}),
    json.dumps({"id": 1, "type": "negotiate", "epoch": 1, "chunks": [["ab" * 32, 300_000]]}),
    json.dumps({"id": 1, "type": "negotiate", "epoch": 1, "chunks": [[1, "ab" * 32]]}),
    json.dumps({"id": 1, "type": "negotiate", "epoch": 1, "chunks": [["ab" * 32, 1]] * 4097}),
    "[" * 100_000,
    " " * (1 << 20) + "{}",
    "é" * (1 << 19) + "x",
]


@pytest.mark.parametrize("text", BROKEN, ids=[text[:40].strip() or "blank" for text in BROKEN])
async def test_broken_text_closes(world: World, text: str) -> None:
    async with world.socket() as socket:
        await socket.send_text(text)
        assert await socket.closed() == 4400


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x03" + bytes(40), b"\x01" + bytes(32), b"\x01" + bytes(288 * 1024)], ids=len
)
async def test_broken_binary_closes(world: World, data: bytes) -> None:
    async with world.socket() as socket:
        await socket.lease()
        await socket.send_bytes(data)
        assert await socket.closed() == 4400


async def test_a_flood_closes(world: World) -> None:
    async with world.socket() as socket:
        for number in range(200):
            await socket.send_text(json.dumps({"id": number, "type": "renew", "epoch": 0}))
        assert await socket.closed() == 4429


async def test_signing_out_closes(world: World) -> None:
    client = Client()
    await client.aforce_login(world.user)
    async with world.socket(token=None, cookie=client.cookies["sessionid"].value) as socket:
        await socket.lease()
        await client.alogout()
        assert await asyncio.wait_for(socket.closed(), 1) == 4401


async def test_revoking_the_token_closes(world: World) -> None:
    async with world.socket() as socket:
        await socket.lease()
        await ApiToken.objects.all().adelete()
        assert await asyncio.wait_for(socket.closed(), 1) == 4401
        assert socket.events[-1]["kind"] == "revoked"


async def test_removal_from_the_tenant_closes(world: World) -> None:
    async with world.socket() as socket:
        await socket.lease()
        await Membership.objects.all().adelete()
        assert await asyncio.wait_for(socket.closed(), 1) == 4404
        assert socket.events[-1]["kind"] == "revoked"


async def test_removal_that_sends_no_hint_is_noticed_too(world: World) -> None:
    async with world.socket() as socket:
        await socket.lease()
        await User.objects.filter(pk=world.user.pk).aupdate(is_active=False)
        assert await asyncio.wait_for(socket.closed(), 6) == 4401


async def test_deleting_the_vm_closes(world: World) -> None:
    async with world.socket() as socket:
        await socket.lease()
        await sync_to_async(delete_vm)(world.vm.pk, acting_user=world.user)
        assert await asyncio.wait_for(socket.closed(), 1) == 4404


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
messages = st.fixed_dictionaries(
    {"id": st.integers(-1, 5) | json_values},
    optional={
        "type": st.sampled_from(["lease", "renew", "release", "negotiate", "commit"]) | json_values,
        "epoch": st.integers(-1, 3) | json_values,
        "session": st.uuids().map(str) | json_values,
        "take_over": st.booleans() | json_values,
        "chunks": json_values,
        "expected_head": json_values,
        "disk_root": st.sampled_from(["", "ab" * 32]) | json_values,
        "memory_root": json_values,
        "message": json_values,
        "thumbnail": json_values,
        "idempotency_key": st.uuids().map(str) | json_values,
        "reused_bytes": json_values,
    },
)


@pytest.fixture
def shared_world(world: World) -> World:
    return world


@rounds(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(messages.map(json.dumps) | st.text(max_size=50) | st.binary(max_size=80), max_size=6))
def test_whatever_comes_is_answered_or_closed(shared_world: World, frames: list[str | bytes]) -> None:
    async def scenario() -> None:
        async with shared_world.socket() as socket:
            for frame in frames:
                await (socket.send_text(frame) if isinstance(frame, str) else socket.send_bytes(frame))
            await socket.send_text('{"id": 9, "type": "dance"}')
            assert await socket.closed() in {4400, 4409}
            for event in socket.events:
                assert event.get("type") in {"hint", "stored", "refused"} or isinstance(event["ok"], bool)
                assert "unavailable" not in json.dumps(event)

    asyncio.run(scenario())
    assert not Snapshot.objects.exists()
    assert VM.objects.get().head_id is None


async def test_two_writers_race_for_the_lease(world: World) -> None:
    async with world.socket() as first, world.socket() as second, world.socket() as third:
        outcomes = await asyncio.gather(first.lease(), second.lease(), third.lease(), return_exceptions=True)
        winners = [outcome for outcome in outcomes if isinstance(outcome, dict)]
        assert [winner["epoch"] for winner in winners] == [1]
        assert {outcome.code for outcome in outcomes if isinstance(outcome, Refused)} == {"lease_held"}
