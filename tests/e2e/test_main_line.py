"""The product's main job, as people do it: boot, compile, save, resume elsewhere, share."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Profiles, Service
from tests.e2e.steps import (
    STARTER,
    STARTER_64,
    Console,
    count_of,
    csrf_headers,
    eventually,
    new_email,
    sign_in,
    sign_up,
    start_machine,
)

IMAGES = [STARTER, STARTER_64]
PROGRAM = "int main(void) { return 42; }"
COUNTER = "(i=0; while :; do i=$((i+1)); echo $i > /root/counter; sleep 1; done) &"


@pytest.mark.parametrize("image", IMAGES)
def test_the_demo_of_the_talk(service: Service, profiles: Profiles, image: str) -> None:
    """vim, a C program, gcc -O2, run it, read its exit code: all typed on the keyboard."""
    page = profiles.new().new_page()
    sign_up(page, service.url, new_email("demo"))
    console = start_machine(page, service.url, image)
    page.locator(".xterm-helper-textarea").first.focus()
    page.keyboard.type("vim answer.c\n", delay=5)
    console.wait_for(r"answer\.c")
    console.wait_for(r"~\s")
    page.keyboard.type("i")
    console.wait_for(r"-- INSERT --")
    page.keyboard.type(PROGRAM, delay=10)
    page.keyboard.press("Escape")
    page.keyboard.type(":wq\n", delay=10)
    console.wait_for(r"vim answer\.c\n.*# $")  # the shell's screen is back
    assert PROGRAM in console.run("cat answer.c")
    page.keyboard.type("gcc -O2 answer.c -o answer\n", delay=5)
    page.keyboard.type('./answer; echo "it says $?"\n', delay=5)
    console.wait_for(r"it says 42")
    assert "GCC" in console.run("gcc --version | head -1").upper()


@pytest.mark.parametrize("image", IMAGES)
def test_a_saved_machine_goes_on_elsewhere_and_a_link_gives_a_copy(
    service: Service, profiles: Profiles, image: str
) -> None:
    owner = new_email("owner")
    first = profiles.new()
    page = first.new_page()
    sign_up(page, service.url, owner)
    console = start_machine(page, service.url, image)
    console.send(COUNTER + "\r")
    eventually(lambda: count_of(console) >= 2, what="the counter starts")
    console.run("echo 'written before the save' > /root/note")
    saved = console.save("with a counter")
    assert saved["uploadedBytes"] > 0
    at_save = count_of(console)
    vm_path = f"/vms/{console.vm_id}/"
    first.close()

    # A new browser profile of the same person: everything is there and goes on from where it was.
    second = profiles.new()
    page = second.new_page()
    sign_in(page, service.url, owner)
    page.goto(service.url + vm_path)
    resumed = Console(page)
    resumed.wait_running()
    assert "written before the save" in resumed.run("cat /root/note")
    start = count_of(resumed)
    assert start <= at_save + 30, "the counter goes on from the saved instant"
    eventually(lambda: count_of(resumed) > start, what="the counter goes on")

    # A share link, made on the page, opened by somebody else in another profile.
    page.get_by_role("button", name="Share").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=re.compile("^(Save and share|Make a link)$")).click()
    shown = dialog.locator("#share-url")
    expect(shown).to_have_text(re.compile(r"/s/#[\w-]{43}$"), timeout=90_000)
    url = shown.inner_text()

    other = profiles.new()
    page2 = other.new_page()
    sign_up(page2, service.url, new_email("other"))
    page2.goto(url)
    expect(page2.get_by_role("heading", level=2)).to_be_visible()  # what is shared is known now
    page2.get_by_role("button", name=re.compile("open", re.I)).first.click()
    page2.wait_for_url(re.compile(r"/vms/[0-9a-f-]{36}/"))
    fork = Console(page2)
    fork.wait_running()
    assert fork.vm_id != resumed.vm_id
    traffic = fork.stats()["machine"]["traffic"]["warm_pack"]
    assert (traffic["requests"], traffic["cachedRequests"]) == (0, 1), "it was fetched by the link's page"
    assert "written before the save" in fork.run("cat /root/note")
    start = count_of(fork)
    eventually(lambda: count_of(fork) > start, what="the counter goes on in the copy")
    fork.run("echo changed-by-the-fork > /root/note")
    fork.save("the fork's own")
    assert "written before the save" in resumed.run("cat /root/note")

    # Two machines from one snapshot must not draw the same random numbers.
    draw = "head -c 16 /dev/urandom | od -An -tx1"
    assert fork.run(draw) != resumed.run(draw)

    # The original, deleted, does not take the fork with it.
    resumed_id = resumed.vm_id
    page.goto(f"{service.url}/machines/")
    fork_path = f"/vms/{fork.vm_id}/"
    other_state = other.storage_state()
    answer = page.request.delete(f"{service.url}/api/v1/vms/{resumed_id}", headers=csrf_headers(page))
    assert answer.ok, answer.text()
    other.close()
    again = profiles.new(storage_state=other_state)
    page3 = again.new_page()
    page3.goto(service.url + fork_path)
    fork = Console(page3)
    fork.wait_running()
    assert "changed-by-the-fork" in fork.run("cat /root/note")


@pytest.mark.parametrize("image", IMAGES)
def test_a_guest_opens_a_link_without_an_account(service: Service, profiles: Profiles, image: str) -> None:
    page = profiles.new().new_page()
    sign_up(page, service.url, new_email("host"))
    console = start_machine(page, service.url, image)
    console.run("echo hello-guest > /root/note")
    snapshot = console.save("for guests")["snapshot"]
    made = page.request.post(
        f"{service.url}/api/v1/snapshots/{snapshot}/links", data={"mode": "fork"}, headers=csrf_headers(page)
    )
    assert made.ok, made.text()
    guest = profiles.new().new_page()
    guest.goto(made.json()["url"])
    guest.get_by_role("button", name=re.compile("open", re.I)).first.click()
    guest.wait_for_url(re.compile(r"/vms/[0-9a-f-]{36}/"))
    fork = Console(guest)
    fork.wait_running()
    assert "hello-guest" in fork.run("cat /root/note")
    guest.goto(f"{service.url}/machines/")
    expect(guest.get_by_text(re.compile("keep", re.I)).first).to_be_visible()
