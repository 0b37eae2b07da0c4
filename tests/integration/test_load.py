"""Many people at once, on a small scale: `tests.bench.load` runs the same with hundreds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.forked import ForkedServer
from tests.support.load import save_at_once, stay_idle

SESSIONS = 20
SOCKETS = 100
BYTES_A_SOCKET = 400_000
"""Measured: about 60,000. A socket that keeps more than a frame or two for itself would show."""


@pytest.fixture
def running(prepared_server: ForkedServer) -> Iterator[ForkedServer]:
    prepared_server.start_daphne()
    yield prepared_server
    prepared_server.kill()


async def test_many_sessions_save_at_once(running: ForkedServer) -> None:
    saves = await save_at_once(running, running.call("make_people", SESSIONS), rounds=2)
    assert saves.errors == []
    assert len(saves.seconds) == 2 * SESSIONS


async def test_idle_sockets_cost_little(running: ForkedServer) -> None:
    await stay_idle(running, accounts := running.call("make_people", 10), 10, 0)  # loads what all share
    idle = await stay_idle(running, accounts, SOCKETS, 3.5)
    assert idle.memory_each < BYTES_A_SOCKET
