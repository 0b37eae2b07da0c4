"""Somebody who saves on a real server and tries again what was cut off."""

from __future__ import annotations

import uuid
from typing import Any

from storage.codec import encode_frame
from tests.support.forked import ForkedServer
from tests.support.machines import Machine, Refused, block
from tests.support.wire import Reader, WireSocket


class Person:
    """Somebody with a machine, what was acknowledged to them, and what their quota should say."""

    def __init__(self, server: ForkedServer, account: dict[str, str], machine: Machine) -> None:
        self.server, self.account, self.machine = server, account, machine
        self.reader = Reader(server.url, account["vm"], account["token"])
        self.head = self.reader.head()
        self.saved = [(self.head, machine)] if self.head else []
        self.uploaded: dict[str, int] = {}

    def change(self, text: str) -> Save:
        machine = self.machine.copy()
        if self.saved:
            digests = machine.disk.write({7: block(text)})
        else:  # the memory too, and a block that the first save of a fork leaves as it was
            digests = [*machine.write(text), *machine.disk.write({8: block(text)})]
        return Save(self, machine, digests, uuid.uuid4(), uuid.uuid4())

    def nothing_is_lost(self, *, complete: bool = True) -> None:
        """All acknowledged snapshots are there, byte for byte, and nothing else; the quota is right. Not
        `complete`: some of what was uploaded may not have been stored.
        """
        found = [each["id"] for each in self.reader.snapshots()]
        assert found == [snapshot for snapshot, _ in reversed(self.saved)]
        assert self.reader.head() == self.head
        for snapshot, machine in self.saved[-1:]:
            self.reader.holds(snapshot, machine)
        accounts: dict[str, Any] = self.server.call("accounts_of", self.account["tenant"])
        assert accounts["used_bytes"] == accounts["stored"] <= sum(self.uploaded.values())
        assert not complete or accounts["stored"] == sum(self.uploaded.values())


class Save:
    """One save that can be tried again: the same session, the same key."""

    def __init__(
        self, person: Person, machine: Machine, digests: list[str], session: uuid.UUID, key: uuid.UUID
    ) -> None:
        self.person, self.machine, self.digests = person, machine, digests
        self.session, self.key = session, key

    async def attempt(self) -> str:
        """From the lease to the answer; the snapshot. Raises `Closed`, `Refused`."""
        person = self.person
        async with WireSocket(person.server.url, person.account["vm"], person.account["token"]) as socket:
            await socket.lease(self.session)
            for digest in await socket.negotiate(self.machine, self.digests):
                person.uploaded[digest] = len(encode_frame(self.machine.raw(digest)))
                outcome = await socket.upload(self.machine.raw(digest))
                if outcome["type"] != "stored":
                    raise Refused(outcome["error"])
            snapshot = await socket.commit(self.machine, person.head, idempotency_key=str(self.key))
            person.head, person.machine = snapshot["id"], self.machine
            person.saved.append((snapshot["id"], self.machine))
            await socket.request("release", epoch=socket.epoch)
            return str(snapshot["id"])
