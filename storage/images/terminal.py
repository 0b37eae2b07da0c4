"""A publish job on a terminal: its log, and under it one line of progress with sizes and the time left."""

from __future__ import annotations

import shutil
import time
from typing import TextIO
from uuid import UUID

from storage.models import PublishJob


class Terminal:
    """`echo` takes a log line, or `None` when the job's progress was written."""

    def __init__(self, job_id: UUID, out: TextIO, show_log: bool) -> None:
        self._job_id = job_id
        self._out = out
        self._show_log = show_log
        self._live = out.isatty()
        self._is_drawn = False
        self._step = ""
        self._began = time.monotonic()

    def echo(self, line: str | None) -> None:
        if line is None:
            if self._live:
                self._draw()
        elif self._show_log or line.startswith("== "):
            self._erase()
            self._out.write(f"{line}\n")
            self._out.flush()

    def close(self) -> None:
        self._erase()
        self._out.flush()

    def _draw(self) -> None:
        step, done, total, unit = PublishJob.objects.values_list("step", "done", "total", "unit").get(
            pk=self._job_id
        )
        if step != self._step:
            self._step, self._began = step, time.monotonic()
        elapsed = time.monotonic() - self._began
        parts = [step]
        if total:
            amount = (
                f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
                if unit == "bytes"
                else f"{done} of {total} {unit}"
            )
            parts.append(f"{amount} ({100 * done // total} %)")
        if total and done and elapsed > 1 and unit != "steps":
            parts.append(f"about {elapsed * (total - done) / done:.0f} s left")
        else:
            parts.append(f"{elapsed:.0f} s")
        width = shutil.get_terminal_size().columns
        self._erase()
        self._out.write(", ".join(parts)[: width - 1])
        self._out.flush()
        self._is_drawn = True

    def _erase(self) -> None:
        if self._is_drawn:
            self._out.write("\r\x1b[K")
            self._is_drawn = False
