"""The children of `up`: started on a leash, watched, started again with back-off, ended in order."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

LEASH = Path(__file__).with_name("leash.py")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LOG_LIMIT = 10 * 1024**2
BACK_OFF_S = 0.5
MAX_BACK_OFF_S = 30.0
STEADY_S = 60.0  # a child that ran this long starts over with the shortest back-off


@functools.cache
def lifeline() -> int:
    """The read end of a pipe whose write end nobody but this process holds, for as long as it lives."""
    reading, _writing = os.pipe()
    return reading


def start_on_leash(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    output: IO[bytes],
    held: IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start `command` in a process group that is killed when this process ends, however that happens."""
    fds = [lifeline(), held.fileno() if held else lifeline()]
    return subprocess.Popen(  # noqa: S603 - commands are ours
        [sys.executable, "-I", "-S", str(LEASH), *map(str, fds), *map(str, command)],
        cwd=cwd,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=[*fds, *pass_fds],
        start_new_session=True,
    )


def end_group(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """SIGTERM to the process, `grace_s` to comply, then SIGKILL to everything in its group."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    with suppress(ProcessLookupError, PermissionError):  # macOS: a group of zombies gives EPERM
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log file, without colours."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return COLOUR.sub("", "".join(deque(file, maxlen=lines))).rstrip()
    except FileNotFoundError:
        return ""


@dataclass
class Child:
    """A long-running part of the service. `grace_s`: how long it may take to stop when asked."""

    name: str
    command: Sequence[str | Path]
    cwd: Path
    environ: Mapping[str, str]
    log: Path
    held: IO[bytes]
    pass_fds: Sequence[int] = ()
    grace_s: float = 5.0
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _started: float = field(default=0.0, init=False)
    _back_off: float = field(default=BACK_OFF_S, init=False)
    _again: float | None = field(default=None, init=False)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        with self.log.open("ab") as output:
            self.process = start_on_leash(
                self.command,
                cwd=self.cwd,
                environ=self.environ,
                output=output,
                held=self.held,
                pass_fds=self.pass_fds,
            )
        self._started = time.monotonic()
        self._again = None

    def watch(self, say: Callable[[str], None]) -> bool:
        """Notice an end, and start again when it is time. True when the process id changed."""
        if self._again is not None:
            if time.monotonic() < self._again:
                return False
            self.start()
            return True
        if self.process is None or self.process.poll() is None:
            return False
        status = self.process.returncode
        end_group(self.process, 0)  # whatever it had started
        now = time.monotonic()
        if now - self._started > STEADY_S:
            self._back_off = BACK_OFF_S
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        say(f"The {self.name} {how}; starting it again in {self._back_off:g} s. Its log: {self.log}")
        self._again = now + self._back_off
        self._back_off = min(self._back_off * 2, MAX_BACK_OFF_S)
        return False

    def stop(self) -> None:
        if self.process is not None:
            end_group(self.process, self.grace_s)
            self.process = None
