"""What `up` shows: tidy lines that redraw themselves in a terminal, plain lines otherwise."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

REDRAW_S = 0.2
LINE_S = 5.0
QUIET_S = 1.0  # what takes less than this gets one line, when it is over


def human_bytes(size: float) -> str:
    """`1.5 MB` and the like, decimal units."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def human_seconds(seconds: float) -> str:
    """`8 s`, `2 min 5 s`; never below one second."""
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


class Step:
    """One step under way. `update` may be called from any thread."""

    def __init__(self, title: str, expected_s: float | None, clock: Callable[[], float]) -> None:
        self.title = title
        self._expected_s = expected_s
        self._clock = clock
        self._began = self._advanced = clock()
        self._done = 0.0
        self._total = 0.0
        self._unit = ""
        self._note = ""

    def update(self, done: float, total: float, unit: str) -> None:
        """How far the step is, in `unit` (the unit `bytes` is shown in kB, MB, GB)."""
        if done > self._done:
            self._advanced = self._clock()
        self._done, self._total, self._unit = done, total, unit

    def note(self, text: str) -> None:
        """A few words shown behind the step's title (a size, a file name)."""
        self._note = text

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._began

    def seconds_left(self) -> float | None:
        """From the rate so far; before there is one, from how long the step usually takes."""
        advancing = (
            self._advanced - self._began
        )  # the rate as of the last advance: few, big ones must not mislead
        if self._done > 0 and self._total > 0 and advancing > QUIET_S:
            return advancing * self._total / self._done - self.elapsed_s
        return self._expected_s - self.elapsed_s if self._expected_s is not None else None

    def amount(self) -> str:
        if self._unit == "bytes":
            whole = f" of {human_bytes(self._total)}" if self._total else ""
            return f"{human_bytes(self._done)}{whole}" if self._done or self._total else ""
        if not self._total:
            return ""
        return f"{self._done:.0f} of {self._total:.0f} {self._unit}".rstrip()

    def status(self) -> str:
        left = self.seconds_left()
        words = [word for word in (self.amount(), self._note) if word]
        if left is not None and left > 0:
            words.append(f"about {human_seconds(left)} left")
        else:
            words.append(f"{human_seconds(self.elapsed_s)} so far")
        return f"{self.title}: {', '.join(words)}"

    def outcome(self) -> str:
        size = self._note or (human_bytes(self._total) if self._unit == "bytes" and self._total else "")
        took = f"{self.elapsed_s:.1f} s" if self.elapsed_s >= 0.1 else ""
        details = ", ".join(word for word in (size, took) if word)
        return f"{self.title}{f' ({details})' if details else ''}"


class Reporter:
    """Writes to `out`. Steps do not nest: starting one inside another is an error of the caller."""

    def __init__(self, out: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._tty = out.isatty()
        self._lock = threading.RLock()
        self._step: Step | None = None
        self._printed = ""

    def line(self, text: str = "") -> None:
        """A line that stays."""
        with self._lock:
            self._erase()
            self._write(f"{text}\n")
            self._draw()

    @contextmanager
    def step(self, title: str, expected_s: float | None = None) -> Iterator[Step]:
        """Show `title` with its progress until the block ends; `expected_s` is how long it usually takes."""
        if self._step is not None:
            raise RuntimeError("Steps do not nest.")
        step = Step(title, expected_s, self._clock)
        over = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(step, over), daemon=True)
        with self._lock:
            self._step = step
            self._draw()
        ticker.start()
        ended = "  ✗ "
        try:
            yield step
            ended = "  ✓ "
        finally:
            over.set()
            with self._lock:
                self._erase()
                self._step = None
                self._write(f"{ended}{step.outcome()}\n")

    def _tick(self, step: Step, over: threading.Event) -> None:
        wait = QUIET_S
        while not over.wait(REDRAW_S if self._tty else wait):
            with self._lock:
                if over.is_set():
                    return
                if self._tty:
                    self._draw()
                else:
                    self._write(f"  · {step.status()}\n")
            wait = LINE_S

    def _draw(self) -> None:
        if self._step is None or not self._tty:
            return
        self._erase()
        self._printed = f"  · {self._step.status()}"[: shutil.get_terminal_size().columns - 1]
        self._write(self._printed)

    def _erase(self) -> None:
        if self._printed:
            self._write("\r\x1b[2K")
            self._printed = ""

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except UnicodeEncodeError:  # a terminal in the C locale
            self._out.write(text.encode("ascii", "replace").decode("ascii"))
            self._out.flush()
