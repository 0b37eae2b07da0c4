"""A real Chromium for the tests: found, or installed, or a sentence that says what to install."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Playwright, Request

NAMES = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    *("microsoft-edge", "microsoft-edge-stable", "msedge", "brave-browser"),
)
PLACES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "/opt/google/chrome/chrome",
    "/snap/bin/chromium",
    "/usr/lib/chromium/chromium",
)
INSTALLERS = {
    "apt-get": ["apt-get install -y --no-install-recommends chromium", "apt-get update"],
    "dnf": ["dnf install -y chromium"],
    "apk": ["apk add chromium"],
    "pacman": ["pacman -S --noconfirm chromium"],
}
# Nothing that asks the network for anything by itself, and no GPU.
FLAGS = (
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
RESULTS = Path(__file__).resolve().parents[2] / "test-results"


def usual_places() -> Iterator[str]:
    yield from (found for name in NAMES if (found := shutil.which(name)))
    yield from PLACES
    for variable in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"):
        if folder := os.environ.get(variable):
            yield str(Path(folder, "Google", "Chrome", "Application", "chrome.exe"))
            yield str(Path(folder, "Microsoft", "Edge", "Application", "msedge.exe"))


def find_browser(playwright: Playwright) -> str | None:
    """The path of a browser of the Chromium family; `WEBVM_BROWSER` comes first."""
    given = os.environ.get("WEBVM_BROWSER")
    if given:
        found = shutil.which(given)
        assert found, f"WEBVM_BROWSER names {given!r}, which is no program: correct it, or unset it."
        return found
    candidates = [*usual_places(), playwright.chromium.executable_path]
    return next((path for path in candidates if Path(path).is_file()), None)


def ensure_browser(playwright: Playwright) -> str:
    """A browser's path, installing one when there is none."""
    tried: list[str] = []
    for command in [None, *install_commands()]:
        if command is not None:
            tried.append(" ".join(command))
            subprocess.run(command, check=False, timeout=600, stdin=subprocess.DEVNULL, capture_output=True)
        if found := find_browser(playwright):
            return found
    raise AssertionError(
        "No Chromium, Chrome or Edge was found, and none could be installed "
        f"(tried: {'; '.join(tried)}): install one, or name its program in WEBVM_BROWSER."
    )


def install_commands() -> Iterator[list[str]]:
    """Ways to get a browser: Playwright's own download, then the system's packages when we are root."""
    yield [sys.executable, "-m", "playwright", "install", "chromium"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        for manager, commands in INSTALLERS.items():
            if shutil.which(manager):
                yield from (command.split() for command in reversed(commands))


def evidence_folder(test: str) -> Path:
    """Where what a failed test leaves goes."""
    folder = RESULTS / re.sub(r"[^\w.-]+", "_", test)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Profiles:
    """Fresh browser profiles, and what their pages said."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.lines: list[str] = []

    def new(self, *, storage_state: Any = None, **options: Any) -> BrowserContext:
        """A new browser profile: no cookies, no caches, unless `storage_state` brings some cookies."""
        context = self._browser.new_context(storage_state=storage_state, **options)
        self._contexts.append(context)
        name = f"profile {len(self._contexts)}"

        def heard(message: ConsoleMessage) -> None:
            self.lines.append(f"{name} console.{message.type}: {message.text}")

        def failed(request: Request) -> None:
            self.lines.append(f"{name} request failed: {request.method} {request.url} {request.failure}")

        def crashed(page: Page) -> None:
            self.lines.append(f"{name} page crashed: {page.url}")

        def opened(page: Page) -> None:
            page.on("pageerror", lambda error: self.lines.append(f"{name} error: {error}"))
            page.on("crash", crashed)

        context.on("console", heard)
        context.on("requestfailed", failed)
        context.on("page", opened)
        return context

    def keep_evidence(self, test: str) -> None:
        """Screenshots of all open pages, their addresses and the console's lines, in test-results/<test>/."""
        folder = evidence_folder(test)
        pages = [page for context in self._contexts for page in context.pages]
        for number, page in enumerate(pages, 1):
            self.lines.append(f"page {number}: {page.url}")
            try:
                page.screenshot(path=folder / f"page-{number}.png", timeout=10_000)
                screen = page.evaluate("() => window.webvm ? window.webvm.screenText() : null")
                state = page.evaluate("() => window.webvm ? window.webvm.state : null")
            except Error as problem:
                self.lines.append(f"page {number}: no screenshot: {problem}")
                continue
            if screen is not None:
                (folder / f"page-{number}.terminal.txt").write_text(str(screen), encoding="utf-8")
                self.lines.append(f"page {number}: state {json.dumps(state)}")
        (folder / "console.log").write_text("\n".join(self.lines) + "\n", encoding="utf-8")

    def close(self) -> None:
        for context in self._contexts:
            context.close()


def launch(playwright: Playwright) -> Browser:
    """Start the browser, headless."""
    return playwright.chromium.launch(
        executable_path=ensure_browser(playwright), headless=True, args=list(FLAGS)
    )
