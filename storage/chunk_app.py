"""Serving chunks over HTTP: a bare ASGI application before Django, without a session or middleware.

`GET /chunks/pub/<sha256>` and `GET /chunks/t/<tenant>/<key>?e=<expiry>&m=<member>&s=<signature>`;
`POST /chunks/bundle` answers many of them at once (docs/design/api.md). It is the origin of a CDN, or the
only place there is (docs/design/delivery.md). What does not exist, what is not signed rightly and what was
signed for somebody who has lost the right are answered alike. A local store's files are read in blocks by a
few threads; an S3 store's objects are read whole.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from io import BytesIO
from typing import IO, Any, TypeVar

import zstandard

from storage.codec import MAX_WINDOW_BYTES, decode_frame, encode_frame, frame_content_size
from storage.errors import BadChunk, ChunkNotFound, StoreUnavailable
from storage.packs import MAX_PACK_BYTES
from storage.readers import still_stands
from storage.signing import signed_member
from storage.stores import KEY, get_store
from storage.stores.local import LocalStore
from webvm.errors import WebVMError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[..., Awaitable[None]]
T = TypeVar("T")

PREFIX = "/chunks/"
BUNDLE = PREFIX + "bundle"
# What one answer may hold is bounded, because a server that writes faster than the client reads keeps it all.
MAX_BUNDLE = 64
MAX_BUNDLE_REQUEST = MAX_BUNDLE * 512
# So many chunks of a bundle are read at once and sent as one piece.
_BUNDLE_STEP = 8
# A chunk is one block; only packs are sent in several.
BLOCK_BYTES = 288 * 1024
_BASE_HEADERS = [
    (b"access-control-allow-origin", b"*"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"vary", b"accept-encoding"),
]
_threads = ThreadPoolExecutor(8, thread_name_prefix="chunks")
_log = logging.getLogger(__name__)


class ChunkApp:
    """Answers what is below `/chunks/` and hands everything else to `inner`."""

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self.inner(scope, receive, send)
            return
        method = scope["method"]
        if method == "OPTIONS":
            await _send_empty(send, 204)
        elif method == "POST" and scope["path"] == BUNDLE:
            await _send_bundle(scope, receive, send)
        elif method not in {"GET", "HEAD"}:
            await _send_empty(send, 405)
        else:
            try:
                await _send_chunk(scope, send)
            except WebVMError as error:
                if error.status >= 500:
                    _log.error("chunk %s: %s", scope["path"], error)
                await _send_error(send, error)


async def _send_chunk(scope: Scope, send: Send) -> None:
    """Nothing may fail once the head is sent: what can be checked is checked before."""
    key = scope["path"].removeprefix(PREFIX)
    file, stored_size, first = await _in_thread(_open, key, scope["query_string"].decode("latin-1"))
    with file:
        size: int | None = stored_size
        if _accepts_zstd(scope["headers"]):
            coding = [(b"content-encoding", b"zstd")]
            blocks = _stored_blocks(file, first, stored_size)
        else:
            coding = []
            if stored_size <= len(first):
                raw = await _in_thread(_decode, first)
                size, blocks = len(raw), _one_block(raw)
            else:
                # Without a length, because a damaged pack ends early; its reader sees that it is incomplete.
                size, blocks = None, _decoded_blocks(file)
        public = b"public" if key.startswith("pub/") else b"private"
        headers = [
            *_BASE_HEADERS,
            *coding,
            (b"content-type", b"application/octet-stream"),
            (b"cache-control", public + b", max-age=31536000, immutable"),
        ]
        if size is not None:
            headers.append((b"content-length", b"%d" % size))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "GET":
            async with aclosing(blocks):
                async for block in blocks:
                    await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _send_bundle(scope: Scope, receive: Receive, send: Send) -> None:
    """For each line of the body, in order: the raw size (u32 LE) and the raw bytes, as one run of zstd frames
    for who takes zstd. Size 0 is a chunk that this request does not get: asked for alone, it is answered with
    the reason.
    """
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        if len(body) > MAX_BUNDLE_REQUEST or body.count(b"\n") >= MAX_BUNDLE:
            await _send_empty(send, 413)
            return
        if not message.get("more_body"):
            break
    paths = body.decode("latin-1").split("\n")
    zstd = _accepts_zstd(scope["headers"])
    headers = [
        *_BASE_HEADERS,
        *([(b"content-encoding", b"zstd")] if zstd else []),
        (b"content-type", b"application/octet-stream"),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for at in range(0, len(paths), _BUNDLE_STEP):
        step = (_in_thread(_bundled, path, zstd) for path in paths[at : at + _BUNDLE_STEP])
        piece = b"".join(await asyncio.gather(*step))
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _bundled(path: str, zstd: bool) -> bytes:
    """A bundle's entry for a path below `/chunks/`. Stored frames are passed on as they are."""
    try:
        key, _, query = path.partition("?")
        file, stored_size, frame = _open(key, query)
        file.close()
        if stored_size > len(frame):
            raise BadChunk("A pack is not sent in a bundle.")
        size = frame_content_size(frame)
        if zstd:
            return encode_frame(size.to_bytes(4, "little")) + frame
        return size.to_bytes(4, "little") + decode_frame(frame)
    except WebVMError as error:
        if error.status >= 500:
            _log.error("chunk %s in a bundle: %s", path.partition("?")[0], error)
        nothing = (0).to_bytes(4, "little")
        return encode_frame(nothing) if zstd else nothing


def _check_readable(key: str, query: str) -> None:
    """Raises `ChunkNotFound` unless it is a key that this request may read, and `StoreUnavailable`."""
    if not KEY.fullmatch(key):
        raise ChunkNotFound
    if not key.startswith("pub/"):
        member = signed_member(key, query)
        if member is None or not still_stands(member):
            raise ChunkNotFound


def _accepts_zstd(headers: list[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        if name == b"accept-encoding":
            for part in value.lower().split(b","):
                coding, _, weight = part.strip().partition(b";")
                if coding.strip() == b"zstd" and weight.replace(b" ", b"") not in {
                    b"q=0",
                    b"q=0.0",
                    b"q=0.00",
                }:
                    return True
    return False


def _open(key: str, query: str) -> tuple[IO[bytes], int, bytes]:
    """What the query may read: an open file behind its first block, its size, and that block."""
    _check_readable(key, query)
    store = get_store()
    if not isinstance(store, LocalStore):
        stored = store.get(key)
        opened: IO[bytes] = BytesIO(stored)
        return opened, len(stored), opened.read(BLOCK_BYTES)
    try:
        file = open(store.path(key), "rb", buffering=0)  # noqa: SIM115 - the caller closes it
    except FileNotFoundError:
        raise ChunkNotFound from None
    except OSError as error:
        raise StoreUnavailable from error
    size = file.seek(0, 2)
    file.seek(0)
    return file, size, file.read(BLOCK_BYTES)


def _decode(stored: bytes) -> bytes:
    try:
        return decode_frame(stored, MAX_PACK_BYTES)
    except BadChunk as error:
        raise StoreUnavailable("The stored chunk is damaged. Tell an admin of this site.") from error


async def _one_block(raw: bytes) -> AsyncGenerator[bytes, None]:
    yield raw


async def _stored_blocks(file: IO[bytes], first: bytes, size: int) -> AsyncGenerator[bytes, None]:
    yield first
    sent = len(first)
    while sent < size and (block := await _in_thread(file.read, BLOCK_BYTES)):
        sent += len(block)
        yield block


async def _decoded_blocks(file: IO[bytes]) -> AsyncGenerator[bytes, None]:
    file.seek(0)
    reader: Iterator[bytes] = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).read_to_iter(
        file, read_size=BLOCK_BYTES, write_size=BLOCK_BYTES
    )
    try:
        while block := await _in_thread(lambda: next(reader, b"")):
            yield block
    except zstandard.ZstdError as error:
        _log.error("a stored pack is damaged: %s", error)


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads, work, *arguments)


async def _send_error(send: Send, error: WebVMError) -> None:
    body = json.dumps({"error": error.as_json()}).encode()
    headers = [
        *_BASE_HEADERS,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_empty(send: Send, status: int) -> None:
    methods = b"GET, HEAD, OPTIONS"
    allowed = [(b"allow", methods), (b"access-control-allow-methods", methods)]
    headers = [*_BASE_HEADERS, *allowed, (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
