"""Twenty snapshots of a machine that somebody works with, made in a real browser."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import django
from playwright.sync_api import Browser

from tests.bench.storage.scripts import STEPS
from tests.e2e.steps import Console, new_email, sign_up, start_machine
from tests.support.browser import Profiles
from tests.support.service import Service


@dataclass(frozen=True)
class Saved:
    """One save: what was done before it, what the console said of it, what all saves have stored."""

    name: str
    snapshot: str
    figures: dict[str, float]
    seconds: float
    stored_bytes: int


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def work(service: Service, browser: Browser, steps: int) -> tuple[str, list[Saved]]:
    """Start a machine, do the first `steps` of `STEPS`, save after each; the VM's id and the saves."""
    profiles = Profiles(browser)
    try:
        page = profiles.new().new_page()
        sign_up(page, service.url, new_email("bench"))
        console = start_machine(page, service.url)
        private = service.chunk_dir / "t"
        before = size_of(private)
        saves = [save_after(console, *step, private, before) for step in STEPS[:steps]]
        return console.vm_id, saves
    finally:
        profiles.close()


def save_after(console: Console, name: str, command: str, private: Path, before: int) -> Saved:
    began = time.perf_counter()
    if command:
        console.run(command)
    seconds = time.perf_counter() - began
    answer = console.save(name)
    figures = {key: value for key, value in answer.items() if isinstance(value, int | float)}
    return Saved(name, str(answer["snapshot"]), figures, round(seconds, 1), size_of(private) - before)


def set_up_django(data_dir: Path) -> None:
    """For what reads the service's data, and is imported after this."""
    os.environ |= {"WEBVM_DATA_DIR": str(data_dir), "DJANGO_SETTINGS_MODULE": "webvm.settings"}
    django.setup()
