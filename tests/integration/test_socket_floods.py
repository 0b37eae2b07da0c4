"""Whatever comes over the wire, the real server goes on serving others, and its memory stays bounded."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection

from tests.support.forked import ForkedServer
from tests.support.load import Session
from tests.support.machines import Closed, block, frame
from tests.support.wire import Reader, WireSocket

MIB = 1 << 20
FLOOD = 48 * MIB
"""Bytes that each of the flooding sockets wants to get rid of."""
SOCKETS = 6
ENDS = {1000, 1005, 1006, 1009, 4400, 4404, 4409, 4429}
"""How a socket may end: as the protocol says, or by the transport (too large a frame, a cut connection)."""


@pytest.fixture(scope="module")
def running(prepared_server: ForkedServer) -> Iterator[ForkedServer]:
    prepared_server.start_daphne()
    yield prepared_server
    prepared_server.kill()


@pytest.fixture(scope="module")
def accounts(running: ForkedServer) -> list[dict[str, str]]:
    found: list[dict[str, str]] = running.call("make_people", 2)
    return found


def connect(server: ForkedServer, account: dict[str, str]) -> WireSocket:
    return WireSocket(server.url, account["vm"], account["token"])


async def somebody_else_can_save(server: ForkedServer) -> None:
    account = server.call("make_people", 1)[0]
    async with connect(server, account) as socket:
        await socket.lease()
        session = Session(account, socket)
        await session.save("beside the flood")
        snapshot, machine = session.acknowledged[0]
        with Reader(server.url, account["vm"], account["token"]) as reader:
            await asyncio.to_thread(reader.holds, snapshot, machine)


# Frames in any order, of any size and type

epochs = st.integers(0, 3)
good = st.one_of(
    st.builds(lambda over: {"type": "lease", "session": str(uuid.uuid4()), "take_over": over}, st.booleans()),
    st.builds(lambda epoch: {"type": "renew", "epoch": epoch}, epochs),
    st.builds(lambda epoch: {"type": "release", "epoch": epoch}, epochs),
    st.builds(
        lambda epoch, count: {"type": "negotiate", "epoch": epoch, "chunks": [["ab" * 32, 4096]] * count},
        epochs,
        st.sampled_from([0, 1, 4096, 4097]),
    ),
    st.builds(
        lambda epoch, root: {
            "type": "commit",
            "epoch": epoch,
            "expected_head": None,
            "disk_root": root,
            "memory_root": "",
            "message": "",
            "thumbnail": None,
            "reused_bytes": 0,
            "idempotency_key": str(uuid.uuid4()),
        },
        epochs,
        st.sampled_from(["ab" * 32, "x"]),
    ),
).map(lambda message: json.dumps({"id": 1, **message}))
sizes = st.sampled_from([0, 1, 33, 34, 4096, 288 * 1024, 288 * 1024 + 1, MIB, MIB + 1, 3 * MIB])
frames = st.one_of(
    good,
    good.flatmap(lambda text: st.integers(0, len(text)).map(lambda at: text[:at])),
    st.text(max_size=40),
    sizes.map(lambda size: " " * size),
    sizes.map(lambda size: b"\x01" * size),
    st.binary(max_size=80),
    st.just(frame(block("right"))),
    st.just(frame(block("wrong"), digest="ab" * 32)),
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(sent=st.lists(st.lists(frames, max_size=8), min_size=1, max_size=3))
def test_any_frames_in_any_order(
    running: ForkedServer, accounts: list[dict[str, str]], sent: list[list[str | bytes]]
) -> None:
    """Several sockets on one machine; each is answered by the protocol's own messages, or closed."""

    async def speak(frames: list[str | bytes]) -> None:
        async with connect(running, accounts[0]) as socket:
            with suppress(Closed):
                for each in frames:
                    await (socket.send_text(each) if isinstance(each, str) else socket.send_bytes(each))
                await socket.send_text('{"id": 9, "type": "dance"}')
            assert await socket.closed() in ENDS
            for message in socket.events:
                assert message.get("type") in {"hint", "stored", "refused"} or "ok" in message
                assert message.get("error", {}).get("code") != "unavailable"

    async def all_speak() -> None:
        await asyncio.wait_for(asyncio.gather(*map(speak, sent)), 120)

    asyncio.run(all_speak())
    with Reader(running.url, accounts[0]["vm"], accounts[0]["token"]) as reader:
        assert reader.snapshots() == []
        assert reader.head() is None


# Floods

Flood = Callable[[WireSocket], Awaitable[int]]
"""Sends as fast as it can until it is closed or done; the bytes it got rid of."""


async def pour(socket: WireSocket, each: str | bytes, count: int) -> int:
    sent = 0
    with suppress(Closed):
        for _ in range(count):
            await (socket.send_text(each) if isinstance(each, str) else socket.send_bytes(each))
            sent += len(each)
    return sent


async def chunks_without_a_lease(socket: WireSocket) -> int:
    return await pour(socket, b"\x01" * (288 * 1024), FLOOD // (288 * 1024))


async def chunks_beyond_the_credit(socket: WireSocket) -> int:
    with suppress(Closed):
        await socket.lease(take_over=True)
    return await pour(socket, frame(block("again and again") * 64), FLOOD // 4096)


async def small_requests(socket: WireSocket) -> int:
    return await pour(socket, json.dumps({"id": 1, "type": "renew", "epoch": 1}), 20_000)


async def frames_that_are_too_large(socket: WireSocket) -> int:
    return await pour(socket, " " * FLOOD, 1)


async def a_message_that_never_ends(socket: WireSocket) -> int:
    connection = socket.connection
    assert isinstance(connection, ClientConnection)
    sent = 0

    async def parts() -> AsyncIterator[str]:
        nonlocal sent
        for _ in range(FLOOD // 65536):
            yield " " * 65536
            sent += 65536

    with suppress(Exception):  # however it is cut off
        await connection.send(parts())
    return sent


async def answers_that_nobody_reads(socket: WireSocket) -> int:
    """The largest answers there are, as often as the limits let them be asked for."""
    with suppress(Closed):
        epoch = (await socket.lease(take_over=True))["epoch"]
        socket.connection.transport.pause_reading()  # type: ignore[union-attr]
        chunks = [[f"{number:064x}", 4096] for number in range(4096)]
        question = json.dumps({"id": 1, "type": "negotiate", "epoch": epoch, "chunks": chunks})
        for _ in range(60):
            await socket.send_text(question)
            await asyncio.sleep(0.1)
    return 60 * len(question)


FLOODS: list[Flood] = [
    chunks_without_a_lease,
    chunks_beyond_the_credit,
    small_requests,
    frames_that_are_too_large,
    a_message_that_never_ends,
    answers_that_nobody_reads,
]


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
async def test_floods(running: ForkedServer, flood: Flood, record_property: Any) -> None:
    """The flood is cut off, others are served meanwhile, and the server's memory does not follow it."""
    accounts = running.call("make_people", SOCKETS)
    await somebody_else_can_save(running)  # everything is loaded
    before = running.memory()

    async def one(account: dict[str, str]) -> int:
        async with connect(running, account) as socket:
            return await flood(socket)

    floods = asyncio.gather(*map(one, accounts))
    await somebody_else_can_save(running)
    highest = running.memory()
    while not floods.done():
        highest = max(highest, running.memory())
        await asyncio.sleep(0.05)
    grown = highest - before
    record_property("grown_bytes", grown)
    record_property("sent_bytes", sum(await floods))
    assert grown < SOCKETS * FLOOD / 3
    await somebody_else_can_save(running)
