"""A server that is killed at any step of a save: nothing acknowledged is lost, nothing is half there.

The steps are those that change something: statements that write, COMMITs, files becoming durable, answers.
Between two of them a crash leaves the same behind, so dying before each of them is dying everywhere.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.forked import ForkedServer
from tests.support.machines import Closed, image_machine
from tests.support.saving import Person, Save
from tests.support.servers import PostgresServer
from tests.support.wire import Reader

STEPS = (
    "lease: update vm_sessions_vm",
    "lease: insert accounts_auditentry",
    "lease: before the commit",
    "lease: after the commit",
    "lease: answer",
    "negotiate: answer",
    "upload: file or folder is synced",
    "upload: file gets its name",
    "upload: insert storage_chunk",
    "upload: update accounts_tenant",
    "upload: before the commit",
    "upload: after the commit",
    "upload: answer",
    "commit: update storage_chunk",
    "commit: insert vm_sessions_snapshot",
    "commit: update vm_sessions_vm",
    "commit: insert accounts_auditentry",
    "commit: before the commit",
    "commit: after the commit",
    "commit: answer",
)
"""All that the save of a machine consists of; the test fails when a save does something else as well."""
FORK_STEP = "commit: insert storage_chunk"
"""What the first save of a fork does besides: it adopts the chunks of the original."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def prepared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ForkedServer]:
    """A published image on each database; no server yet."""
    if request.param == "sqlite":
        yield request.getfixturevalue("prepared_server")
        return
    postgres: PostgresServer = request.getfixturevalue("postgres_server")
    environ = {"WEBVM_DATABASE_URL": postgres.make_database()}
    with ForkedServer(tmp_path_factory.mktemp("killed"), environ) as made:
        made.call("publish")
        yield made


@pytest.fixture
def server(prepared: ForkedServer) -> Iterator[ForkedServer]:
    prepared.disarm()
    prepared.start()
    yield prepared
    prepared.kill()


async def die_and_start_again(person: Person, save: Save, step: str, occurrence: int = 1) -> None:
    server, before = person.server, len(person.saved)
    server.arm(step, occurrence)
    with pytest.raises(Closed):
        await save.attempt()
    assert server.wait() == -signal.SIGKILL
    assert len(person.saved) == before, "it was acknowledged by a server that died before"
    server.disarm()
    server.start()
    for snapshot, machine in person.saved[-1:]:
        person.reader.holds(snapshot, machine)
    await save.attempt()
    person.nothing_is_lost()


async def test_every_step_of_a_save(server: ForkedServer) -> None:
    person = Person(server, server.call("make_people", 1)[0], image_machine())
    await person.change("undisturbed").attempt()
    assert {step for step in server.trace() if not step.startswith("release")} == set(STEPS)
    person.nothing_is_lost()
    for step in STEPS:
        await die_and_start_again(person, person.change(step), step)
    await die_and_start_again(person, person.change("half"), "upload: answer", 2)  # a chunk is there already


async def test_the_first_save_of_a_fork(server: ForkedServer) -> None:
    owner, guest = server.call("make_people", 2)
    original = Person(server, owner, image_machine())
    shared = await original.change("to be shared").attempt()
    link = original.reader.client.post(f"/api/v1/snapshots/{shared}/links", json={"mode": "fork"})
    with Reader(server.url, guest["vm"], guest["token"]) as reader:
        secret = link.json()["url"].partition("#")[2]
        vm = reader.client.post("/api/v1/links/exchange", json={"secret": secret}).json()["vm"]["id"]
    fork = Person(server, guest | {"vm": vm}, original.machine)
    await die_and_start_again(fork, fork.change("of the guest"), FORK_STEP)
    original.nothing_is_lost()
