"""What autosave sends beside what changed: `uv run python -m tests.bench.storage.rounds`.

The work of `scripts.py` in a real browser with autosave every ten seconds and an explicit save after every
few steps. All that the page sends between two commits (a round that goes ahead and the save that follows it)
is compared with what zstd-3 makes of the blocks that differ between the two snapshots; the same between
explicit saves. About eight minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, WebSocket, sync_playwright

from tests.bench.storage.scripts import STEPS
from tests.bench.storage.work import set_up_django
from tests.e2e.steps import Console, new_email, sign_up, start_machine
from tests.support.browser import Profiles, launch
from tests.support.service import Service

AUTOSAVE_S = 10
PAUSE_MS = 12_000


@dataclass
class Sent:
    """What was sent for one commit: its roots, the bytes of what went ahead, and of what the save left."""

    kind: str
    disk_root: str
    memory_root: str
    ahead_bytes: int
    save_bytes: int


class Wire:
    """Listens to what the page sends. A save negotiates once more, after what went ahead is there."""

    def __init__(self, page: Page) -> None:
        self.sent: list[Sent] = []
        self._parts = [0]
        page.on("websocket", self._listen)

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framesent", self._frame)

    def _frame(self, payload: str | bytes) -> None:
        if isinstance(payload, bytes):
            self._parts[-1] += len(payload)
            return
        message = json.loads(payload)
        if message.get("type") == "negotiate" and self._parts[-1]:
            self._parts.append(0)
        elif message.get("type") == "commit":
            *ahead, last = self._parts
            self._parts = [0]
            kind, disk, memory = message.get("kind", "save"), message["disk_root"], message["memory_root"]
            self.sent.append(Sent(kind, disk, memory, sum(ahead), last))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=len(STEPS), help="how many of the steps to do")
    parser.add_argument("--every", type=int, default=4, help="an explicit save after so many steps")
    parser.add_argument("--data-dir", type=Path, help="a data directory with the image; a copy of it is used")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="webvm-bench-") as temporary:
        folder = Path(temporary)
        if arguments.data_dir:
            shutil.copytree(arguments.data_dir, folder / "data")
        service = Service(folder / "data")
        service.start()
        try:
            with sync_playwright() as playwright:
                browser = launch(playwright)
                vm_id, sent = work(service, Profiles(browser), arguments.steps, arguments.every)
                browser.close()
        finally:
            service.stop()
        print(json.dumps(report(service.data_dir, vm_id, sent, folder), indent=2))  # noqa: T201 - a command


def work(service: Service, profiles: Profiles, steps: int, every: int) -> tuple[str, list[Sent]]:
    """Do the steps with pauses in between, as a person does; the VM's id and what was sent."""
    page = profiles.new().new_page()
    wire = Wire(page)
    sign_up(page, service.url, new_email("bench"))
    console: Console = start_machine(page, service.url)
    console.save("begun")
    console.set_autosave(AUTOSAVE_S)
    for number, (name, command) in enumerate(STEPS[:steps], 1):
        if command:
            console.run(command)
        page.wait_for_timeout(PAUSE_MS)
        if number % every == 0:
            console.save(name)
    profiles.close()
    return console.vm_id, wire.sent


def report(data_dir: Path, vm_id: str, sent: list[Sent], folder: Path) -> dict[str, Any]:
    """Bytes sent, what changed, and one to the other: of each commit, and between explicit saves."""
    set_up_django(data_dir)
    from tests.bench.storage.states import changes_between

    roots = [(one.disk_root, one.memory_root) for one in sent]
    commits = [
        {**figures(one.ahead_bytes, one.save_bytes, changed), "kind": one.kind}
        for one, changed in zip(sent[1:], changes_between(vm_id, roots, folder / "each"), strict=True)
    ]
    saves = [number for number, one in enumerate(sent) if one.kind == "save"]
    between = changes_between(vm_id, [roots[number] for number in saves], folder / "saves")
    spans = []
    for first, last, changed in zip(saves, saves[1:], between, strict=False):
        span = sent[first + 1 : last + 1]
        ahead, left = sum(one.ahead_bytes for one in span), sum(one.save_bytes for one in span)
        each = sum(commit["changed"] for commit in commits[first:last])
        spans.append(
            {**figures(ahead, left, changed), "commits": len(span), "to_sum": round((ahead + left) / each, 2)}
        )
    return {"commits": commits, "between_saves": spans, "all": total(commits)}


def figures(ahead: int, save: int, changed: int) -> dict[str, Any]:
    return {
        "ahead": ahead,
        "save": save,
        "changed": changed,
        "ratio": round((ahead + save) / changed, 2),
    }


def total(commits: list[dict[str, Any]]) -> dict[str, Any]:
    ahead, save, changed = (sum(commit[key] for commit in commits) for key in ("ahead", "save", "changed"))
    return figures(ahead, save, changed)


if __name__ == "__main__":
    main()
