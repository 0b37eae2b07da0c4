"""Chunks through a CDN: real nginx with deploy/nginx.conf in front of the application on a real port."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import zstandard
from pytest_django.fixtures import Settings

from sessions.actions.vms import create_vm
from sessions.models import VM
from storage.codec import decode_frame, encode_frame
from storage.packs import MAX_PACK_BYTES, decode_pack
from storage.signing import LIFE_S, STEP_S, sign_path, sign_until
from storage.stores import get_store
from storage.tasks import pack_leaves_task
from tests.support.cdn import SIGNING_KEY, Cdn, CountingServer
from tests.support.machines import (
    MEMORY_BLOCKS,
    block,
    bring,
    digest_of,
    make_image,
    make_token,
    make_user,
    save,
)
from webvm.accounts.models import Membership, Role, Tenant, User
from webvm.asgi import application

pytestmark = pytest.mark.django_db(transaction=True)
ZSTD = {"Accept-Encoding": "gzip, zstd"}


class World:
    """A machine with a save of its own, and its members' clients; chunks come through the CDN."""

    def __init__(self, app: CountingServer, cdn: Cdn) -> None:
        self.app, self.cdn = app, cdn
        self.version, self.machine = make_image()
        self.owner = make_user("ada@example.org")
        self.vm: VM = create_vm("tiny", acting_user=self.owner)
        changed = self.machine.disk.write({n: block(f"private {n}") for n in range(0, 2000, 3)})
        bring(self.vm.tenant, self.machine, changed)
        self.snapshot = save(self.vm, self.machine, "one", self.owner)
        self.cdn_client = httpx.Client()
        self.tokens: dict[str, str] = {}

    def join(self, email: str) -> User:
        user = make_user(email)
        Membership.objects.create(tenant=self.vm.tenant, user=user, role=Role.MEMBER)
        return user

    def api(self, user: User, method: str, path: str, body: Any = None) -> httpx.Response:
        token = self.tokens.setdefault(user.email, make_token(user))
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.request(method, f"{self.app.url}/api/v1{path}", json=body, headers=headers)

    def locate(self, user: User) -> dict[str, str]:
        """All private chunks of the snapshot's disk by digest, as the API tells them."""
        body = {"snapshot": str(self.snapshot.pk), "device": "disk", "leaves": [0, 1]}
        answer = self.api(user, "POST", f"/vms/{self.vm.pk}/locate", body)
        assert answer.status_code == 200, answer.text
        urls: dict[str, str] = answer.json()["urls"]
        return urls

    def save_memory(self) -> None:
        """A snapshot whose whole memory is private."""
        changed = self.machine.memory.write({n: block(f"page {n}") for n in range(MEMORY_BLOCKS)})
        self.snapshot = save(self.vm, self.machine, "two", self.owner, extra=changed)

    def locate_memory(self, user: User) -> tuple[dict[str, str], dict[str, str]]:
        """The private chunks of its memory by digest, and its packs by leaf."""
        body = {"snapshot": str(self.snapshot.pk), "device": "memory", "leaves": [0, 1]}
        answer = self.api(user, "POST", f"/vms/{self.vm.pk}/locate", body)
        assert answer.status_code == 200, answer.text
        return answer.json()["urls"], answer.json()["packs"]

    def get(self, url: str, **headers: str) -> tuple[httpx.Response, bytes]:
        """The answer and its bytes as they were sent."""
        with self.cdn_client.stream("GET", url, headers={**ZSTD, **headers}) as response:
            return response, b"".join(response.iter_raw())


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    settings.CHUNK_DIR = tmp_path / "chunks"
    settings.CHUNK_SIGNING_KEY = SIGNING_KEY
    with CountingServer(application) as app, Cdn(tmp_path, app.port) as cdn:
        settings.CHUNK_BASE_URL = cdn.chunk_base_url
        world = World(app, cdn)
        yield world
        world.cdn_client.close()


def private_key(world: World) -> str:
    return urlsplit(next(iter(world.locate(world.owner).values()))).path.removeprefix("/chunks/")


def test_a_second_visitors_chunks_all_come_from_the_cache(world: World) -> None:
    friend = world.join("bob@example.org")
    public = [f"{world.cdn.chunk_base_url}pub/{digest}" for digest in make_image("other")[1].disk.chunks]
    for visitor in (world.owner, friend):
        before = len(world.app.chunk_requests)
        urls = world.locate(visitor)
        assert len(urls) > 8
        for digest, url in urls.items():
            response, body = world.get(url)
            assert response.status_code == 200, body
            assert digest_of(zstandard.ZstdDecompressor().decompress(body)) == digest
        for url in public:
            assert world.get(url)[0].status_code == 200
        asked = len(world.app.chunk_requests) - before
        assert asked == (len(urls) + len(public) if visitor is world.owner else 0)


def test_a_second_visitors_packs_all_come_from_the_cache(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(pack_leaves_task, "delay", lambda *args: asked.append(args))
    friend = world.join("bob@example.org")
    world.save_memory()
    assert world.locate_memory(world.owner)[1] == {}
    for args in asked:
        pack_leaves_task(*args)
    for visitor in (world.owner, friend):
        before = len(world.app.chunk_requests)
        urls, packs = world.locate_memory(visitor)
        assert len(packs) == 2
        brought: set[str] = set()
        for url in packs.values():
            response, body = world.get(url)
            assert response.status_code == 200, body
            assert response.headers["Cache-Control"] == "private, max-age=31536000, immutable"
            assert response.headers["Content-Encoding"] == "zstd"
            brought |= {digest.hex() for digest in decode_pack(decode_frame(body, MAX_PACK_BYTES))}
            raw = world.get(url, **{"Accept-Encoding": "gzip"})[1] if visitor is world.owner else b""
            assert not raw or decode_pack(raw)
        assert brought == set(urls)
        made = len(world.app.chunk_requests) - before
        assert made == (2 * len(packs) if visitor is world.owner else 0)
    # The same right, the same end: without one, with another's, and for who has lost it.
    _, packs = world.locate_memory(friend)
    first, second = packs.values()
    key = urlsplit(first).path.removeprefix("/chunks/")
    stranger = create_vm("tiny", acting_user=make_user("eve@example.org"))
    theirs = urlsplit(sign_path(f"t/{stranger.tenant_id}/{'0' * 64}")).query
    for path in (key, f"{key}?{theirs}"):
        assert world.get(world.cdn.chunk_base_url + path)[0].status_code == 404
    direct = second.replace(world.cdn.url, world.app.url)
    assert world.get(direct)[0].status_code == 200
    Membership.objects.filter(user=friend, tenant=world.vm.tenant).delete()
    revoked_at = time.monotonic()
    while world.get(direct)[0].status_code == 200:
        assert time.monotonic() - revoked_at < 1
        time.sleep(0.02)
    assert world.get(first)[0].status_code == 200, "in the CDN's cache until the signature ends"


def test_a_chunk_passes_through_untouched_and_may_be_kept_for_ever(world: World) -> None:
    raw = b"what is in it " * 999
    key = f"pub/{digest_of(raw)}"
    get_store().put(key, encode_frame(raw))
    for _ in range(2):
        response, body = world.get(world.cdn.chunk_base_url + key)
        assert body == encode_frame(raw)
        assert response.headers["Content-Encoding"] == "zstd"
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        for header, value in {
            "Access-Control-Allow-Origin": "*",
            "Cross-Origin-Resource-Policy": "cross-origin",
            "X-Content-Type-Options": "nosniff",
            "Vary": "Accept-Encoding",
        }.items():
            assert response.headers.get_list(header) == [value]
    for accepted in ("gzip", "zstd;q=0", "gzip, zstd; q=0.0"):
        response, body = world.get(world.cdn.chunk_base_url + key, **{"Accept-Encoding": accepted})
        assert body == raw, "who does not take zstd never gets what was kept for who does"
    assert len(world.app.chunk_requests) == 2


def test_only_the_right_signature_opens_a_private_chunk(world: World) -> None:
    key = private_key(world)
    foreign = f"t/{uuid.uuid4()}/{key.rpartition('/')[2]}"
    now = int(time.time())
    signed = sign_path(key)
    # In the cache: no signature, no chunk, all the same.
    assert world.get(world.cdn.chunk_base_url + signed)[0].status_code == 200
    before = len(world.app.chunk_requests)
    query = parse_qs(urlsplit(signed).query)
    expiry, member, signature = (query[name][0] for name in "ems")
    refused = [
        key,
        f"{key}?e={expiry}&m={member}",
        f"{key}?m={member}&s={signature}",
        f"{key}?e={expiry}&m={member}&s={'A' * 22}",
        f"{key}?e={int(expiry) + 300}&m={member}&s={signature}",
        f"{key}?e={expiry}&m={int(member) + 1}&s={signature}",
        sign_until(key, now - 1),
        sign_path(foreign),
        f"{key}?{urlsplit(sign_path(foreign)).query}",
    ]
    answers = set()
    for path in refused:
        response, body = world.get(world.cdn.chunk_base_url + path)
        assert response.status_code == 404, path
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        answers.add(body)
    assert len(answers) == 1
    assert b"not_found" in answers.pop()
    # The only one that the CDN could not refuse by itself is the rightly signed one of nothing.
    assert set(world.app.chunk_requests[before:]) <= {f"/chunks/{foreign}"}


def test_a_signature_opens_its_tenants_prefix_and_nothing_else(world: World) -> None:
    urls = list(world.locate(world.owner).values())
    assert len({urlsplit(url).query for url in urls}) == 1
    query = urlsplit(urls[0]).query
    stranger = make_user("eve@example.org")
    other = create_vm("tiny", acting_user=stranger)
    save(other, make_image()[1], "hers", stranger)
    theirs = [path for path in Path(get_store().folder).rglob("*") if str(other.tenant_id) in str(path)]  # type: ignore[attr-defined]
    names = [path.name for path in theirs if path.is_file()]
    assert names
    for name in names:
        response, _ = world.get(f"{world.cdn.chunk_base_url}t/{other.tenant_id}/{name}?{query}")
        assert response.status_code == 404


def test_a_signature_is_good_for_ten_to_fifteen_minutes(world: World) -> None:
    body = {"snapshot": str(world.snapshot.pk), "device": "disk", "leaves": [0]}
    now = time.time()
    answer = world.api(world.owner, "POST", f"/vms/{world.vm.pk}/locate", body).json()
    assert answer["expires_in"] == LIFE_S
    for url in answer["urls"].values():
        expiry = int(parse_qs(urlsplit(url).query)["e"][0])
        assert LIFE_S <= expiry - now <= LIFE_S + STEP_S + 1 <= 15 * 60 + 1


def test_a_revoked_member_is_refused(world: World) -> None:
    friend = world.join("bob@example.org")
    urls = list(world.locate(friend).values())
    assert world.get(urls[0])[0].status_code == 200
    direct = [url.replace(world.cdn.url, world.app.url) for url in urls]
    assert world.get(direct[1])[0].status_code == 200
    revoked_at = time.monotonic()
    Membership.objects.filter(user=friend, tenant=world.vm.tenant).delete()
    # At the application: the API at once, a URL that was given out before within a second.
    body = {"snapshot": str(world.snapshot.pk), "device": "disk", "leaves": [0]}
    assert world.api(friend, "POST", f"/vms/{world.vm.pk}/locate", body).status_code == 404
    assert world.api(friend, "GET", f"/vms/{world.vm.pk}/open").status_code == 404
    while world.get(direct[1])[0].status_code == 200:
        assert time.monotonic() - revoked_at < 1
        time.sleep(0.02)
    bundle = httpx.post(f"{world.app.url}/chunks/bundle", content=direct[1].partition("/chunks/")[2])
    assert bundle.content == bytes(4)
    # At the CDN: what it has not kept it does not get for them; what it has, until the signature ends.
    assert world.get(urls[2])[0].status_code == 404
    assert world.get(urls[0])[0].status_code == 200
    # Others are not touched, and neither is what comes into the cache through them.
    for url in world.locate(world.owner).values():
        assert world.get(url)[0].status_code == 200


def test_what_went_wrong_is_not_kept(world: World) -> None:
    raw = b"comes later"
    key = f"pub/{digest_of(raw)}"
    assert world.get(world.cdn.chunk_base_url + key)[0].status_code == 404
    get_store().put(key, encode_frame(raw))
    assert world.get(world.cdn.chunk_base_url + key)[1] == encode_frame(raw)


def test_who_got_bad_bytes_gets_past_the_cache(world: World) -> None:
    raw = b"stays good in the store"
    key = f"pub/{digest_of(raw)}"
    url = world.cdn.chunk_base_url + key
    get_store().put(key, encode_frame(b"something else"))
    assert world.get(url)[1] == encode_frame(b"something else")
    get_store().delete(key)
    get_store().put(key, encode_frame(raw))
    assert world.get(url)[1] == encode_frame(b"something else")
    assert world.get(url, **{"Cache-Control": "no-cache"})[1] == encode_frame(raw)
    assert world.get(url)[1] == encode_frame(raw), "and so does everybody after them"


def test_only_chunks_and_only_reading(world: World) -> None:
    key = private_key(world)
    for path in ("", "machines/", "chunks/", "chunks/bundle", "chunks/pub/x", "api/v1/me", f"chunks/{key}/x"):
        assert httpx.get(f"{world.cdn.url}/{path}").status_code == 404
    for method in ("POST", "PUT", "DELETE"):
        answer = httpx.request(method, f"{world.cdn.chunk_base_url}{sign_path(key)}")
        assert answer.status_code == 404
    head = httpx.head(f"{world.cdn.chunk_base_url}{sign_path(key)}")
    assert (head.status_code, head.content) == (200, b"")


def test_it_goes_on_without_the_service(world: World) -> None:
    kept = list(world.locate(world.owner).values())
    for url in kept:
        assert world.get(url)[0].status_code == 200
    world.app.__exit__(None, None, None)
    for url in kept:
        assert world.get(url)[0].status_code == 200
    response, _ = world.get(f"{world.cdn.chunk_base_url}pub/{'0' * 64}")
    assert response.status_code == 503
    assert response.headers["Access-Control-Allow-Origin"] == "*"


def test_tenants_are_not_told_apart_by_what_is_missing(world: World) -> None:
    nothing = (
        f"t/{Tenant.objects.exclude(pk=world.vm.tenant_id).values_list('pk', flat=True).first()}/{'0' * 64}"
    )
    nobody = f"t/{uuid.uuid4()}/{'0' * 64}"
    first, second = (world.get(world.cdn.chunk_base_url + path) for path in (nothing, nobody))
    assert (first[0].status_code, first[1]) == (second[0].status_code, second[1])
