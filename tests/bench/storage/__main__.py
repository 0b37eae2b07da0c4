"""What saves cost, beside restic and borg on the same states: `uv run python -m tests.bench.storage`.

A machine is worked with in a real browser and saved after each of twenty steps; then every state (the
image's first) is written out as a raw disk and a raw memory and given to restic and borg. About twenty
minutes, most of them restic's and borg's; 6 GB of temporary space.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.bench.storage.peers import Borg, Peer, Restic
from tests.bench.storage.scripts import STEPS
from tests.bench.storage.work import Saved, set_up_django, size_of, work
from tests.support.browser import launch
from tests.support.service import Service

PEERS: dict[str, Callable[[Path], Peer]] = {
    "restic": lambda folder: Restic("restic", folder),
    "borg": lambda folder: Borg("borg", folder),
    # What borg's manual advises for disks: blocks of one size.
    "borg-4k": lambda folder: Borg("borg-4k", folder, "--chunker-params", "fixed,4096"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=len(STEPS), help="how many of the steps to do")
    parser.add_argument("--data-dir", type=Path, help="a data directory with the image; a copy of it is used")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="webvm-bench-") as temporary:
        folder = Path(temporary)
        if arguments.data_dir:
            shutil.copytree(arguments.data_dir, folder / "data")
        peers = [PEERS[name](folder) for name in arguments.peers]
        service = Service(folder / "data")
        service.start()
        try:
            with sync_playwright() as playwright:
                browser = launch(playwright)
                vm_id, saves = work(service, browser, arguments.steps)
                browser.close()
        finally:
            service.stop()
        image_bytes = {"all": size_of(service.chunk_dir / "pub")}
        snapshots = [saved.snapshot for saved in saves]
        states = compare(service.data_dir, vm_id, snapshots, folder, peers, image_bytes)
        print(json.dumps(report(saves, states, image_bytes, peers), indent=2))  # noqa: T201 - a command


@dataclass(frozen=True)
class State:
    """What zstd-3 makes of the blocks that differ from the state before; each peer's repository's bytes."""

    changed_bytes: int
    repositories: dict[str, int]


def compare(
    data_dir: Path,
    vm_id: str,
    snapshots: list[str],
    folder: Path,
    peers: list[Peer],
    image_bytes: dict[str, int],
) -> list[State]:
    """Gives every state of the machine to the peers."""
    set_up_django(data_dir)
    from tests.bench.storage.states import pack_bytes, states_of, write_state

    image_bytes["packs"] = pack_bytes(vm_id)
    raw = folder / "raw"
    raw.mkdir()
    states = []
    for number, devices in enumerate(states_of(vm_id, snapshots)):
        changed = write_state(devices, raw)
        states.append(State(changed, {peer.name: peer.back_up(number, raw) for peer in peers}))
    return states


def report(
    saves: list[Saved], states: list[State], image_bytes: dict[str, int], peers: list[Peer]
) -> dict[str, Any]:
    """All figures; `growth` is what the snapshots added to the image's own state."""
    first, last = states[0].repositories, states[-1].repositories
    ours = saves[-1].stored_bytes
    growth = {name: last[name] - first[name] for name in last}
    return {
        "versions": [peer.version() for peer in peers],
        "image_bytes": image_bytes,
        "repositories": [state.repositories for state in states],
        # All that came between two saves, also what was sent ahead and had changed again by the save.
        "stored_to_changed": [
            round((saved.stored_bytes - before) / state.changed_bytes, 2)
            for before, saved, state in zip(
                [0, *(saved.stored_bytes for saved in saves)], saves, states[1:], strict=False
            )
        ],
        "saves": [dataclasses.asdict(saved) for saved in saves],
        "growth": {"webvm": ours, **growth},
        "growth_to_ours": {name: round(size / ours, 2) for name, size in growth.items()},
        "total": {"webvm": ours + image_bytes["all"], **last},
        "median_backup_s": {peer.name: sorted(peer.seconds)[len(peer.seconds) // 2] for peer in peers},
    }


if __name__ == "__main__":
    main()
