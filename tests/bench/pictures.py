"""Makes the README's pictures: `uv run python -m tests.bench.pictures`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import BrowserContext, sync_playwright

from tests.e2e.steps import Console, sign_up, start_machine
from tests.support.browser import Profiles, launch
from tests.support.service import Service

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
PROGRAM = (
    r"printf '#include <stdio.h>\nint main(void) { puts(\"Hello from a tab\"); return 42; }\n' > hello.c"
)
LINES = ["uname -srm", "cat hello.c", "gcc -O2 hello.c -o hello", "./hello; echo it says $?"]


def type_lines(console: Console, lines: list[str]) -> None:
    """Each line when the prompt of the one before is there."""
    console.send("clear\r")
    console.page.wait_for_function("() => /^[^\\n]*# $/.test(window.webvm.screenText().trimStart())")
    for count, line in enumerate(lines, 2):
        console.send(line + "\r")
        console.page.wait_for_function(
            "count => (window.webvm.screenText().match(/^root@.*# ?/gm) ?? []).length >= count", arg=count
        )


def take(context: BrowserContext, url: str) -> None:
    page = context.new_page()
    sign_up(page, url, "ada@example.org")
    console = start_machine(page, url)
    console.run(PROGRAM)
    type_lines(console, LINES)
    console.save("hello compiles")
    page.screenshot(path=PICTURES / "console.jpg", type="jpeg", quality=80)
    page.goto(f"{url}/images/")
    second = start_machine(page, url)
    type_lines(second, ["python3 -c 'print(sum(range(101)))'", "free -m"])
    second.save("some Python")
    page.goto(f"{url}/machines/")
    page.wait_for_load_state("networkidle")
    page.screenshot(path=PICTURES / "machines.jpg", type="jpeg", quality=80)


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="webvm-pictures-") as temporary, sync_playwright() as playwright:
        service = Service(Path(temporary) / "data")
        browser = launch(playwright)
        try:
            service.start()
            profiles = Profiles(browser)
            take(profiles.new(viewport={"width": 1000, "height": 560}), service.url)
            profiles.close()
        finally:
            browser.close()
            service.stop()


if __name__ == "__main__":
    main()
