"""A session with its chunks in S3 and nginx as the CDN: what goes where, counted in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import BrowserContext, Page, Request, WebSocket

from tests.e2e.conftest import Profiles, Service
from tests.e2e.steps import Console, new_email, sign_in, sign_up, start_machine
from tests.support.cdn import SIGNING_KEY, Cdn
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from tests.support.service import PROJECT


@dataclass
class Site:
    """The service, its CDN and its object store."""

    service: Service
    cdn: Cdn
    s3: S3Server
    bucket: str

    def asked_of_the_service(self, since: int) -> list[str]:
        """The chunks that the CDN has asked the service for, since its so-manieth request."""
        return [path for _, path, _, cache in self.cdn.requests()[since:] if cache not in {"HIT", "-"}]


@dataclass
class Traffic:
    """What a profile's pages send, by where it goes."""

    puts: int = 0
    refused_puts: int = 0
    chunk_frames: int = 0
    chunks_of_the_service: list[str] = field(default_factory=list)

    def follow(self, context: BrowserContext, site: Site) -> Traffic:
        def asked(request: Request) -> None:
            if request.method == "PUT" and request.url.startswith(site.s3.url):
                self.puts += 1
            if request.url.startswith(f"{site.service.url}/chunks/"):
                self.chunks_of_the_service.append(request.url)

        def sent(frame: str | bytes) -> None:
            self.chunk_frames += isinstance(frame, bytes)

        def connected(socket: WebSocket) -> None:
            socket.on("framesent", sent)

        def opened(page: Page) -> None:
            page.on("websocket", connected)

        context.on("request", asked)
        context.on("page", opened)
        return self


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    bucket = s3_server.make_bucket()
    cdn = Cdn(folder, 0, tls=True)
    environ = {
        "WEBVM_CHUNK_STORE": "s3",
        "WEBVM_S3_BUCKET": bucket,
        "WEBVM_S3_ENDPOINT_URL": s3_server.url,
        "WEBVM_S3_ACCESS_KEY": ACCESS_KEY,
        "WEBVM_S3_SECRET_KEY": SECRET_KEY,
        "WEBVM_CHUNK_BASE_URL": cdn.chunk_base_url,
        "WEBVM_CHUNK_SIGNING_KEY": SIGNING_KEY,
        "WEBVM_STARTER_RECIPES": str(PROJECT / "images" / "starter-64.toml"),
    }
    service = Service(folder / "data", environ)
    cdn.origin_port = service.port
    s3_server.store(bucket).prepare_bucket([service.url])
    service.start()
    with cdn:
        yield Site(service, cdn, s3_server, bucket)
    service.stop()


def visit(profiles: Profiles, site: Site) -> tuple[Page, Traffic]:
    context = profiles.new(ignore_https_errors=True)
    traffic = Traffic().follow(context, site)
    return context.new_page(), traffic


def test_a_session_on_s3_behind_a_cdn(site: Site, profiles: Profiles) -> None:
    owner = new_email("owner")
    page, traffic = visit(profiles, site)
    sign_up(page, site.service.url, owner)
    console = start_machine(page, site.service.url)
    console.set_autosave(0)  # the chunks of one save are counted
    console.run("echo through-the-cdn > /root/note")
    saved = console.save("into the bucket")
    assert saved["uploadedBytes"] > 0
    assert traffic.puts > 0
    assert traffic.chunk_frames == 0, "the save's chunks went straight to S3"
    assert (
        site.s3.store(site.bucket).client.list_objects_v2(Bucket=site.bucket, Prefix="up/")["KeyCount"] == 0
    )
    address = page.url
    console.close()

    # The same person elsewhere: the private chunks come through the CDN, for the first time.
    page, traffic = visit(profiles, site)
    sign_in(page, site.service.url, owner)
    before = len(site.cdn.requests())
    page.goto(address)
    resumed = Console(page)
    resumed.wait_running()
    assert "through-the-cdn" in resumed.run("cat /root/note")
    first = site.asked_of_the_service(before)
    fetched = site.cdn.delivered()
    assert any(path.startswith("/chunks/t/") for path in first)
    assert traffic.chunks_of_the_service == []
    resumed.close()

    # And once more with an empty browser: all of it is in the CDN's cache.
    page, traffic = visit(profiles, site)
    sign_in(page, site.service.url, owner)
    before = len(site.cdn.requests())
    page.goto(address)
    again = Console(page)
    again.wait_running()
    assert "through-the-cdn" in again.run("cat /root/note")
    served = site.cdn.requests()[before:]
    assert [status for _, _, status, _ in served if status != 200] == []
    assert len(served) >= len(first)
    # Read-ahead may have wanted more this time; what was here before does not come from the service again.
    assert fetched.isdisjoint(site.asked_of_the_service(before))
    assert not any(path.startswith("/chunks/t/") for path in site.asked_of_the_service(before))
    assert traffic.chunks_of_the_service == []


def test_a_bucket_that_lets_no_page_in_costs_nothing_but_the_detour(site: Site, profiles: Profiles) -> None:
    store = site.s3.store(site.bucket)
    store.client.delete_bucket_cors(Bucket=site.bucket)
    try:
        page, traffic = visit(profiles, site)
        sign_up(page, site.service.url, new_email("walled"))
        console = start_machine(page, site.service.url)
        console.run("echo through-the-socket > /root/note")
        console.save("all the same")
        assert traffic.chunk_frames > 0
    finally:
        store.prepare_bucket([site.service.url])
