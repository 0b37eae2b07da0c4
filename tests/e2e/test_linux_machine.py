"""What the `linux` machine has that the other lacks: several terminals, saved and watched with it."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.e2e.conftest import Profiles, Service
from tests.e2e.steps import (
    LESS_MEMORY,
    PROMPT,
    STARTER_64,
    Console,
    eventually,
    new_email,
    sign_in,
    sign_up,
    start_machine,
)

SHOWN = ".console-panel:not([hidden]) .xterm-helper-textarea"


def selected(page: Page) -> list[str]:
    return [each.inner_text() for each in page.get_by_role("tab", selected=True).all()]


def test_terminals(service: Service, profiles: Profiles) -> None:
    """A tab each, by mouse and keyboard, with a shell, a size and a screen of its own; and news are told."""
    page = profiles.new().new_page()
    sign_up(page, service.url, new_email("tabs"))
    first = start_machine(page, service.url, STARTER_64)
    assert page.evaluate("() => window.webvm.terminals") == 4
    expect(page.get_by_role("tab")).to_have_count(4)
    assert "/dev/ttyS0" in first.run("tty")
    size = first.run("stty size").strip()

    second = first.show_terminal(1)
    second.wait_for(PROMPT)
    assert "/dev/ttyS1" in second.run("tty")
    assert second.run("stty size").strip() == size
    assert "/dev/ttyS1" not in first.screen()
    page.locator(SHOWN).focus()
    page.keyboard.type("echo typed-$((6*7))\n")
    second.wait_for("typed-42")

    # A mark where something was printed meanwhile, until it is looked at.
    first.send("(sleep 2; echo news > /dev/ttyS1) &\r")
    page.keyboard.press("Control+Alt+Digit1")
    assert selected(page) == ["Terminal 1"]
    marked = page.get_by_role("tab", name="Terminal 2 new output")
    expect(marked).to_be_visible()
    expect(page.locator("#live")).to_have_text("Terminal 2 has new output")
    page.keyboard.press("Control+Alt+Digit2")
    expect(marked).to_have_count(0)
    second.wait_for("news")

    page.get_by_role("tab", name="Terminal 2").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert selected(page) == ["Terminal 3"]
    Console(page, 2).wait_for(PROMPT)
    page.set_viewport_size({"width": 700, "height": 500})
    third = Console(page, 2)
    eventually(lambda: third.run("stty size").strip() != size, what="the shown terminal follows the window")

    refused = page.evaluate("() => window.webvm.waitForText('x', 1, 4).catch(error => error.code)")
    assert refused == "no_such_terminal"


def test_all_terminals_are_saved_and_watched(service: Service, profiles: Profiles) -> None:
    owner = new_email("terminals")
    page = profiles.new().new_page()
    sign_up(page, service.url, owner)
    first = start_machine(page, service.url, STARTER_64)
    first.run("echo on-the-first")
    second = first.show_terminal(1)
    second.wait_for(PROMPT)
    second.run("echo on-the-second")
    second.send("vim /root/open.txt\r")
    second.wait_for(r"open\.txt")
    second.send("iunsaved text\x1b")
    second.wait_for("unsaved text")
    first.save("two terminals")

    # Who watches sees the terminal that is shown.
    other = profiles.new().new_page()
    sign_in(other, service.url, owner)
    other.goto(f"{service.url}/vms/{first.vm_id}/")
    other.get_by_role("button", name="Watch").click()
    Console(other, 1).wait_for("unsaved text", 30_000)
    eventually(lambda: selected(other) == ["Terminal 2"], what="the watcher sees terminal 2")
    first.show_terminal(0)
    Console(other).wait_for("on-the-first", 30_000)
    eventually(lambda: selected(other) == ["Terminal 1"], what="the watcher sees terminal 1")
    first.show_terminal(1)
    first.save("the second is shown")
    path = f"/vms/{first.vm_id}/"
    other.context.close()
    first.close()

    page = profiles.new().new_page()
    sign_in(page, service.url, owner)
    page.goto(service.url + path)
    first = Console(page)
    first.wait_running()
    assert selected(page) == ["Terminal 2"]
    assert "on-the-first" in first.screen()
    second = Console(page, 1)
    assert "unsaved text" in second.screen()
    second.send(":wq\r")
    second.wait_for(PROMPT)
    assert "on-the-second" in second.screen()
    assert "unsaved text" in first.run("cat /root/open.txt")
    third = first.show_terminal(2)
    third.wait_for(PROMPT)
    assert re.search("/dev/ttyS2", third.run("tty"))


def test_switched_off_and_on_again(service: Service, profiles: Profiles) -> None:
    """By hand; and because what was saved of its memory is not for this version."""
    page = profiles.new().new_page()
    sign_up(page, service.url, new_email("restart"))
    console = start_machine(page, service.url, STARTER_64)
    console.run("echo kept > /root/file; (sleep 1000 &)")
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Restart…").click()
    dialog = page.get_by_role("dialog", name="Restart this machine?")
    dialog.get_by_role("button", name="Cancel").click()
    assert console.run("cat /root/file").strip() == "kept"
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Restart…").click()
    dialog.get_by_role("button", name="Restart", exact=True).click()
    console.wait_for(rf"switched off and on again(.|\n)*{PROMPT}")
    console.wait_running()
    assert console.run("cat /root/file; pgrep -c sleep; true").split() == ["kept", "0"]
    console.run("(while sleep 1; do echo >> /root/ticks; done &)")
    console.save()

    page.add_init_script(LESS_MEMORY)
    page.evaluate("() => sessionStorage.setItem('less-memory', '')")
    page.reload()
    boot = page.get_by_role("button", name="Start from its disk")
    boot.wait_for()
    expect(page.get_by_role("alert")).to_contain_text("its files are all there")
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()
    boot.click()
    console.wait_for(PROMPT)
    console.wait_running()
    assert console.run("cat /root/file; pgrep -c sleep; true").split() == ["kept", "0"]
    console.save()
    page.evaluate("() => sessionStorage.removeItem('less-memory')")
    page.reload()
    console.wait_running()
    assert console.run("cat /root/file").strip() == "kept"
