"""The pipeline's report, written into its job's rows about twice a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from storage.errors import PublishCancelled
from storage.images.report import clean_line
from storage.models import PublishJob, PublishLogLine, PublishState

FLUSH_S = 0.5
# A guest that prints for ever must not fill the database.
MAX_CONSOLE_LINES = 3000


class JobReport:
    """See `Report`. `echo` is called with each log line and after each flush (`None`), for a terminal."""

    def __init__(self, job_id: UUID, worker: str, echo: Callable[[str | None], None] | None = None) -> None:
        self.job_id = job_id
        self.worker = worker
        self.step_name = ""
        # Seconds each step took, in order.
        self.times: dict[str, float] = {}
        self.amount: tuple[int, int, str] = (0, 0, "")
        self._echo = echo
        self._began = self._flushed = time.monotonic()
        self._pending: list[str] = []
        self._rests: dict[str, str] = {}
        self._console_lines = 0
        last = PublishLogLine.objects.filter(job_id=job_id).aggregate(last=Max("seq"))["last"]
        self._seq: int = last or 0

    def step(self, name: str) -> None:
        self._end_step()
        self.step_name = name
        self.amount = (0, 0, "")
        self.log(f"== {name}")
        self.flush()

    def progress(self, done: int, total: int, unit: str) -> None:
        self.amount = (done, total, unit)
        self.tick()

    def log(self, text: str) -> None:
        for line in text.splitlines() or [""]:
            self._add(clean_line(line))
        self.tick()

    def console(self, text: str, source: str = "console") -> None:
        *lines, rest = (self._rests.get(source, "") + text).split("\n")
        self._rests[source] = rest[-4096:]
        for line in lines:
            self._console_lines += 1
            if self._console_lines == MAX_CONSOLE_LINES:
                self._add("(the guest prints more than is kept)")
            elif self._console_lines < MAX_CONSOLE_LINES and (cleaned := clean_line(line)):
                self._add(f"   {cleaned}")
        self.tick()

    def tick(self) -> None:
        if time.monotonic() - self._flushed >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Writes everything. Raises `PublishCancelled` when somebody asked for that, or another worker has
        the job.
        """
        self._flushed = time.monotonic()
        done, total, unit = self.amount
        with transaction.atomic():
            mine = PublishJob.objects.filter(pk=self.job_id, worker=self.worker, state=PublishState.RUNNING)
            if not mine.update(
                step=self.step_name[:60], done=done, total=total, unit=unit[:20], heartbeat_at=timezone.now()
            ):
                raise PublishCancelled("Another worker has taken over the job.")
            self._write_lines()
        if self._echo:
            self._echo(None)
        if mine.filter(cancel_requested=True).exists():
            raise PublishCancelled

    def close(self) -> None:
        """Writes the last log lines; the job's end is not this class's affair."""
        self._end_step()
        for rest in self._rests.values():
            self._add(f"   {clean_line(rest)}")
        self._write_lines()

    def _end_step(self) -> None:
        now = time.monotonic()
        if self.step_name:
            self.times[self.step_name] = round(self.times.get(self.step_name, 0) + now - self._began, 2)
        self._began = now

    def _add(self, line: str) -> None:
        self._pending.append(line)
        if self._echo:
            self._echo(line)

    def _write_lines(self) -> None:
        lines, self._pending = self._pending, []
        rows = [
            PublishLogLine(job_id=self.job_id, seq=self._seq + at, text=text)
            for at, text in enumerate(lines, 1)
        ]
        PublishLogLine.objects.bulk_create(rows, batch_size=500)
        self._seq += len(lines)
