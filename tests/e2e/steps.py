"""What a person does, in words: the steps that the browser tests are made of."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from playwright.sync_api import Page

PASSWORD = "correct horse battery staple"
BOOT_MS = 90_000
COMMAND_MS = 120_000  # a cold gcc in an emulator on a busy machine

# What a shell prompt of the starter image looks like at the end of the screen.
PROMPT = r"[#$] $"


# The page's descriptor, before the page's own scripts read it: the saved memory is not the machine's then.
LESS_MEMORY = """document.addEventListener("readystatechange", () => {
  const descriptor = document.getElementById("descriptor");
  if (descriptor && sessionStorage.getItem("less-memory") !== null)
    descriptor.textContent = descriptor.textContent.replace('"memory_mib": 512', '"memory_mib": 256');
}, { once: true });"""


def new_email(who: str) -> str:
    return f"{who}-{uuid4().hex[:8]}@example.org"


def csrf_headers(page: Page) -> dict[str, str]:
    """What a request of a signed-in page must carry to change anything."""
    token = next((cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "csrftoken"), "")
    return {"X-CSRFToken": token, "Referer": page.url}


def sign_up(page: Page, url: str, email: str) -> None:
    page.goto(f"{url}/accounts/signup/")
    page.get_by_label("Email").fill(email)
    for field in page.locator("input[type=password]").all():
        field.fill(PASSWORD)
    page.locator("main form .button-primary").first.click()
    page.wait_for_url("**/machines/**")


def sign_in(page: Page, url: str, email: str) -> None:
    page.goto(f"{url}/accounts/login/")
    page.get_by_label("Email").fill(email)
    page.locator("input[type=password]").fill(PASSWORD)
    page.locator("main form .button-primary").first.click()
    page.wait_for_url("**/machines/**")


STARTER, STARTER_64 = "Debian 12 starter", "Debian 12 starter, 64-bit"
# What the tests that any machine must pass are run on.
IMAGE = os.environ.get("WEBVM_TEST_IMAGE", STARTER_64)


def start_machine(page: Page, url: str, image: str = IMAGE) -> Console:
    """From the machines page to a prompt: the catalogue, and the start button of the image of that title."""
    page.goto(f"{url}/images/")
    page.get_by_role("button", name=f"Start a machine from {image}", exact=True).click()
    page.wait_for_url(re.compile(r"/vms/[0-9a-f-]{36}/"))
    console = Console(page)
    console.wait_running()
    return console


class Console:
    """The console page, or one of its further terminals, through `window.webvm` (docs/automation.md)."""

    def __init__(self, page: Page, terminal: int = 0) -> None:
        self.page = page
        self.number = terminal

    def show_terminal(self, number: int) -> Console:
        """Press the tab of a terminal; what is asked of the answer is asked of that one."""
        self.page.get_by_role("tab", name=re.compile(rf"^Terminal {number + 1}\b")).click()
        return Console(self.page, number)

    @property
    def vm_id(self) -> str:
        found = re.search(r"/vms/([0-9a-f-]{36})/", self.page.url)
        assert found, f"not a console: {self.page.url}"
        return found.group(1)

    @property
    def state(self) -> str:
        return str(self.page.evaluate("() => window.webvm.state"))

    def wait_running(self) -> None:
        self.page.wait_for_function("() => window.webvm !== undefined", timeout=BOOT_MS)
        self.page.evaluate("() => window.webvm.whenRunning()")
        self.wait_for(PROMPT, BOOT_MS)

    def send(self, text: str) -> None:
        self.page.evaluate("([text, number]) => window.webvm.send(text, number)", [text, self.number])

    def screen(self) -> str:
        return str(self.page.evaluate("number => window.webvm.screenText(number)", self.number))

    def wait_for(self, regex: str, timeout_ms: int = COMMAND_MS) -> None:
        try:
            self.page.evaluate(
                "([regex, ms, number]) => window.webvm.waitForText(new RegExp(regex), ms, number)",
                [regex, timeout_ms, self.number],
            )
        except Exception as problem:
            shown = f"{self.screen()}\n(the machine is {self.state})"
            raise AssertionError(f"{regex!r} was not seen; the screen shows:\n{shown}") from problem

    _mark = 0

    def run(self, command: str, timeout_ms: int = COMMAND_MS) -> str:
        """A shell command's output. The marks are made by the shell, so the echo cannot match them."""
        Console._mark += 1
        begin, end = f"<{Console._mark}>", f"</{Console._mark}:"
        self.send(f'printf "<%s>\\n" {Console._mark}; {command}; printf "</%s:%s>\\n" {Console._mark} $?\r')
        self.wait_for(re.escape(end) + r"\d+>", timeout_ms)
        screen = self.screen()
        body = screen[screen.rindex(begin) + len(begin) : screen.rindex(end)]
        return body.strip("\r\n")

    def save(self, message: str = "") -> dict[str, Any]:
        answer = self.page.evaluate("message => window.webvm.save({message})", message)
        assert answer["snapshot"], answer
        return dict(answer)

    def set_autosave(self, seconds: int) -> None:
        """By the console's own control: 0 (never), 10, 30, 120 or 600."""
        self.page.get_by_role("button", name="More").click()
        self.page.get_by_label("Autosave").select_option(str(seconds))
        self.page.keyboard.press("Escape")

    def stats(self) -> dict[str, Any]:
        return dict(self.page.evaluate("() => window.webvm.stats()"))

    def close(self) -> None:
        self.page.context.close()


def count_of(console: Console, path: str = "/root/counter") -> int:
    return int(console.run(f"cat {path}").split()[-1])


def eventually(check: Any, seconds: float = 30, what: str = "") -> Any:
    """The first true answer of `check`, asked again and again for at most `seconds`."""
    end = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"did not happen within {seconds} s: {what or check}")
        time.sleep(0.25)


@contextmanager
def swapped_chunks(folder: Path, replacement: str) -> Iterator[None]:
    """Every public chunk goes `missing`, a copy of another (`lying`), or a folder (`unreadable`), a while."""
    away = folder.with_name(folder.name + ".away")
    folder.rename(away)
    try:
        if replacement != "missing":
            files = sorted(path for path in away.rglob("*") if path.is_file())
            decoy = min(files, key=lambda path: path.stat().st_size)
            for file in files:
                target = folder / file.relative_to(away)
                target.parent.mkdir(parents=True, exist_ok=True)
                if replacement == "lying":
                    target.hardlink_to(decoy)
                else:
                    target.mkdir()
        yield
    finally:
        if folder.exists():
            trash = folder.with_name(folder.name + ".trash")
            folder.rename(trash)
            away.rename(folder)
            for path in sorted(trash.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            trash.rmdir()
        else:
            away.rename(folder)
