"""What a person sees when things break: the server dies in a save, chunks are damaged."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Route, expect

from tests.e2e.conftest import Profiles, Service
from tests.e2e.steps import (
    Console,
    csrf_headers,
    eventually,
    new_email,
    sign_up,
    start_machine,
    swapped_chunks,
)

SAVE_LATER = """message => {
  window.later = window.webvm.save({message}).then(answer => JSON.stringify(answer), error => String(error));
}"""


def test_a_server_killed_in_a_save(service: Service, profiles: Profiles) -> None:
    """The earlier snapshot stays whole, the client reconnects by itself and the save completes."""
    page = profiles.new().new_page()
    sign_up(page, service.url, new_email("crash"))
    console = start_machine(page, service.url)
    console.set_autosave(0)  # it would send the chunks before the save that is killed
    console.run("echo one > /root/note")
    before = console.save("before the crash")
    console.run("head -c 12000000 /dev/urandom > /root/big; sync; sha256sum /root/big > /root/sum")
    page.evaluate(SAVE_LATER, "through the crash")
    eventually(lambda: console.state == "saving", 30, "the save begins")
    stored = service.private_chunks()
    eventually(lambda: service.private_chunks() > stored + 5, 60, "chunks arrive")
    service.kill()
    page.wait_for_timeout(3000)
    service.start()
    answer = page.evaluate("() => window.later")
    assert "through the crash" in answer or "uploadedBytes" in answer, answer
    snapshots = page.request.get(f"{service.url}/api/v1/vms/{console.vm_id}/snapshots").json()["items"]
    assert [item["message"] for item in snapshots][:2] == ["through the crash", "before the crash"]
    page.reload()
    again = Console(page)
    again.wait_running()
    assert "OK" in again.run("sha256sum -c /root/sum")
    # The snapshot from before the crash is whole, too: a machine forked from it has its file.
    forked = page.request.post(
        f"{service.url}/api/v1/snapshots/{before['snapshot']}/fork", data={}, headers=csrf_headers(page)
    )
    assert forked.ok, forked.text()
    page.goto(f"{service.url}/vms/{forked.json()['id']}/")
    earlier = Console(page)
    earlier.wait_running()
    assert "one" in earlier.run("cat /root/note")
    assert "No such file" in earlier.run("ls /root/big")


@pytest.mark.parametrize("replacement", ["missing", "lying", "unreadable"])
def test_damaged_chunks(service: Service, profiles: Profiles, replacement: str) -> None:
    """A clear message, nothing wrong for the guest; with the chunks back, "try again" goes on."""
    page = profiles.new().new_page()
    sign_up(page, service.url, new_email("damage"))
    console = start_machine(page, service.url)
    with swapped_chunks(service.chunk_dir / "pub", replacement):
        console.send("vim --version | head -1; echo vim-says-$?\r")
        retry = page.get_by_role("button", name=re.compile("try again", re.I))
        expect(retry.first).to_be_visible(timeout=120_000)
        assert "vim-says-0" not in console.screen()
        assert "IMproved" not in console.screen()
    retry.first.click()
    console.wait_for(r"vim-says-0")
    assert "IMproved" in console.screen()
    assert "I/O error" not in console.run("dmesg | tail -20")


@pytest.mark.parametrize("failure", ["refused", "stalled"])
def test_a_link_whose_pack_does_not_come_while_it_is_read(
    service: Service, profiles: Profiles, failure: str
) -> None:
    """Fetching ahead is only ever a faster way: who presses gets the machine, which fetches it by itself."""
    page = profiles.new().new_page()
    sign_up(page, service.url, new_email("slow-link"))
    console = start_machine(page, service.url)
    snapshot = console.save("for a bad line")["snapshot"]
    made = page.request.post(
        f"{service.url}/api/v1/snapshots/{snapshot}/links", data={"mode": "fork"}, headers=csrf_headers(page)
    )
    assert made.ok, made.text()
    guest = profiles.new().new_page()
    failed: list[str] = []

    def fail(route: Route) -> None:
        if "/s/" not in guest.url:
            route.continue_()
            return
        failed.append(route.request.url)
        if failure == "refused":
            route.fulfill(status=404)
        # else nobody ever answers

    guest.route("**/pub/**", fail)
    with guest.expect_request("**/pub/**"):
        guest.goto(made.json()["url"])
    guest.get_by_role("button", name=re.compile("open", re.I)).first.click()
    guest.wait_for_url(re.compile(r"/vms/[0-9a-f-]{36}/"))
    assert len(failed) == 1
    copy = Console(guest)
    copy.wait_running()
    assert "Linux" in copy.run("uname")
