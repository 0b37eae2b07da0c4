"""The WebSocket of an open VM (docs/design/protocol.md).

What a client can make the server hold is bounded before anything is parsed: at most `MAX_CREDIT` chunk frames
and `MAX_WAITING` requests are in memory per socket, whatever it sends, and what exceeds them ends the socket.
Database and store work runs in threads; the event loop only moves frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import replace
from typing import Any
from uuid import UUID

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer

from sessions import protocol
from sessions.actions.commits import add_pending_bytes
from sessions.announce import login_group, user_group, vm_group
from sessions.peers import Credentials, VMState, credentials_of, find_state, find_user, may_connect
from sessions.protocol import BadFrame, ChunkFrame, Commit, Release, Seen, TakeLease, Uploaded, Watch
from sessions.relaying import ScreenRelay
from sessions.threads import in_thread
from sessions.watching import the_watch
from webvm.accounts.models import User
from webvm.errors import WebVMError

log = logging.getLogger(__name__)

BAD_FRAME, SIGNED_OUT, NOT_FOUND, TAKEN_OVER, TOO_FAST = 4400, 4401, 4404, 4409, 4429

MAX_WAITING = 8
"""Requests under way at once, together no longer than a frame may be. Who waits for answers has one."""
RATE, BURST = 20.0, 60.0
"""Text frames a second, and how many may come at once."""
LARGE = 64 << 10
"""Characters of a text frame that count as one more frame."""
STORING_AT_ONCE = 4


def unavailable() -> dict[str, str]:
    """For what should not happen, such as a database that is away: the client waits and tries again."""
    return {
        "code": "unavailable",
        "message": "The service cannot do this right now. Nothing was lost; try again.",
    }


class VMConsumer(AsyncWebsocketConsumer):
    user: User
    vm_id: UUID
    credentials: Credentials
    known: VMState
    relay: ScreenRelay

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.open = False
        self.epoch: int | None = None  # of the lease taken on this socket
        self.may_upload = False
        self.fresh_bytes = 0
        self.chunks_held = 0
        self.requests_held = 0
        self.text_held = 0
        self.seq = 0
        self.allowance, self.allowance_at = BURST, time.monotonic()
        self.tasks: set[asyncio.Task[None]] = set()
        self.one_request = asyncio.Lock()
        self.storing = asyncio.Semaphore(STORING_AT_ONCE)
        self.joined: list[str] = []
        self.told_asked: object = None  # the question for the lease that the client knows of

    # Opening and closing

    async def websocket_connect(self, message: Any) -> None:
        self.vm_id = self.scope["url_route"]["kwargs"]["vm_id"]
        self.credentials = credentials_of(self.scope)
        if not may_connect(self.scope, self.credentials):
            await self.close()  # before the accept: the handshake is answered 403
            return
        await self.accept()
        self.relay = ScreenRelay(self.vm_id, self.channel_layer, self.channel_name)
        self.open = True
        user = await in_thread(find_user, self.credentials)
        if user is None:
            await self.end(SIGNED_OUT)
            return
        self.user = user
        # Joined before the state is read, so that no change falls in between.
        await self.join(vm_group(self.vm_id), user_group(user.pk))
        if self.credentials.session_key:
            await self.join(login_group(self.credentials.session_key))
        state = await in_thread(find_state, user, self.vm_id)
        if state is None:
            await self.end(NOT_FOUND)
            return
        self.known = state
        the_watch().add(self)

    async def join(self, *groups: str) -> None:
        for group in groups:
            await self.channel_layer.group_add(group, self.channel_name)
            self.joined.append(group)

    async def end(self, code: int) -> None:
        """Close once; frames that come later are not looked at."""
        if self.open:
            self.open = False
            the_watch().remove(self)
            await self.close(code)

    async def websocket_disconnect(self, message: Any) -> None:
        self.open = False
        the_watch().remove(self)
        for group in self.joined:
            await self.channel_layer.group_discard(group, self.channel_name)
        if (
            self.tasks
        ):  # what runs in a thread cannot be stopped half-way; what waits sees that the socket is closed
            await asyncio.wait(self.tasks)
        if self.joined:
            await self.relay.end()
        if self.fresh_bytes:
            await in_thread(add_pending_bytes, self.vm_id, self.fresh_bytes)
        raise StopConsumer

    # What comes in: counted first, parsed later

    async def websocket_receive(self, message: Any) -> None:
        if not self.open:
            return
        data, text = message.get("bytes"), message.get("text")
        try:
            if data is not None:
                await self.receive_binary(data)
            else:
                await self.receive_request(text or "")
        except BadFrame:
            await self.end(BAD_FRAME)

    async def receive_binary(self, data: bytes) -> None:
        if not self.may_upload:
            raise BadFrame("no lease on this socket")
        frame = protocol.parse_binary(data)
        if isinstance(frame, ChunkFrame):
            if self.chunks_held >= protocol.MAX_CREDIT:
                raise BadFrame("no credit left")
            self.chunks_held += 1
            self.start(self.store(frame))
        elif self.epoch is not None:
            await self.relay.relay(frame.data)

    async def receive_request(self, text: str) -> None:
        now = time.monotonic()
        self.allowance = min(BURST, self.allowance + (now - self.allowance_at) * RATE)
        self.allowance_at = now
        # A large question may have as large an answer, which is held until the other end reads it.
        cost = 1 + len(text) / LARGE
        is_full = self.requests_held >= MAX_WAITING or self.text_held + len(text) > protocol.MAX_TEXT
        if self.allowance < cost or (self.requests_held and is_full):
            await self.end(TOO_FAST)
            return
        self.allowance -= cost
        request = protocol.parse_text(text)
        if isinstance(request, Seen):
            self.relay.seen(request.count)
            return
        self.requests_held += 1
        self.text_held += len(text)
        self.start(self.carry_out(request, len(text)))

    def start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    # What is done with it

    async def carry_out(self, request: Any, size: int) -> None:
        try:
            # In the order they came; but a slow object store must not keep a lease from being renewed.
            async with self.storing if isinstance(request, Uploaded) else self.one_request:
                if not self.open:
                    return
                reply: dict[str, Any] = {"id": request.id, "ok": True}
                fresh = self.fresh_bytes if isinstance(request, Commit) else 0
                try:
                    if isinstance(request, Watch):
                        await self.relay.watch(request.on, request.fresh)
                        await self.tell(reply)
                        return
                    reply |= await in_thread(protocol.answer, request, self.vm_id, self.user, fresh)
                except WebVMError as error:
                    reply = {"id": request.id, "ok": False, "error": error.as_json()}
                except BadFrame:
                    await self.end(BAD_FRAME)
                    return
                except Exception:
                    log.exception("a %s of VM %s failed", request.type, self.vm_id)
                    reply = {"id": request.id, "ok": False, "error": unavailable()}
                else:
                    self.note(request, reply, fresh)
                    if isinstance(request, TakeLease):
                        await self.relay.end()  # or it would be shown its own screen
                await self.tell(reply)
        finally:
            self.requests_held -= 1
            self.text_held -= size

    def note(self, request: Any, reply: dict[str, Any], fresh: int) -> None:
        """What a successful request changes for this socket."""
        if isinstance(request, TakeLease):
            self.epoch = reply["epoch"]
            self.may_upload = True
            self.told_asked = None
            the_watch().hint(self)  # a take-over that came right behind was not ours to notice yet
        elif isinstance(request, Release) and request.epoch == self.epoch:
            self.epoch = None
            self.may_upload = False
        elif isinstance(request, Uploaded):
            self.fresh_bytes += reply.pop("fresh_bytes")
        elif isinstance(request, Commit):
            self.fresh_bytes -= fresh

    async def store(self, chunk: protocol.ChunkFrame) -> None:
        digest = chunk.digest.hex()
        reply: dict[str, Any] = {"type": "stored", "digest": digest, "credit": 1}
        try:
            async with self.storing:
                if not self.open:
                    return
                self.fresh_bytes += await in_thread(protocol.store, self.known.tenant, chunk)
        except WebVMError as error:
            reply = {"type": "refused", "digest": digest, "error": error.as_json(), "credit": 1}
        except Exception:
            log.exception("a chunk of VM %s could not be stored", self.vm_id)
            reply = {"type": "refused", "digest": digest, "error": unavailable(), "credit": 1}
        finally:
            self.chunks_held -= 1
        await self.tell(reply)

    async def tell(self, message: dict[str, Any]) -> None:
        if self.open:
            with contextlib.suppress(ConnectionError, RuntimeError):  # closed by the other end at this moment
                await self.send(text_data=json.dumps(message))

    # What others change

    async def look_again(self, event: dict[str, Any]) -> None:
        """A hint came through the channel layer."""
        the_watch().hint(self)

    def notice(self, user: User | None, state: VMState | None) -> None:
        """The watch has looked; see `Watched`."""
        if user is None or user.pk != self.user.pk:
            self.start(self.be_revoked(SIGNED_OUT))
        elif state is None:
            self.start(self.be_revoked(NOT_FOUND))
        else:
            before, self.known = self.known, state
            if self.relay.on:
                self.start(self.relay.show_up())
            # While a request is under way it may be our own lease that is newer than what we know.
            is_lost = self.epoch is not None and state.epoch > self.epoch and not self.one_request.locked()
            is_news = replace(before, tenant=state.tenant) != state or self.must_tell_asked(state)
            if is_lost or is_news:
                self.start(self.tell_changes(before, state, is_lost))

    async def be_revoked(self, code: int) -> None:
        await self.hint("revoked")
        await self.end(code)

    async def tell_changes(self, before: VMState, state: VMState, is_lost: bool) -> None:
        if state.head != before.head:
            await self.hint("head")
        if (state.epoch, state.lease_session) != (before.epoch, before.lease_session):
            await self.hint("lease")
        if is_lost:
            await self.tell({"type": "taken_over", **state.holder})
            await self.end(TAKEN_OVER)
            return
        asked = state.asked
        if asked and self.must_tell_asked(state):
            self.told_asked = asked
            await self.tell({"type": "asked", "by": asked.by, "at": asked.at.isoformat()})

    def must_tell_asked(self, state: VMState) -> bool:
        """Whether there is a question for the lease of this socket that it was not told yet."""
        asked = state.asked
        is_new = asked is not None and asked != self.told_asked and asked.session != state.lease_session
        return is_new and self.epoch == state.epoch

    # Watching

    async def watch_wanted(self, event: dict[str, Any]) -> None:
        """Somebody watches this VM: for the holder's socket."""
        if self.epoch is not None:
            self.relay.wanted()
            await self.tell({"type": "watched", "fresh": bool(event["fresh"])})

    async def watch_frame(self, event: dict[str, Any]) -> None:
        """What the holder's terminal shows: for the watchers."""
        await self.relay.deliver(event, self.send_frame)

    async def send_frame(self, data: bytes) -> None:
        if self.open:
            with contextlib.suppress(ConnectionError, RuntimeError):
                await self.send(bytes_data=data)

    async def hint(self, kind: str) -> None:
        self.seq += 1
        await self.tell({"type": "hint", "seq": self.seq, "kind": kind})
