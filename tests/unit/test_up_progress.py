"""What the terminal shows."""

from __future__ import annotations

import io
import re
import time

import pytest

from webvm.up.progress import Reporter, Step, human_bytes, human_seconds


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (41_000_000, "41.0 MB"), (3 * 10**9, "3.00 GB")],
)
def test_sizes(size: int, text: str) -> None:
    assert human_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.1, "1 s"), (59.2, "59 s"), (59.9, "1 min 0 s"), (125, "2 min 5 s")]
)
def test_times(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


def test_the_time_left_comes_from_the_rate() -> None:
    clock = Clock()
    step = Step("Fetching", None, clock)
    clock.now += 5
    step.update(10_000_000, 40_000_000, "bytes")
    assert step.status() == "Fetching: 10.0 MB of 40.0 MB, about 15 s left"
    clock.now += 10
    step.update(30_000_000, 40_000_000, "bytes")
    assert step.status() == "Fetching: 30.0 MB of 40.0 MB, about 5 s left"


def test_the_time_left_never_grows_while_nothing_is_heard() -> None:
    clock = Clock()
    step = Step("Fetching", None, clock)
    clock.now += 5
    step.update(1, 4, "packages")
    shown = []
    for _ in range(4):
        shown.append(step.status().rpartition(", ")[2])
        clock.now += 5
        step.update(1, 4, "packages")
    assert shown == ["about 15 s left", "about 10 s left", "about 5 s left", "20 s so far"]


def test_the_time_left_comes_from_experience_before_there_is_a_rate() -> None:
    clock = Clock()
    step = Step("Building", 10, clock)
    clock.now += 4
    assert step.status() == "Building: about 6 s left"
    clock.now += 8
    assert step.status() == "Building: 12 s so far"
    assert Step("Waiting", None, clock).status() == "Waiting: 1 s so far"


def test_a_quick_step_is_one_line() -> None:
    out = io.StringIO()
    report = Reporter(out)
    with report.step("Looking") as step:
        step.note("3 files")
    assert out.getvalue() == "  ✓ Looking (3 files)\n"


def test_a_failed_step_is_marked() -> None:
    out = io.StringIO()
    report = Reporter(out)
    with pytest.raises(ZeroDivisionError), report.step("Dividing"):
        _ = 1 / 0
    # The time is told when it took long, as on a busy machine it may.
    assert re.fullmatch(r"  ✗ Dividing( \([\d.]+ s\))?\n", out.getvalue())


def test_a_terminal_is_redrawn_and_left_tidy() -> None:
    out = Terminal()
    report = Reporter(out)
    with report.step("Fetching", 9) as step:
        step.update(1, 2, "files")
        report.line("something happened")
        time.sleep(0.5)
    text = out.getvalue()
    assert "1 of 2 files" in text
    # What stays on the screen: each redrawn line is erased before the next one.
    shown = "".join(part.rpartition("\r\x1b[2K")[2] + "\n" for part in text.split("\n") if part)
    assert shown.startswith("something happened\n  ✓ Fetching")


def test_a_terminal_without_utf_8() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    with Reporter(out).step("Looking"):
        pass
    assert raw.getvalue() == b"  ? Looking\n"
