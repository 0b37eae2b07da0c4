"""A real server (real sockets, database and files) that can be started again in a tenth of a second.

Loading the project takes seconds, so a process that has loaded it forks a server for each start. The server
watches its own saves (steps.py), so a test can have it killed at any step of one.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.servers import free_port
from webvm.up.processes import end_group, start_on_leash, tail

PROJECT = Path(__file__).resolve().parents[2]
START_S = 60.0
ANSWER_S = 600.0  # thousands of users take a while to make


class ForkedServer:
    """Context manager. `environ` are the service's settings; its data directory is `folder`/data."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        self.data_dir = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.pid: int | None = None
        self._armings = 0
        self._environ = {**os.environ, "WEBVM_DATA_DIR": str(self.data_dir), **(environ or {})}
        self._environ["DJANGO_SETTINGS_MODULE"] = "webvm.settings"
        self._process: subprocess.Popen[bytes] | None = None
        self._ours, self._theirs = socket.socketpair()
        self._ours.settimeout(ANSWER_S)
        self._lines = self._ours.makefile("rwb")

    def __enter__(self) -> ForkedServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output, self._theirs:
            fd = self._theirs.fileno()
            self._process = start_on_leash(
                [sys.executable, "-m", "tests.support.forked", self.folder, str(fd)],
                cwd=PROJECT,
                environ=self._environ,
                output=output,
                pass_fds=[fd],
            )
        self.call("prepare")
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._ours.close()
        if self._process is not None:
            end_group(self._process, 0)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of tests.support.worlds in a process of the service; its JSON-able answer."""
        return self._ask({"do": "call", "name": name, "arguments": arguments})

    def start(self, *, file_limit: int | None = None) -> None:
        """A new server process (uvicorn); it answers when this returns. `file_limit`: how long any file that
        it writes may become.
        """
        self._start({"do": "serve", "port": self.port, "file_limit": file_limit})

    def start_daphne(self) -> None:
        """The server that `up` runs, in a process that has forked nothing: for measuring."""
        self._start({"do": "daphne", "port": self.port})

    def _start(self, command: dict[str, Any]) -> None:
        assert not self.is_running(), "it runs already"
        self.pid = int(self._ask(command))
        deadline = time.monotonic() + START_S
        while True:
            try:
                httpx.get(f"{self.url}/api/v1/images", timeout=10).raise_for_status()
                return
            except httpx.TransportError:
                assert time.monotonic() < deadline, self.explain()
                assert self.is_running(), self.explain()
                time.sleep(0.02)

    def memory(self) -> int:
        """Bytes of memory that the server's process has now (resident)."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def cpu_seconds(self) -> float:
        """Processor time that the server's process has used so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def is_running(self) -> bool:
        return self.pid is not None and self._ask({"do": "look", "pid": self.pid}) is None

    def wait(self) -> int:
        """Until the server has ended; its exit status (negative: the signal that ended it)."""
        deadline = time.monotonic() + START_S
        while (status := self._ask({"do": "look", "pid": self.pid})) is None:
            assert time.monotonic() < deadline, f"it lives on\n{self.explain()}"
            time.sleep(0.01)
        self.pid = None
        return int(status)

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def arm(self, step: str, occurrence: int = 1) -> None:
        """Die just before this step, the first time from now (or a later time)."""
        self._armings += 1
        new = self.folder / "die-at.new"
        new.write_text(f"{step}\n{occurrence}\n{self._armings}")
        new.rename(self.folder / "die-at")
        self._trace.unlink(missing_ok=True)

    def disarm(self) -> None:
        (self.folder / "die-at").unlink(missing_ok=True)
        self._trace.unlink(missing_ok=True)

    def trace(self) -> list[str]:
        """The steps since it was armed or disarmed."""
        return self._trace.read_text().splitlines() if self._trace.exists() else []

    def explain(self) -> str:
        return f"--- {self.log.name}\n{tail(self.log, 40)}"

    @property
    def _trace(self) -> Path:
        return self.folder / "trace"

    def _ask(self, command: dict[str, Any]) -> Any:
        self._lines.write(json.dumps(command).encode() + b"\n")
        self._lines.flush()
        answer = self._lines.readline()
        assert answer, self.explain()
        return json.loads(answer)


def main(folder: Path, descriptor: int) -> None:
    """The process that has loaded the project: reads commands, forks what they ask for."""
    import uvicorn
    from django.urls import get_resolver

    import webvm.asgi  # noqa: F401 - loaded once, for all servers
    from tests.support import steps, worlds

    _ = get_resolver().url_patterns  # Django would load them with each server's first request

    ended: dict[int, int] = {}
    asked = socket.socket(fileno=descriptor)
    lines = asked.makefile("rwb")
    while line := lines.readline():
        command = json.loads(line)
        match command["do"]:
            case "call":
                answer = _in_fork(getattr(worlds, command["name"]), command["arguments"])
            case "look":
                answer = _look(command["pid"], ended)
            case "serve":
                answer = os.fork()
                if answer == 0:
                    asked.close()
                    _limit_files(command["file_limit"])
                    steps.install(folder)
                    uvicorn.run(
                        "webvm.asgi:application",
                        host="127.0.0.1",
                        port=command["port"],
                        log_level="warning",
                        lifespan="off",
                    )
                    os._exit(0)
            case "daphne":
                where = ["-b", "127.0.0.1", "-p", str(command["port"])]
                answer = os.fork()
                if answer == 0:
                    asked.close()
                    os.execv(  # noqa: S606 - a command of ours
                        sys.executable, [sys.executable, "-m", "daphne", *where, "webvm.asgi:application"]
                    )
        lines.write(json.dumps(answer).encode() + b"\n")
        lines.flush()


def _limit_files(limit: int | None) -> None:
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def _look(pid: int, ended: dict[int, int]) -> int | None:
    if pid not in ended:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended.get(pid)


def _in_fork(function: Callable[..., Any], arguments: list[Any]) -> Any:
    """Its own process, so that no open connection of a database is ever forked."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with os.fdopen(writing, "w") as file:
                file.write(json.dumps(function(*arguments)))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return json.loads(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
