"""Many clients at once against a real server: what the tests run small and `tests.bench.load` runs large."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from tests.support.forked import ForkedServer
from tests.support.machines import Closed, Machine, Refused, image_machine
from tests.support.wire import Reader, WireSocket

T = TypeVar("T")
OPENING_AT_ONCE = 50
"""Sockets that shake hands at the same time; a listening socket's queue is short."""


@dataclass
class Session:
    """A person's open machine and what was acknowledged to them."""

    account: dict[str, str]
    socket: WireSocket
    machine: Machine = field(default_factory=image_machine)
    head: str | None = None
    acknowledged: list[tuple[str, Machine]] = field(default_factory=list)

    async def save(self, text: str) -> float:
        """Change a block of the disk and a page of the memory, and save; seconds until the answer."""
        machine = self.machine.copy()
        digests = machine.write(text)
        began = time.perf_counter()
        for digest in await self.socket.negotiate(machine, digests):
            outcome = await self.socket.upload(machine.raw(digest))
            if outcome["type"] != "stored":
                raise Refused(outcome["error"])
        snapshot = await self.socket.commit(machine, self.head, message=text)
        self.machine, self.head = machine, snapshot["id"]
        self.acknowledged.append((snapshot["id"], machine))
        return time.perf_counter() - began


@dataclass
class Saves:
    """What came of many saves at once. `seconds`: each save's; `errors`: what anybody was shown."""

    seconds: list[float]
    errors: list[str]
    took_s: float
    memory: int
    cpu_s: float

    @property
    def figures(self) -> dict[str, float]:
        ordered = sorted(self.seconds)
        return {
            "saves": len(ordered),
            "saves_a_second": round(len(ordered) / self.took_s, 1),
            "server_cpu_ms_each": round(1000 * self.cpu_s / len(ordered)),
            "p50_s": round(ordered[len(ordered) // 2], 2),
            "p99_s": round(ordered[int(len(ordered) * 0.99)], 2),
            "server_memory_mb": round(self.memory / 1e6, 1),
        }


async def at_once(work: Iterable[Awaitable[T]], limit: int) -> list[T]:
    """All of them, `limit` at a time, in order."""
    gate = asyncio.Semaphore(limit)

    async def one(each: Awaitable[T]) -> T:
        async with gate:
            return await each

    return list(await asyncio.gather(*map(one, work)))


async def save_at_once(server: ForkedServer, accounts: list[dict[str, str]], rounds: int) -> Saves:
    """Everybody opens their machine; then all save at the same moment, `rounds` times; then all is read back.

    Asserts that what was acknowledged is there, byte for byte.
    """
    async with AsyncExitStack() as stack:

        async def open_one(account: dict[str, str]) -> Session:
            socket = WireSocket(server.url, account["vm"], account["token"])
            await stack.enter_async_context(socket)
            await socket.lease()
            return Session(account, socket)

        sessions = await at_once(map(open_one, accounts), OPENING_AT_ONCE)
        seconds: list[float] = []
        errors: list[str] = []

        async def save(session: Session, text: str) -> None:
            try:
                seconds.append(await session.save(text))
            except (Closed, Refused) as error:
                errors.append(f"{type(error).__name__} {error}")

        began, busy = time.perf_counter(), server.cpu_seconds()
        for number in range(rounds):
            await asyncio.gather(*(save(session, f"round {number}") for session in sessions))
        took_s = time.perf_counter() - began
        memory, busy = server.memory(), server.cpu_seconds() - busy
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda session: read_back(server, session), sessions))
    return Saves(seconds, errors, took_s, memory, busy)


def read_back(server: ForkedServer, session: Session) -> None:
    with Reader(server.url, session.account["vm"], session.account["token"]) as reader:
        assert reader.head() == session.head
        for snapshot, machine in session.acknowledged:
            reader.holds(snapshot, machine)


@dataclass
class Idle:
    """Bytes of server memory for each idle socket, and the part of a core that all of them kept busy."""

    sockets: int
    memory_each: float
    cpu: float


async def stay_idle(
    server: ForkedServer, accounts: list[dict[str, str]], sockets: int, seconds: float
) -> Idle:
    """Open so many sockets on the machines of `accounts`, do nothing for a while, and measure the server."""
    before = server.memory()
    async with AsyncExitStack() as stack:
        chosen = [accounts[number % len(accounts)] for number in range(sockets)]

        async def open_one(account: dict[str, str]) -> None:
            await stack.enter_async_context(WireSocket(server.url, account["vm"], account["token"]))

        await at_once(map(open_one, chosen), OPENING_AT_ONCE)
        busy, began = server.cpu_seconds(), time.perf_counter()
        await asyncio.sleep(seconds)
        cpu = (server.cpu_seconds() - busy) / (time.perf_counter() - began)
        grown = server.memory() - before
    return Idle(sockets, grown / sockets, cpu)
