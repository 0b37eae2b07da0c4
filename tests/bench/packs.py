"""What a large memory delta costs at opening behind a CDN: `python -m tests.bench.packs [--rounds N]`.

The same machine is opened over a slow line (40 ms; the browser's own throttling) in turns: its private
chunks come singly or in leaf packs, both from nginx's cache, or in bundles from the service itself. The
browsers have the image already and nothing private. What differs is only what the page is made to hear.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Page, sync_playwright

from tests.bench.link import SlowLine
from tests.e2e.steps import Console, csrf_headers, new_email, sign_in, sign_up, start_machine
from tests.support.browser import Profiles, launch
from tests.support.cdn import SIGNING_KEY, Cdn
from tests.support.service import Service

Way = Literal["singly", "packs", "bundles"]
WAYS: tuple[Way, ...] = ("singly", "packs", "bundles")
WORKED_S = 60.0


# Not by Playwright's routes, which make the browser ask past all caches.
CHANGED = """(way, base) => {
  const parse = JSON.parse;
  const plain = window.fetch;
  const changed = (text) => (way === "bundles" ? text.replaceAll(base, "/chunks/") : text);
  JSON.parse = (text, ...others) => parse(changed(String(text)), ...others);
  window.fetch = async (input, init) => {
    const answer = await plain(input, init);
    if (way === "packs" || !new URL(answer.url).pathname.endsWith("/locate")) return answer;
    const text = JSON.stringify({ ...JSON.parse(await answer.text()), packs: {} });
    return new Response(text, { status: answer.status, headers: { "Content-Type": "application/json" } });
  };
}"""


def wait_for_packs(page: Page, service: Service, vm: str, snapshot: str, leaves: int) -> int:
    """Asks until the worker has made the packs; how many there are."""
    deadline, before = time.monotonic() + WORKED_S, 0
    while time.monotonic() < deadline:
        found = 0
        for at in range(0, leaves, 64):
            body = {"snapshot": snapshot, "device": "memory", "leaves": list(range(at, min(at + 64, leaves)))}
            answer = page.request.post(
                f"{service.url}/api/v1/vms/{vm}/locate", data=body, headers=csrf_headers(page)
            )
            assert answer.ok, answer.text()
            found += len(answer.json()["packs"])
        if found and found == before:
            return found
        before = found
        time.sleep(2)
    raise AssertionError("the worker made no packs")


class Visitor:
    """A browser of its own for each way, which has the image's public chunks after its first visit."""

    def __init__(self, profiles: Profiles, service: Service, cdn: Cdn, email: str, way: Way) -> None:
        self.url = service.url
        self.context = profiles.new(ignore_https_errors=True)
        change = f"({CHANGED})({json.dumps(way)}, {json.dumps(cdn.chunk_base_url)})"
        self.context.add_init_script(change)
        page = self.context.new_page()
        sign_in(page, self.url, email)
        page.close()

    def open(self, vm: str, speed: float) -> dict[str, float]:
        """Seconds until the machine runs; what is private is gone from the browser."""
        page = self.context.new_page()
        page.goto(f"{self.url}/machines/")
        page.evaluate("() => caches.delete('webvm-private-chunks')")
        self.context.new_cdp_session(page).send("Network.clearBrowserCache")
        line = SlowLine(page, speed)
        began = time.perf_counter()
        page.goto(f"{self.url}/vms/{vm}/")
        page.wait_for_function("() => window.webvm !== undefined")
        page.evaluate("() => window.webvm.whenRunning()")
        running = time.perf_counter() - began
        machine: dict[str, Any] = Console(page).stats()["machine"]
        assert line.workers, "the worker was not throttled"
        page.wait_for_timeout(2000)  # what came is written into the browser's cache
        page.close()
        memory = machine["traffic"]["memory"]
        return {
            "running_s": running,
            "memory_s": machine["phases"]["memory"] / 1000,
            "requests": memory["requests"],
            "raw_mb": memory["bytes"] / 1e6,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--data", type=Path, help="a data directory with a published image, which is copied")
    parser.add_argument("--speed", type=float, default=20e6, help="of the line, bit/s; a negative one: any")
    parser.add_argument("--work", default="seq 1 5000000 > /dev/shm/x; sync", help="what the machine does")
    arguments = parser.parse_args()
    figures: dict[Way, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="webvm-bench-") as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        if arguments.data:
            shutil.copytree(arguments.data, folder / "data")
        cdn = Cdn(folder, 0, tls=True)
        environ = {"WEBVM_CHUNK_BASE_URL": cdn.chunk_base_url, "WEBVM_CHUNK_SIGNING_KEY": SIGNING_KEY}
        service = Service(folder / "data", environ)
        cdn.origin_port = service.port
        browser = launch(playwright)
        try:
            service.start()
            with cdn:
                profiles = Profiles(browser)
                page = profiles.new(ignore_https_errors=True).new_page()
                email = new_email("owner")
                sign_up(page, service.url, email)
                console = start_machine(page, service.url)
                console.set_autosave(0)
                console.run(arguments.work)
                saved = console.save("much")
                vm = console.vm_id
                console.close()
                page = profiles.new(ignore_https_errors=True).new_page()
                sign_in(page, service.url, email)
                opened = page.request.get(f"{service.url}/api/v1/vms/{vm}/open").json()
                leaves = -(-opened["memory"]["blocks"] // 1024)
                packs = wait_for_packs(page, service, vm, saved["snapshot"], leaves)
                visitors = {way: Visitor(profiles, service, cdn, email, way) for way in WAYS}
                for round_number in range(arguments.rounds + 1):
                    for way in WAYS:
                        found = visitors[way].open(vm, arguments.speed / 8)
                        if round_number:  # the first fills the CDN's cache, and the browser's with the image
                            figures[way].append(found)
        finally:
            browser.close()
            service.stop()
    medians = {
        way: {key: round(statistics.median(one[key] for one in rounds), 2) for key in rounds[0]}
        for way, rounds in figures.items()
    }
    pairs = [
        round(before["memory_s"] / after["memory_s"], 2)
        for before, after in zip(figures["singly"], figures["packs"], strict=True)
    ]
    saved_bytes = {"uploaded_mb": saved["uploadedBytes"] / 1e6, "packs": packs}
    print(json.dumps({"save": saved_bytes, "medians": medians, "singly / packs": pairs}, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
