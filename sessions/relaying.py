"""Watching: what the holder's terminal shows is relayed to the sockets that asked for it.

Nothing is relayed while nobody watches, and nothing is kept: what does not fit into the holder's rate or a
watcher's window is dropped. A watcher sees the gap in the frames' numbers and asks for a whole screen. The
channel layer may drop frames too, which looks just the same.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from channels.layers import BaseChannelLayer

from sessions.announce import vm_group, watch_group

RATE, BURST = 128 << 10, 512 << 10
"""Bytes a second that a holder may have relayed, and at once."""
LEAST_COST = 2 << 10
"""What a frame counts at least, so that many tiny ones are limited too."""
WINDOW = 256 << 10
"""Bytes a watcher may have been sent without saying that they arrived."""
WATCHED_FOR = 8.0
"""Seconds for which a watcher's sign of life is good; it gives one every few seconds."""


class ScreenRelay:
    """One socket's part in it: as the holder that is watched, or as a watcher."""

    def __init__(self, vm_id: UUID, layer: BaseChannelLayer, channel: str) -> None:
        self.vm_id, self.layer, self.channel = vm_id, layer, channel
        self.on = False
        self.unseen = 0
        self.watched_until = 0.0
        self.allowance, self.allowance_at = float(BURST), time.monotonic()

    async def watch(self, on: bool, fresh: bool) -> None:
        """Begin or end to watch. `fresh` asks the holder for a whole screen."""
        if on != self.on:
            self.on, self.unseen = on, 0
            act = self.layer.group_add if on else self.layer.group_discard
            await act(watch_group(self.vm_id), self.channel)
        if on:
            await self.show_up(fresh=fresh)

    async def show_up(self, *, fresh: bool = False) -> None:
        """Tell the holder that somebody watches. Called every few seconds."""
        if self.on:
            await self.layer.group_send(vm_group(self.vm_id), {"type": "watch.wanted", "fresh": fresh})

    def wanted(self) -> None:
        """This socket is the holder's, and somebody watches."""
        self.watched_until = time.monotonic() + WATCHED_FOR

    async def relay(self, data: bytes) -> None:
        """Pass a frame of the holder on, if anybody watches and the rate allows it."""
        now = time.monotonic()
        self.allowance = min(BURST, self.allowance + (now - self.allowance_at) * RATE)
        self.allowance_at = now
        cost = max(LEAST_COST, len(data))
        if now > self.watched_until or cost > self.allowance:
            return
        self.allowance -= cost
        await self.layer.group_send(watch_group(self.vm_id), {"type": "watch.frame", "data": data})

    async def deliver(self, event: dict[str, Any], send: Callable[[bytes], Awaitable[None]]) -> None:
        """A frame for this watcher: sent if its window has room."""
        data: bytes = event["data"]
        if self.on and self.unseen + len(data) <= WINDOW:
            self.unseen += len(data)
            await send(data)

    def seen(self, count: int) -> None:
        self.unseen = max(0, self.unseen - count)

    async def end(self) -> None:
        await self.watch(on=False, fresh=False)
