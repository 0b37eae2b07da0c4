"""What somebody waits for who opens a share link over a slow line: `python -m tests.bench.link [--rounds N]`.

The browser itself makes the line slow (40 ms, 20 Mbit/s), for the page and for the machine's worker alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, sync_playwright

from tests.e2e.steps import Console, csrf_headers, new_email, sign_up, start_machine
from tests.support.browser import Profiles, launch
from tests.support.service import Service

LATENCY_MS = 40
BYTES_A_SECOND = 20_000_000 / 8
HELLO = "echo 'int main(void) { return 42; }' > a.c && gcc a.c -o a; ./a"
WAYS = (("empty cache", False, 0.0), ("empty cache, read for 2 s", False, 2.0), ("warm cache", True, 0.0))


class SlowLine:
    """Throttles a page and every worker that it starts, from the worker's first request on."""

    def __init__(self, page: Page, bytes_a_second: float = BYTES_A_SECOND) -> None:
        self._speed = bytes_a_second
        self._session: CDPSession = page.context.new_cdp_session(page)
        self._session.on("Target.attachedToTarget", self._attached)
        self._session.send("Network.enable")
        self._session.send("Network.emulateNetworkConditions", self._conditions())
        self._session.send(
            "Target.setAutoAttach", {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": False}
        )
        self.workers = 0

    def _conditions(self) -> dict[str, Any]:
        speeds = {"downloadThroughput": self._speed, "uploadThroughput": self._speed}
        return {"offline": False, "latency": LATENCY_MS, **speeds}

    def _attached(self, event: dict[str, Any]) -> None:
        self.workers += 1
        calls: list[tuple[str, dict[str, Any]]] = [
            ("Network.enable", {}),
            ("Network.emulateNetworkConditions", self._conditions()),
            ("Runtime.runIfWaitingForDebugger", {}),
        ]
        for number, (method, params) in enumerate(calls, 1):
            message = json.dumps({"id": number, "method": method, "params": params})
            self._session.send(
                "Target.sendMessageToTarget", {"sessionId": event["sessionId"], "message": message}
            )


def share(page: Page, url: str, console: Console) -> str:
    """A link to the machine as it is now."""
    saved = console.save("to be shared")
    answer = page.request.post(
        f"{url}/api/v1/snapshots/{saved['snapshot']}/links", data={"mode": "fork"}, headers=csrf_headers(page)
    )
    assert answer.status == 201, answer.text()
    return str(answer.json()["url"])


def open_link(profiles: Profiles, link: str, warm: bool, reading: float) -> dict[str, float]:
    """Seconds from the link to a prompt, for somebody who has not opened it before: `warm` in a browser that
    has had a machine of the image, and who reads for so many seconds what is shared.
    """
    url = link.partition("/s/")[0]
    visitor = profiles.new()
    sign_up(visitor.new_page(), url, new_email("visitor"))
    context = profiles.new(storage_state=visitor.storage_state())
    visitor.close()
    if warm:
        page = context.new_page()
        start_machine(page, url)
        page.wait_for_timeout(4000)
        page.close()
    page = context.new_page()
    line = SlowLine(page)
    began = time.perf_counter()
    page.goto(link)
    opens = page.get_by_role("button", name="Open")
    opens.wait_for()
    page.get_by_role("heading", level=2).wait_for()  # what is shared is known
    shown = time.perf_counter() - began
    page.wait_for_timeout(reading * 1000)
    pressed = time.perf_counter() - began
    opens.click()
    page.wait_for_url("**/vms/**")
    page.wait_for_function("() => window.webvm !== undefined")
    page.evaluate("() => window.webvm.whenRunning()")
    running = time.perf_counter() - began
    console = Console(page)
    stats = console.stats()
    began = time.perf_counter()
    console.run(HELLO)
    compiled = time.perf_counter() - began
    assert line.workers, "the worker was not throttled"
    context.close()
    traffic = stats["machine"]["traffic"]
    return {
        "link_shown_s": shown,
        "running_s": running,
        "running_after_click_s": running - pressed,
        "first_gcc_s": compiled,
        "raw_mb": sum(kind["bytes"] for kind in traffic.values()) / 1e6,
        "requests": sum(kind["requests"] for kind in traffic.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", help="a service that runs already")
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="webvm-bench-") as temporary, sync_playwright() as playwright:
        service = None if arguments.url else Service(Path(temporary) / "data")
        browser = launch(playwright)
        try:
            if service:
                service.start()
            url = arguments.url or (service.url if service else "")
            profiles = Profiles(browser)
            owner = profiles.new().new_page()
            sign_up(owner, url, new_email("owner"))
            console = start_machine(owner, url)
            light = share(owner, url, console)
            console.run(HELLO)
            full = share(owner, url, console)
            owner.close()
            for _ in range(arguments.rounds):
                for name, link in (("fresh machine", light), ("after gcc", full)):
                    for how, warm, reading in WAYS:
                        figures = open_link(profiles, link, warm, reading)
                        results.setdefault(f"{name}, {how}", []).append(figures)
        finally:
            browser.close()
            if service:
                service.stop()
    medians = {
        name: {key: round(statistics.median(one[key] for one in rounds), 2) for key in rounds[0]}
        for name, rounds in results.items()
    }
    print(json.dumps(medians, indent=2))  # noqa: T201 - the output of a command


if __name__ == "__main__":
    main()
