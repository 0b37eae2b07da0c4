"""The benchmarks of what people wait for: `uv run python -m tests.bench [--rounds N]`.

Everything is measured in one run on one machine, in turns, so the ratios hold where absolute times do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.bench.base_disk import write_plain_machine
from tests.bench.plain_v86 import cold_boot
from tests.e2e.steps import LESS_MEMORY, STARTER, STARTER_64, Console, sign_up, start_machine
from tests.support.browser import Profiles, launch
from tests.support.service import Service

HELLO = (
    "printf '#include <stdio.h>\\nint main(void) { puts(\"hello\"); return 42; }\\n' > hello.c"
    " && gcc hello.c -o hello && ./hello"
)
ANSWER = """() => {
  window.webvm.send("echo ans$((40+2))\\r");
  return window.webvm.waitForText(/ans42/, 60000);
}"""


class Network:
    """Counts the requests of a profile and their bytes on the wire, through the browser's own counters."""

    def __init__(self, page: Page) -> None:
        self.requests = self.bytes = 0
        self._session = page.context.new_cdp_session(page)
        self._session.on("Network.loadingFinished", self._finished)
        self._session.send("Network.enable")
        self._session.on("Target.attachedToTarget", lambda _event: None)

    def _finished(self, event: dict[str, Any]) -> None:
        self.requests += 1
        self.bytes += int(event["encodedDataLength"])


def open_console(context: BrowserContext, url: str) -> dict[str, float]:
    """Seconds from navigating to the console until a typed command was answered, and its traffic."""
    page = context.new_page()
    network = Network(page)
    began = time.perf_counter()
    page.goto(url)
    page.wait_for_function("() => window.webvm !== undefined")
    page.evaluate("() => window.webvm.whenRunning()")
    running = time.perf_counter() - began
    page.evaluate(ANSWER)
    answered = time.perf_counter() - began
    stats = Console(page).stats()
    page.wait_for_timeout(3000)  # what was fetched is put into the cache behind the running machine
    page.close()
    traffic = stats["machine"]["traffic"]
    return {
        "running_s": running,
        "answered_s": answered,
        "requests": network.requests + sum(kind["requests"] for kind in traffic.values()),
        "page_wire_bytes": network.bytes,
        "machine_raw_bytes": sum(kind["bytes"] for kind in traffic.values()),
    }


BOOT = """async () => {
  const began = performance.now();
  document.getElementById("error-boot").click();
  let booting;
  const look = () => {
    if (["booting", "running"].includes(window.webvm.state)) booting = performance.now();
    else requestAnimationFrame(look);
  };
  look();
  await window.webvm.waitForText(/root@webvm:~# $/m, 120000);
  const prompt = performance.now();
  const { phases } = (await window.webvm.stats()).machine;
  return { pressed_s: (prompt - began) / 1000, booted_s: (prompt - booting + phases.machine) / 1000 };
}"""


def boot_from_disk(context: BrowserContext, url: str) -> dict[str, float]:
    """Seconds to the prompt: from pressing "Start from its disk", from the machine's own start; cached."""
    page = context.new_page()
    page.add_init_script(LESS_MEMORY)
    page.goto(url.rsplit("/vms/", 1)[0])
    page.evaluate("() => sessionStorage.setItem('less-memory', '')")
    page.goto(url)
    page.locator("#error-boot").wait_for()
    took = page.evaluate(BOOT)
    page.wait_for_timeout(2000)  # what was fetched is put into the cache behind the running machine
    page.close()
    return {key: float(value) for key, value in took.items()}


def save_after_gcc(context: BrowserContext, url: str, image: str) -> list[dict[str, float]]:
    """Three saves of a fresh machine: after the first compilation, after a second one, with nothing done."""
    page = context.new_page()
    console = start_machine(page, url, image)
    console.set_autosave(0)  # the saves below are to find everything still to do
    saves = []
    for command in (HELLO, HELLO.replace("hello", "again"), "true"):
        console.run(command)
        began = time.perf_counter()
        answer = console.save(command[:20])
        saves.append({"seconds": time.perf_counter() - began, **numbers(answer)})
    vm_url = page.url
    page.close()
    resumed = open_console(context, vm_url)
    return [*saves, resumed]


def numbers(answer: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in answer.items() if isinstance(value, int | float)}


def medians(rounds: Iterable[dict[str, float]]) -> dict[str, float]:
    rounds = list(rounds)
    return {key: round(statistics.median(each[key] for each in rounds), 3) for key in rounds[0]}


def measure(
    profiles: Profiles, context: BrowserContext, service: Service, image: str, rounds: int
) -> dict[str, Any]:
    """What people wait for with one machine, and for the 32-bit one the peer that boots the same disk."""
    page = context.new_page()
    start_machine(page, service.url, image)
    vm_url = page.url
    page.close()
    state = context.storage_state()
    descriptor = context.request.get(f"{service.url}/api/v1/vms/{vm_url.split('/')[4]}/open").json()
    with tempfile.TemporaryDirectory(prefix="webvm-plain-") as temporary:
        plain = Path(temporary)
        if image == STARTER:
            write_plain_machine(service.chunk_dir, descriptor, plain)
        cold, cached, booted, peer, saves = [], [], [], [], []
        for _ in range(rounds):
            fresh = profiles.new(storage_state=state)
            cold.append(open_console(fresh, vm_url))
            cached.append(open_console(fresh, vm_url))
            if image == STARTER:
                peer.append(cold_boot(profiles.new(), plain, descriptor))
            else:
                boot_from_disk(fresh, vm_url)
                booted.append(boot_from_disk(fresh, vm_url))
            saves.append(save_after_gcc(profiles.new(storage_state=state), service.url, image))
    results: dict[str, Any] = {"console_cold_profile": medians(cold), "console_cached": medians(cached)}
    if booted:
        results["boot_from_cached_disk"] = medians(booted)
    if peer:
        results["plain_v86_cold_boot"] = plain_boot = medians(peer)
        for name in ("console_cold_profile", "console_cached"):
            ratio = plain_boot["seconds"] / results[name]["answered_s"]
            results[f"ratio_cold_boot_to_{name}"] = round(ratio, 1)
    for index, name in enumerate(
        ["save_after_gcc", "save_after_second_gcc", "save_of_nothing", "resume_of_saved"]
    ):
        results[name] = medians(each[index] for each in saves)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="webvm-bench-") as temporary, sync_playwright() as playwright:
        service = Service(Path(temporary) / "data")
        browser = launch(playwright)
        try:
            results["first_up_s"] = round(service.start(), 1)
            service.stop()
            results["second_up_s"] = round(service.start(), 2)
            profiles = Profiles(browser)
            context = profiles.new()
            page = context.new_page()
            sign_up(page, service.url, "bench@example.org")
            page.close()
            for slug in ("starter", "starter-64"):
                service.wait_for_image(slug)
            for image in (STARTER_64, STARTER):
                results[image] = measure(profiles, context, service, image, rounds)
            profiles.close()
        finally:
            browser.close()
            service.stop()
    print(json.dumps(results, indent=2))  # noqa: T201 - the output of a command


if __name__ == "__main__":
    main()
