"""Receiving an archive: `POST /api/v1/vms/import` in front of Django, which would take a whole body first.

Django is asked with an empty body whether the import may begin, so signing in, tokens, CSRF and limits are
those of every call. Only then the archive is read, as fast as the disk takes it, into a spool file.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from channels.db import database_sync_to_async

from sessions.archives.errors import ArchiveTooLarge, ImportCancelled, UploadBrokeOff
from sessions.archives.imports import (
    SIZE_KEY,
    end_receiving,
    fail_receiving,
    max_bytes,
    spool_file,
    write_progress,
)
from sessions.archives.schemas import ImportOut
from sessions.models import ImportJob, ImportState
from storage.errors import StoreUnavailable
from webvm.errors import WebVMError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[..., Awaitable[None]]

PATH = "/api/v1/vms/import"
# A connection that sends nothing for so long is given up.
SILENCE_S = 60.0
_WRITE_BYTES = 1024 * 1024
_PROGRESS_S = 0.5
# What is read and thrown away so that a client that is still sending sees the answer.
_DRAIN_BYTES = 16 * 1024 * 1024
_DRAIN_S = 3.0
_BODY_HEADERS = {b"content-length", b"content-type", b"transfer-encoding", b"expect"}


class ImportApp:
    """Answers the import's path and hands everything else to `inner`."""

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self.inner(scope, receive, send)
            return
        answer = await self._ask_django(scope)
        if answer[0]["status"] == 202:
            job = await _find(UUID(json.loads(answer[1]["body"])["id"]))
            if job.state == ImportState.RECEIVING:
                answer = await _receive_archive(job, receive)
            else:
                await _drain(receive)
        else:
            await _drain(receive)
        for message in answer:
            await send(message)

    async def _ask_django(self, scope: Scope) -> list[dict[str, Any]]:
        """Django's answer to the same request without its body: the head, and one message with all of it."""
        given = dict(scope["headers"]).get(b"content-length", b"")
        asked = {
            **scope,
            "headers": [pair for pair in scope["headers"] if pair[0] not in _BODY_HEADERS],
            SIZE_KEY: int(given) if given.isdigit() and len(given) < 18 else None,
        }
        head: dict[str, Any] = {}
        body = b""
        is_asked = False

        async def receive() -> dict[str, Any]:
            nonlocal is_asked
            if is_asked:  # Django waits for a disconnect while it works
                await asyncio.get_running_loop().create_future()
            is_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            nonlocal head, body
            if message["type"] == "http.response.start":
                head = message
            else:
                body += message.get("body", b"")

        await self.inner(asked, receive, send)
        return [head, {"type": "http.response.body", "body": body}]


async def _receive_archive(job: ImportJob, receive: Receive) -> list[dict[str, Any]]:
    """Spools the body; the answer."""
    try:
        size = await _spool(job, receive)
        job = await database_sync_to_async(end_receiving)(job, size)
    except WebVMError as error:
        await database_sync_to_async(fail_receiving)(job, error)
        if not isinstance(error, UploadBrokeOff):
            await _drain(receive)
        return _answer(error.status, {"error": error.as_json()})
    except asyncio.CancelledError:
        await asyncio.shield(database_sync_to_async(fail_receiving)(job, UploadBrokeOff()))
        raise
    return _answer(202, ImportOut.of(job).model_dump(mode="json"))


async def _spool(job: ImportJob, receive: Receive) -> int:
    limit = max_bytes(job.tenant)
    size, told, parts, waiting = 0, 0.0, [], 0
    try:
        file = await asyncio.to_thread(_open_new, spool_file(job))
        try:
            while True:
                message = await _next(receive)
                part = message.get("body", b"")
                more = message.get("more_body", False)
                size, waiting = size + len(part), waiting + len(part)
                if size > limit:
                    raise ArchiveTooLarge(max_bytes=limit)
                parts.append(part)
                if waiting >= _WRITE_BYTES or not more:
                    await asyncio.to_thread(_write, file, b"".join(parts), not more)
                    parts, waiting = [], 0
                if time.monotonic() - told > _PROGRESS_S or not more:
                    told = time.monotonic()
                    if not await database_sync_to_async(write_progress)(job, size):
                        raise ImportCancelled("The import was cancelled, or is being sent again.")
                if not more:
                    return size
        finally:
            await asyncio.to_thread(file.close)
    except OSError as error:
        raise StoreUnavailable(
            "The server's disk cannot take the archive. Tell an admin of this site."
        ) from error


async def _next(receive: Receive) -> MutableMapping[str, Any]:
    try:
        async with asyncio.timeout(SILENCE_S):
            message = await receive()
    except TimeoutError:
        raise UploadBrokeOff from None
    if message["type"] == "http.disconnect":
        raise UploadBrokeOff
    return message


async def _drain(receive: Receive) -> None:
    left = _DRAIN_BYTES
    try:
        async with asyncio.timeout(_DRAIN_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _answer(status: int, value: dict[str, Any]) -> list[dict[str, Any]]:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return [
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": body},
    ]


@database_sync_to_async
def _find(job_id: UUID) -> ImportJob:
    return ImportJob.objects.select_related("tenant").get(pk=job_id)


def _open_new(path: Path) -> IO[bytes]:
    return path.open("xb")


def _write(file: IO[bytes], data: bytes, is_last: bool) -> None:
    file.write(data)
    if is_last:
        file.flush()
        os.fsync(file.fileno())
