"""One module of a suite run natively or in the engine, case by case, and what is remembered of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.engine.commands import NODE, PATH, RUNNER

TOO_SLOW = "too slow"
# A hundred children at once are a hundred copies of a program's memory: fork copies here.
ROOM = ["--memory", "8192"]
LAST_WORDS = 1500


@dataclass
class Case:
    outcome: str  # passed, failed, skipped, too slow, died
    why: str = ""
    seconds: float = 0.0


@dataclass
class Run:
    """A module's cases. `ending` says why the rest of them is unknown."""

    cases: dict[str, Case] = field(default_factory=dict)
    ending: str = ""
    seconds: float = 0.0

    def passed(self) -> set[str]:
        return {name for name, case in self.cases.items() if case.outcome == "passed"}


@dataclass(frozen=True)
class Limits:
    """Seconds by the clock."""

    module: float
    case: float


def run(
    guest: list[str], variables: dict[str, str], limits: Limits, *, engine: bool, known: Run | None = None
) -> Run:
    """Starts the guest program until every case has an outcome: after one that hangs or ends the program it
    goes on with those that are left. `known` is a run whose time was not enough: it goes on."""
    result = Run(dict(known.cases) if known else {})
    before = known.seconds if known else 0.0
    started = time.monotonic()
    while True:
        left = limits.module - (time.monotonic() - started)
        reached = len(result.cases)
        if left <= 0:
            result.ending = TOO_SLOW
            break
        ending = _attempt(guest, variables, result, Limits(left, limits.case), engine=engine)
        if not ending:
            break
        if len(result.cases) == reached or ending.startswith("module"):
            result.ending = ending.removeprefix("module ")
            break
    result.seconds = round(before + time.monotonic() - started, 1)
    return result


def _attempt(
    guest: list[str], variables: dict[str, str], result: Run, limits: Limits, *, engine: bool
) -> str:
    """How the program ended; nothing when it said that it finished."""
    with tempfile.TemporaryDirectory(prefix="suites-") as folder, tempfile.TemporaryFile() as errors:
        environment = {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "TERM": "dumb",
            "HOME": folder,
            "TMPDIR": folder,
            "USER": "root",
            "SHELL": "/bin/bash",
            **variables,
        }
        user = f"{os.getuid()}:{os.getgid()}"
        before = [str(NODE), str(RUNNER), "--root", "/", "--cwd", folder, "--user", user, *ROOM]
        for name, value in environment.items():
            before += ["--env", f"{name}={value}"]
        command = [*guest] if not engine else [*before, "--", *guest]
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        try:
            assert process.stdin is not None
            process.stdin.write("\n".join(result.cases).encode())
            process.stdin.close()
            begun, ending = _follow(process, result, limits)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        if not ending:
            return ""
        if ending == "died":
            errors.seek(0, os.SEEK_END)
            errors.seek(max(0, errors.tell() - LAST_WORDS))
            ending = f"died ({code}): {errors.read().decode(errors='replace').strip()}"
        if begun and ending != "module too slow":
            kind = TOO_SLOW if ending == TOO_SLOW else "died"
            result.cases[begun] = Case(kind, ending)
        return ending


def _follow(process: subprocess.Popen[bytes], result: Run, limits: Limits) -> tuple[str, str]:
    """Reads records; answers the case that had begun, and how it ended."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    begun = ""
    until = time.monotonic() + limits.module
    last = time.monotonic()
    rest = b""
    while True:
        now = time.monotonic()
        if now >= until:
            return begun, "module too slow"
        if now - last >= limits.case:
            return begun, TOO_SLOW
        ready, _, _ = select.select([descriptor], [], [], min(until - now, limits.case - (now - last)))
        if not ready:
            continue
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return begun, "died"
        last = time.monotonic()
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            record = json.loads(line)
            if "begin" in record:
                begun = record["begin"]
            elif "end" in record:
                begun = ""
                result.cases[record["end"]] = Case(record["outcome"], record["why"], record["seconds"])
            else:
                return "", ""


class Results:
    """What is known of a suite, in a file that is written after every module."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.native: dict[str, Run] = {}
        self.engine: dict[str, Run] = {}
        self._read()

    def add_native(self, module: str, run: Run) -> None:
        with self._alone():
            self._read()
            self.native[module] = run
            self._write()

    def add_engine(self, module: str, run: Run) -> None:
        with self._alone():
            self._read()
            self.engine[module] = run
            self._write()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Others may run modules of the same suite: what they found stays."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> None:
        if self._path.is_file():
            stored = json.loads(self._path.read_text())
            self.native = {name: _restored(run) for name, run in stored["native"].items()}
            self.engine = {name: _restored(run) for name, run in stored["engine"].items()}

    def _write(self) -> None:
        text = json.dumps(
            {
                "native": {name: asdict(run) for name, run in self.native.items()},
                "engine": {name: asdict(run) for name, run in self.engine.items()},
            }
        )
        part = self._path.with_suffix(".part")
        part.write_text(text)
        part.replace(self._path)


def _restored(stored: dict[str, object]) -> Run:
    cases = stored["cases"]
    assert isinstance(cases, dict)
    return Run(
        {name: Case(**case) for name, case in cases.items()},
        str(stored["ending"]),
        float(str(stored["seconds"])),
    )
