"""The tab's own journal: a browser dies with unsaved work while the service is away, and nothing is lost."""

from __future__ import annotations

import re
from typing import NamedTuple

from playwright.sync_api import Page, expect

from tests.e2e.conftest import KillableBrowser, Service
from tests.e2e.steps import (
    Console,
    count_of,
    csrf_headers,
    eventually,
    new_email,
    sign_in,
    sign_up,
    start_machine,
)

COUNTER = "(i=0; while :; do i=$((i+1)); echo $i > /root/counter; sleep 1; done) &"
RECOVERED = "Recovered unsaved work"
JOURNALS = """() => new Promise((resolve, reject) => {
  const request = indexedDB.open("webvm-journal");
  request.onerror = () => reject(request.error);
  request.onsuccess = () => {
    const db = request.result;
    const names = [...db.objectStoreNames].filter(name => name !== "meta");
    if (!names.length) return resolve({});
    const transaction = db.transaction(names);
    const found = {};
    for (const name of names) {
      transaction.objectStore(name).count().onsuccess = event => { found[name] = event.target.result; };
    }
    transaction.oncomplete = () => { db.close(); resolve(found); };
  };
})"""


WRITTEN = """() => new Promise((resolve, reject) => {
  const request = indexedDB.open("webvm-journal");
  request.onerror = () => reject(request.error);
  request.onsuccess = () => {
    const db = request.result;
    db.transaction("rows").objectStore("rows").getAll().onsuccess = event => {
      db.close();
      resolve(Object.fromEntries(event.target.result.map(row => [row.id, row.writtenAt])));
    };
  };
})"""


class Left(NamedTuple):
    email: str
    vm: str
    counter: int


def leave_unsaved_work(service: Service, browser: KillableBrowser) -> Left:
    """A note that is in no snapshot, and a counter, kept by a round of the tab without the service; then all
    of it dies."""
    page = browser.start()
    email = new_email("journal")
    sign_up(page, service.url, email)
    console = start_machine(page, service.url)
    console.run("echo saved > /root/note")
    console.save("before the crash")
    console.send(COUNTER + "\r")
    eventually(lambda: count_of(console) >= 2, what="the counter starts")
    counter = count_of(console)
    service.kill()
    console.run("echo unsaved > /root/note")
    # The first round from now on may have begun before the note was written.
    for _ in range(2):
        before = journals(page)
        console.send("\r")  # a round without the service waits for somebody to do something
        eventually(lambda seen=before: journals(page) != seen, 90, "a round goes into the journal")
    expect(page.locator("#status-journal")).to_contain_text("Kept in this browser")
    vm = console.vm_id
    browser.kill()
    service.start()
    return Left(email, vm, counter)


def reopen(service: Service, browser: KillableBrowser, left: Left) -> Page:
    """The console's page in a new browser of the same profile. The crash may have cost it its cookies."""
    page = browser.start()
    page.goto(f"{service.url}/vms/{left.vm}/")
    if "/accounts/login/" in page.url:
        sign_in(page, service.url, left.email)
        page.goto(f"{service.url}/vms/{left.vm}/")
    return page


def journals(page: Page) -> dict[str, int]:
    """When each journal of this browser was written, by id."""
    return dict(page.evaluate(WRITTEN))


def messages(service: Service, page: Page, vm: str) -> list[str]:
    answer = page.request.get(f"{service.url}/api/v1/vms/{vm}/snapshots").json()
    return [item["message"] for item in answer["items"]]


def test_a_killed_browser_goes_on_from_its_journal(service: Service, own_browser: KillableBrowser) -> None:
    left = leave_unsaved_work(service, own_browser)
    page = reopen(service, own_browser, left)
    dialog = page.get_by_role("dialog", name=re.compile("unsaved work", re.I))
    expect(dialog).to_be_visible(timeout=30_000)
    expect(dialog.get_by_role("button")).to_have_count(2)
    dialog.get_by_role("button", name=re.compile("continue from", re.I)).click()
    console = Console(page)
    console.wait_running()
    assert "unsaved" in console.run("cat /root/note").splitlines()
    before = count_of(console)
    assert before >= left.counter
    eventually(lambda: count_of(console) > before, what="the counter runs on")
    assert {RECOVERED, "before the crash"} <= set(messages(service, page, left.vm))
    eventually(lambda: page.evaluate(JOURNALS) == {"rows": 0, "frames": 0}, what="all is committed")
    assert page.evaluate("() => Object.keys(window.webvm).some(name => /journal|key/i.test(name))") is False


def test_the_last_saved_state_and_the_work_brought_back(
    service: Service, own_browser: KillableBrowser
) -> None:
    left = leave_unsaved_work(service, own_browser)
    page = reopen(service, own_browser, left)
    page.get_by_role("button", name=re.compile("last saved state", re.I)).click()
    console = Console(page)
    console.wait_running()
    assert "saved" in console.run("cat /root/note").splitlines()
    # It was a mistake.
    page.get_by_role("button", name=re.compile("bring back", re.I)).click()
    go_on = page.get_by_role("button", name=re.compile("continue from", re.I))
    expect(go_on).to_be_visible(timeout=60_000)

    # A second tab is not offered what the first one is at; it opens the machine, and has the lease.
    second = Console(page.context.new_page())
    second.page.goto(page.url)
    second.wait_running()
    assert "saved" in second.run("cat /root/note").splitlines()
    go_on.click()
    page.get_by_role("button", name=re.compile("as a copy", re.I)).click(timeout=60_000)
    page.get_by_role("button", name="Open the copy").click(timeout=60_000)
    page.wait_for_url(lambda url: "/vms/" in url and left.vm not in url)
    copy = Console(page)
    copy.wait_running()
    assert "unsaved" in copy.run("cat /root/note").splitlines()
    before = count_of(copy)
    eventually(lambda: count_of(copy) > before, what="the counter runs on in the copy")
    assert RECOVERED in messages(service, page, copy.vm_id)
    assert RECOVERED not in messages(service, page, left.vm)


def test_signing_out_removes_it_and_nobody_else_sees_it(
    service: Service, own_browser: KillableBrowser
) -> None:
    left = leave_unsaved_work(service, own_browser)
    page = own_browser.start()
    page.goto(service.url)
    [kept] = journals(page)
    page.context.clear_cookies()  # the session has run out: its owner has not signed out
    sign_up(page, service.url, new_email("other"))
    opened = page.goto(f"{service.url}/vms/{left.vm}/")
    assert opened is not None
    assert opened.status == 404
    refused = page.request.post(f"{service.url}/api/v1/vms/{left.vm}/journal-key", headers=csrf_headers(page))
    assert refused.status == 404
    sign_out(page, service)
    assert kept in journals(page), "it is not theirs"
    assert page.evaluate(JOURNALS)["frames"] >= 3

    sign_in(page, service.url, left.email)
    sign_out(page, service, answer="Cancel")
    assert kept in journals(page)
    sign_out(page, service, answer="Sign out")
    eventually(lambda: page.evaluate(JOURNALS) == {"rows": 0, "frames": 0}, what="the journals are removed")
    eventually(
        lambda: "webvm_signed_out" not in {cookie.get("name") for cookie in page.context.cookies()},
        what="the private chunks are removed, too",
    )
    sign_in(page, service.url, left.email)
    page.goto(f"{service.url}/vms/{left.vm}/")
    console = Console(page)
    console.wait_running()
    assert "saved" in console.run("cat /root/note").splitlines()


def sign_out(page: Page, service: Service, answer: str = "") -> None:
    """By the menu; `answer` is the button in the warning that unsaved work is lost."""
    page.goto(f"{service.url}/machines/")
    page.locator(".site-account summary").click()
    page.locator(".site-account").get_by_role("button", name="Sign out").click()
    if answer:
        warning = page.get_by_role("dialog", name=re.compile("unsaved work", re.I))
        warning.get_by_role("button", name=answer).click()
    if answer != "Cancel":
        page.wait_for_url(f"{service.url}/")
