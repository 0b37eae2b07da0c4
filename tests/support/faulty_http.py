"""A hostile proxy in front of a real HTTP server: answers errors, cuts, resets, delays or lies, as told."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

Fault = Literal["500", "503", "reset", "reset_after", "cut", "lie", "slow"]
"""`500`, `503`: such an answer, without asking the server. `reset`: the connection is reset before the
request is passed on; `reset_after`: after the server has carried it out, instead of its answer. `cut`: the
answer ends in the middle. `lie`: 200 without asking. `slow`: passed on after a second."""

ANSWERS = {
    "500": (b"500 Internal Server Error", b"<Error><Code>InternalError</Code></Error>"),
    "503": (b"503 Slow Down", b"<Error><Code>SlowDown</Code></Error>"),
    "lie": (b"200 OK", b""),
}


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    number: int


class FaultyProxy:
    """Context manager; `url` is that of the server with another port.

    `fault` is asked about every request and answers what goes wrong with it, None for nothing.
    """

    def __init__(self, target_port: int, fault: Callable[[Seen], Fault | None] = lambda seen: None) -> None:
        self.fault = fault
        self.seen: list[Seen] = []
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, method: str, part: str = "") -> int:
        """How many requests of a method came with `part` in their path."""
        return sum(seen.method == method and part in seen.path for seen in self.seen)

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result(10)
        self.port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def end() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._serve_one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether another may follow on the connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.split(b" ", 2)
        seen = Seen(method.decode(), path.decode(), len(self.seen))
        self.seen.append(seen)
        fault = self.fault(seen)
        if fault == "reset":
            _reset(writer)
            return False
        if b"expect: 100-continue" in head.lower():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(_length(head))
        if fault in ANSWERS:
            status, text = ANSWERS[fault]
            length = b"content-length: %d\r\n\r\n" % len(text)
            # As a real store does, so that a browser's page may see the status.
            allow = b"access-control-allow-origin: *\r\n"
            writer.write(b"HTTP/1.1 " + status + b"\r\n" + allow + length + text)
            await writer.drain()
            return True
        if fault == "slow":
            await asyncio.sleep(1)
        answer = await self._ask(head, body)
        if fault == "reset_after":
            _reset(writer)
            return False
        if fault == "cut":
            middle = answer.index(b"\r\n\r\n") + 4
            writer.write(answer[: middle + (len(answer) - middle) // 2])
            await writer.drain()
            return False
        writer.write(answer)
        await writer.drain()
        return True

    async def _ask(self, head: bytes, body: bytes) -> bytes:
        """The server's whole answer, on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        try:
            lines = [
                line
                for line in head.split(b"\r\n")
                if not line.lower().startswith((b"connection:", b"expect:"))
            ]
            writer.write(b"\r\n".join([lines[0], b"Connection: close", *lines[1:]]) + body)
            await writer.drain()
            answer = await reader.read()
        finally:
            writer.close()
        # The connection to the client stays open.
        top, _, rest = answer.partition(b"\r\n\r\n")
        kept = [line for line in top.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        return b"\r\n".join(kept) + b"\r\n\r\n" + rest


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
