"""A browser of one's own that can be killed as a crash would, and started again on the same profile."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, BrowserType, Error, Page

from tests.support.browser import FLAGS

START_S = 60


class KillableBrowser:
    """Chromium on the profile folder `profile`, apart from the browser that the other tests share."""

    def __init__(self, kind: BrowserType, program: str, profile: Path) -> None:
        self._kind = kind
        self._program = program
        self._profile = profile
        profile.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._browser: Browser | None = None

    def start(self) -> Page:
        """A page of the profile; the browser's windows of before are not restored."""
        port = self._profile / "DevToolsActivePort"
        port.unlink(missing_ok=True)
        command = [
            self._program,
            *("--headless=new", "--no-sandbox", "--remote-debugging-port=0", "--window-size=1280,800"),
            *("--hide-crash-restore-bubble", "--password-store=basic", "--use-mock-keychain"),
            *FLAGS,
            f"--user-data-dir={self._profile}",
            "about:blank",
        ]
        with tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            deadline = time.monotonic() + START_S
            while not (port.exists() and port.read_text().count("\n")):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise AssertionError(f"the browser did not start:\n{log.read().decode()[-2000:]}")
                time.sleep(0.05)
        number = port.read_text().splitlines()[0]
        self._browser = self._kind.connect_over_cdp(f"http://127.0.0.1:{number}")
        return self._browser.contexts[0].new_page()

    def keep_evidence(self, folder: Path) -> None:
        """Screenshots of the pages that are open."""
        pages = self._browser.contexts[0].pages if self._browser else []
        for number, page in enumerate(pages, 1):
            try:
                page.screenshot(path=folder / f"page-{number}.png", timeout=10_000)
            except Error as problem:
                (folder / f"page-{number}.txt").write_text(f"{page.url}: {problem}", encoding="utf-8")

    def kill(self) -> None:
        """SIGKILL to the browser and all its processes at once: nothing is written, nobody is told."""
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)
        self._process = None
        if self._browser is not None:
            self._browser.close()
            self._browser = None
        for lock in self._profile.glob("Singleton*"):
            lock.unlink()
