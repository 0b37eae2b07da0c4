"""Autosave, working offline, taking over and watching, in a real browser."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from tests.e2e.conftest import Profiles, Service
from tests.e2e.steps import Console, eventually, new_email, sign_in, sign_up, start_machine

SAVE_LATER = """message => {
  window.later = window.webvm.save({message}).then(answer => JSON.stringify(answer), error => String(error));
}"""


def snapshots(page: Page, url: str, vm: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = page.request.get(f"{url}/api/v1/vms/{vm}/snapshots").json()["items"]
    return items


def test_autosave_leaves_little_to_an_explicit_save(
    service: Service, profiles: Profiles, record_testsuite_property: Callable[[str, object], None]
) -> None:
    page = profiles.new().new_page()
    sign_up(page, service.url, new_email("auto"))
    console = start_machine(page, service.url)
    console.set_autosave(10)
    console.run("head -c 6000000 /dev/urandom > /root/big; sync")

    def kinds() -> list[str]:
        return [item["kind"] for item in snapshots(page, service.url, console.vm_id)]

    eventually(lambda: kinds() == ["auto"], 60, "the machine saves by itself")
    expect(page.locator("#status-unsaved")).to_have_text(re.compile("Autosaved"), timeout=30_000)
    uploaded = [report for report in console.stats()["saves"] if report["kind"] == "auto"]
    report = console.save("mine")
    assert report["uploadedBytes"] < 3_000_000, (uploaded, report)
    assert kinds() == ["save"]
    console.run("echo more > /root/more")
    eventually(lambda: kinds() == ["auto", "save"], 60, "it goes on saving by itself")
    record_testsuite_property("rounds", json.dumps(uploaded))
    record_testsuite_property("explicit save", json.dumps(report))


def test_offline(service: Service, profiles: Profiles) -> None:
    """The service goes away: the machine runs on, and a save asked for meanwhile completes by itself."""
    page = profiles.new().new_page()
    sign_up(page, service.url, new_email("offline"))
    console = start_machine(page, service.url)
    # What a command reads from the disk must be here before: without the service the rest has to wait.
    console.run("echo before > /root/note; cat /root/note")
    console.save("before")
    service.stop()
    expect(page.locator("#status-unsaved")).to_have_text(re.compile("Offline: working on"), timeout=30_000)
    assert "alive" in console.run("echo alive > /root/note; cat /root/note")
    page.evaluate(SAVE_LATER, "asked for offline")
    assert "more" in console.run("echo more")
    service.start()
    answer = json.loads(page.evaluate("() => window.later"))
    assert answer["kind"] == "save"
    messages = [item["message"] for item in snapshots(page, service.url, console.vm_id)]
    assert messages == ["asked for offline", "before"]
    page.reload()
    again = Console(page)
    again.wait_running()
    assert "alive" in again.run("cat /root/note")


def test_taking_over_brings_the_last_seconds(
    service: Service, profiles: Profiles, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """A second profile watches the first, then takes the running machine over."""
    email = new_email("handoff")
    first = profiles.new().new_page()
    sign_up(first, service.url, email)
    old = start_machine(first, service.url)
    old.set_autosave(0)
    old.save("before")
    old.run("echo 'int main(void) { return 7; }' > a.c && gcc a.c -o a && ./a")
    second = profiles.new().new_page()
    sign_in(second, service.url, email)
    second.goto(f"{service.url}/vms/{old.vm_id}/")
    dialog = second.get_by_role("dialog")
    expect(dialog.get_by_text("You have this machine open somewhere else")).to_be_visible(timeout=30_000)
    dialog.get_by_role("button", name="Watch").click()
    expect(second.locator("#watch-bar")).to_be_visible()
    old.send("echo seen-$((40+2))\r")
    new = Console(second)
    new.wait_for("seen-42")
    second.locator("#terminal").click()
    second.keyboard.type("echo typed-by-the-watcher")
    old.run("echo last-words > /root/note; export LAST=second")
    assert "typed-by-the-watcher" not in old.screen()
    began = time.monotonic()
    second.get_by_role("button", name="Take over").click()
    expect(second.locator("#watch-bar")).to_be_hidden(timeout=60_000)
    second.evaluate("() => window.webvm.whenRunning()")
    took = time.monotonic() - began
    assert "last-words" in new.run("cat /root/note; echo $LAST")
    assert "second" in new.screen()
    expect(first.get_by_role("dialog").get_by_text("All you did here was saved before")).to_be_visible()
    assert old.state == "paused"
    # Longer than signs of life of watchers are apart: who has watched must not be shown its own screen now.
    second.wait_for_timeout(4_000)
    new.run("echo once-$((40+3)); echo there > /root/note")
    second.wait_for_timeout(1_000)
    assert new.screen().count("once-43") == 1
    first.get_by_role("dialog").get_by_role("button", name="Take it back").click()
    expect(first.get_by_role("dialog")).to_be_hidden(timeout=60_000)
    first.evaluate("() => window.webvm.whenRunning()")
    assert "there" in old.run("cat /root/note; echo $LAST")
    record_testsuite_property("hand-off, s", round(took, 2))
