"""One look at the database for all sockets of a process, instead of one for each.

A hint from the channel layer makes a socket's turn come at once; without one it comes every few seconds,
since the layer may drop hints. Either way the sockets of one turn are looked up together: what it costs is a
few queries for each `BATCH` of sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Protocol
from uuid import UUID
from weakref import WeakKeyDictionary

from sessions.peers import Credentials, VMState, find_states
from sessions.threads import in_thread
from webvm.accounts.models import User

log = logging.getLogger(__name__)

LOOK_EVERY = 3.0
"""Seconds between looks at what a lost hint would have told."""
BATCH = 500
"""Sockets looked up together: the others' work gets its turn in between."""


class Watched(Protocol):
    """A socket that wants to know what others change."""

    credentials: Credentials
    vm_id: UUID

    def notice(self, user: User | None, state: VMState | None) -> None:
        """What is true now: the user behind the credentials, and the VM, if they are still there. Must not
        wait.
        """


class Watch:
    """The watched sockets of one event loop."""

    def __init__(self) -> None:
        self._sockets: set[Watched] = set()
        self._hinted: set[Watched] = set()
        self._hint = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, socket: Watched) -> None:
        self._sockets.add(socket)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def remove(self, socket: Watched) -> None:
        self._sockets.discard(socket)
        self._hinted.discard(socket)
        if not self._sockets:
            self._hint.set()

    def hint(self, socket: Watched) -> None:
        """Look for this one now."""
        if socket in self._sockets:
            self._hinted.add(socket)
            self._hint.set()

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        due = clock() + LOOK_EVERY
        while self._sockets:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hint.wait(), max(0.0, due - clock()))
            self._hint.clear()
            if clock() >= due:
                sockets, due = list(self._sockets), clock() + LOOK_EVERY
            else:
                sockets = list(self._hinted)
            self._hinted.difference_update(sockets)
            for at in range(0, len(sockets), BATCH):
                await self._look(sockets[at : at + BATCH])

    async def _look(self, sockets: list[Watched]) -> None:
        try:
            found = await in_thread(find_states, [(each.credentials, each.vm_id) for each in sockets])
        except Exception:
            log.exception("%d sockets could not look at their state", len(sockets))
            return
        for socket, (user, state) in zip(sockets, found, strict=True):
            if socket in self._sockets:
                socket.notice(user, state)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, Watch] = WeakKeyDictionary()


def the_watch() -> Watch:
    """The watch of the running event loop."""
    return _watches.setdefault(asyncio.get_running_loop(), Watch())
