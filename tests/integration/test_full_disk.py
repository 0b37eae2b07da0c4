"""A server whose disk is full: saving is refused with a reason, nothing is lost, and with room it goes on.

The disk is full for the chunks or for the database. A limit on the length of files works for everybody; where
this process may mount one, a small file system that really is full as well.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forked import ForkedServer
from tests.support.machines import Refused, image_machine
from tests.support.saving import Person, Save

LIMIT = 160 * 1024
"""Bytes of a file: less than a chunk of random bytes, more than the first saves write into the database's
log.
"""
FILE_SYSTEM = 16 * 1024**2
TOLD = {"store_unavailable", "unavailable"}


@pytest.fixture
def server(prepared_server: ForkedServer) -> Iterator[ForkedServer]:
    prepared_server.start()
    yield prepared_server
    prepared_server.kill()


def large(person: Person) -> Save:
    """A save of a chunk that does not compress."""
    machine = person.machine.copy()
    digests = machine.disk.write({number: os.urandom(4096) for number in range(64)})
    return Save(person, machine, digests, uuid.uuid4(), uuid.uuid4())


async def save_until_refused(person: Person, kind: str) -> Save:
    """The save that was refused."""
    for number in range(200):
        save = large(person) if kind == "chunks" else person.change(f"number {number}")
        try:
            await save.attempt()
        except Refused as error:
            refused = error
            break
    else:
        raise AssertionError("the disk never was full")
    assert refused.code in TOLD
    return save


@pytest.mark.parametrize("kind", ["chunks", "database"])
async def test_files_that_cannot_grow(server: ForkedServer, kind: str) -> None:
    person = Person(server, server.call("make_people", 1)[0], image_machine())
    await person.change("before").attempt()
    server.kill()
    server.start(file_limit=LIMIT)
    save = await save_until_refused(person, kind)
    person.reader.holds(person.head, person.machine)  # reading needs no room
    server.kill()
    server.start()
    person.nothing_is_lost(complete=False)
    await save.attempt()
    person.nothing_is_lost()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, bool]]:
    """A folder with little room, and whether it has: a file system of its own, where one can be mounted."""
    folder = tmp_path / "service"
    folder.mkdir()
    options = f"size={FILE_SYSTEM}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    yield folder, mounted
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_file_system_without_room(small_disk: tuple[Path, bool]) -> None:
    folder, is_small = small_disk
    with ForkedServer(folder) as server:
        server.call("publish")
        server.start(file_limit=FILE_SYSTEM)  # all that bounds it where nothing could be mounted
        person = Person(server, server.call("make_people", 1)[0], image_machine())
        await person.change("before").attempt()
        ballast = folder / "ballast"
        room = min(FILE_SYSTEM, os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize)
        ballast.write_bytes(bytes(max(0, room - 512 * 1024)))
        save = await save_until_refused(person, "chunks") if is_small else large(person)
        person.reader.holds(person.head, person.machine)
        ballast.unlink()
        await save.attempt()
        person.nothing_is_lost()
