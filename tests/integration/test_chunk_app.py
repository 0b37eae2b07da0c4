"""Chunks over HTTP: what is served, how, and to whom."""

from __future__ import annotations

import os
import sys
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from django.conf import LazySettings

from storage.chunk_app import ChunkApp
from storage.codec import digest_of, encode_frame
from storage.packs import compress_pack, decode_pack, encode_pack
from storage.signing import sign_path, sign_until
from storage.stores import get_store
from tests.support.faulty_http import Fault, FaultyProxy, Seen
from tests.support.s3 import S3Server

RAW = b"some bytes of a chunk " * 3000
KEY = f"pub/{digest_of(RAW).hex()}"
PRIVATE = f"t/{uuid.UUID(int=5)}/{digest_of(b'its name').hex()}"
ZSTD = {"Accept-Encoding": "gzip, zstd"}
PLAIN = {"Accept-Encoding": "gzip"}


async def django(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"from Django"})


async def ask(
    path: str, headers: dict[str, str] | None = None, method: str = "GET", content: bytes | None = None
) -> tuple[httpx.Response, bytes]:
    """The answer and its bytes as sent."""
    transport = httpx.ASGITransport(ChunkApp(django))
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        client.stream(method, path, headers=headers or ZSTD, content=content) as response,
    ):
        body = b"".join([part async for part in response.aiter_raw()])
    return response, body


@pytest.fixture(autouse=True)
def stored(settings: LazySettings, tmp_path: Path) -> None:
    settings.CHUNK_DIR = tmp_path
    get_store().put(KEY, encode_frame(RAW))
    get_store().put(PRIVATE, encode_frame(RAW))


async def test_a_public_chunk_is_sent_as_stored() -> None:
    response, body = await ask(f"/chunks/{KEY}")
    assert response.status_code == 200
    assert body == encode_frame(RAW)
    assert response.headers["content-encoding"] == "zstd"
    assert response.headers["content-length"] == str(len(body))
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize("accepted", ["gzip", "", "zstd;q=0", "gzip, zstd; q=0"])
async def test_it_is_decoded_for_who_does_not_take_zstd(accepted: str) -> None:
    response, body = await ask(f"/chunks/{KEY}", {"Accept-Encoding": accepted})
    assert body == RAW
    assert "content-encoding" not in response.headers
    assert response.headers["content-length"] == str(len(RAW))


async def test_head_sends_no_bytes() -> None:
    response, body = await ask(f"/chunks/{KEY}", method="HEAD")
    assert (response.status_code, body) == (200, b"")
    assert response.headers["content-length"] == str(len(encode_frame(RAW)))


@pytest.mark.parametrize("headers", [ZSTD, PLAIN])
async def test_a_pack_of_many_blocks_arrives_whole(headers: dict[str, str]) -> None:
    pack = encode_pack([os.urandom(200_000) for _ in range(15)])
    key = f"pub/{digest_of(pack).hex()}"
    get_store().put(key, compress_pack(pack, threads=1))
    _, body = await ask(f"/chunks/{key}", headers)
    if headers is ZSTD:
        assert body == get_store().get(key)
    else:
        assert body == pack
        assert len(decode_pack(body)) == 15


async def test_a_signed_private_chunk_is_served() -> None:
    response, body = await ask("/chunks/" + sign_path(PRIVATE))
    assert (response.status_code, body) == (200, encode_frame(RAW))
    assert response.headers["cache-control"] == "private, max-age=31536000, immutable"


async def test_unknown_badly_signed_and_expired_are_answered_alike() -> None:
    signed = sign_path(PRIVATE)
    unknown = f"t/{uuid.UUID(int=6)}/{'0' * 64}"
    expiry, member, signature = (part.split("=")[1] for part in signed.split("?")[1].split("&"))
    paths = [
        PRIVATE,
        sign_path(unknown),
        sign_until(PRIVATE, int(time.time()) - 1),
        signed[:-1] + ("0" if signed[-1] != "0" else "1"),
        signed.replace(PRIVATE, unknown),
        f"{PRIVATE}?e={int(expiry) + 1}&m=0&s={signature}",
        f"{PRIVATE}?e=&m=0&s={signature}",
        f"{PRIVATE}?e=x&m=0&s={signature}",
        f"{PRIVATE}?e={'9' * 400}&m=0&s={signature}",
        f"{PRIVATE}?e={expiry}&m=0&s=%C3%A9",
        f"{PRIVATE}?e={expiry}&m={int(member) + 1}&s={signature}",
        f"{PRIVATE}?e={expiry}&s={signature}",
        f"pub/{'0' * 64}",
        "pub/",
        "",
        "pub/%2e%2e/%2e%2e/etc/passwd",
        f"pub/{'A' * 64}",
        f"{KEY}/x",
    ]
    answers = {
        (response.status_code, body) for response, body in [await ask(f"/chunks/{path}") for path in paths]
    }
    assert len(answers) == 1
    assert next(iter(answers))[0] == 404


async def test_an_answer_that_is_no_chunk_is_not_kept() -> None:
    response, _ = await ask(f"/chunks/pub/{'0' * 64}")
    assert response.headers["cache-control"] == "no-store"


async def test_only_reading_is_allowed() -> None:
    for method in ("POST", "PUT", "DELETE"):
        response, _ = await ask(f"/chunks/{KEY}", method=method)
        assert response.status_code == 405
    response, _ = await ask(f"/chunks/{KEY}", method="OPTIONS")
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "*"


def entries(body: bytes) -> list[bytes]:
    """The chunks of a bundle's decoded answer."""
    found, at = [], 0
    while at < len(body):
        size = int.from_bytes(body[at : at + 4], "little")
        found.append(body[at + 4 : at + 4 + size])
        at += 4 + size
    return found


@pytest.mark.parametrize("headers", [ZSTD, PLAIN])
async def test_a_bundle_has_what_its_lines_may_read_in_their_order(headers: dict[str, str]) -> None:
    signed = sign_path(PRIVATE)
    pack = encode_pack([os.urandom(200_000) for _ in range(3)])
    pack_key = f"pub/{digest_of(pack).hex()}"
    get_store().put(pack_key, compress_pack(pack, threads=1))
    others = [os.urandom(50 + i) for i in range(20)]
    keys = [f"pub/{digest_of(raw).hex()}" for raw in others]
    for key, raw in zip(keys, others, strict=True):
        get_store().put(key, encode_frame(raw))
    refused = [
        PRIVATE,
        signed[:-4] + "0000",
        sign_until(PRIVATE, int(time.time()) - 1),
        f"pub/{'0' * 64}",
        pack_key,
        "",
        "../x",
        "\xe9",
    ]
    lines = "\n".join([*keys[:10], signed, *refused, *keys[10:]])
    response, body = await ask("/chunks/bundle", headers, "POST", lines.encode("latin-1"))
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.headers.get("content-encoding") == ("zstd" if headers is ZSTD else None)
    if headers is ZSTD:
        body = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read()
    assert entries(body) == [*others[:10], RAW, *[b""] * len(refused), *others[10:]]


@pytest.mark.parametrize("content", [b"\n" * 64, b"x" * 40_000])
async def test_a_bundle_is_bounded(content: bytes) -> None:
    response, body = await ask("/chunks/bundle", method="POST", content=content)
    assert (response.status_code, body) == (413, b"")


async def test_everything_else_is_djangos() -> None:
    for path in ("/", "/chunksx/", "/machines/"):
        _, body = await ask(path)
        assert body == b"from Django"


async def test_a_damaged_file_is_an_error_with_a_sentence() -> None:
    folder = get_store()
    folder.delete(KEY)
    folder.put(KEY, encode_frame(RAW)[:-9])
    response, body = await ask(f"/chunks/{KEY}", PLAIN)
    assert response.status_code == 503
    assert b"damaged" in body
    # As stored it is sent as it is: the reader checks the digest.
    response, _ = await ask(f"/chunks/{KEY}")
    assert response.status_code == 200


async def test_an_object_store_is_read_through_the_service(
    settings: LazySettings, s3_server: S3Server
) -> None:
    settings.CHUNK_STORE = "s3"
    settings.S3_BUCKET = s3_server.make_bucket()
    settings.S3_ENDPOINT_URL = s3_server.url
    settings.S3_ACCESS_KEY = settings.S3_SECRET_KEY = "test"
    get_store().put(KEY, encode_frame(RAW))
    response, body = await ask(f"/chunks/{KEY}")
    assert (response.status_code, body) == (200, encode_frame(RAW))
    response, _ = await ask(f"/chunks/pub/{'0' * 64}")
    assert response.status_code == 404


def fail_from(fault: Fault, first: int, end: int, seen: Seen) -> Fault | None:
    return fault if first <= seen.number < end else None


async def test_an_object_store_that_fails_is_asked_again_and_then_told(
    settings: LazySettings, s3_server: S3Server
) -> None:
    settings.CHUNK_STORE = "s3"
    settings.S3_BUCKET = s3_server.make_bucket()
    settings.S3_ACCESS_KEY = settings.S3_SECRET_KEY = "test"
    failing: list[Fault] = ["500", "503", "reset", "reset_after", "cut"]
    with FaultyProxy(int(s3_server.url.rpartition(":")[2])) as proxy:
        settings.S3_ENDPOINT_URL = proxy.url
        get_store().put(KEY, encode_frame(RAW))
        for fault in failing:
            first = len(proxy.seen)
            proxy.fault = partial(fail_from, fault, first, first + 1)
            response, body = await ask(f"/chunks/{KEY}")
            assert (response.status_code, body) == (200, encode_frame(RAW)), fault
            assert len(proxy.seen) == first + 2
        for fault in failing:
            proxy.fault = partial(fail_from, fault, 0, sys.maxsize)
            response, body = await ask(f"/chunks/{KEY}")
            assert response.status_code == 503, fault
            assert b"store_unavailable" in body
            assert response.headers["cache-control"] == "no-store"


async def test_a_request_is_cheap() -> None:
    began = time.process_time()
    for _ in range(200):
        await ask(f"/chunks/{KEY}")
    # About a third of it is the test's own client. Generous, because the machine may be busy.
    assert (time.process_time() - began) / 200 < 0.01
