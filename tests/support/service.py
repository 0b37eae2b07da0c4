"""The real service, started with `manage.py up` as a person would, for the browser tests."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.servers import free_port
from webvm.up.locks import read_status
from webvm.up.processes import end_group, start_on_leash, tail

PROJECT = Path(__file__).resolve().parents[2]
FIRST_START_S = 900.0  # toolchain, downloads, the starter image
READY = "Press Ctrl-C to stop."


class Service:
    """`manage.py up` on a data directory and a port of its own; it can be killed and started again."""

    def __init__(self, data_dir: Path, environ: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        self._environ = {**os.environ, **(environ or {})}
        # The tests' settings are not the service's, and uv has started the tests, not the service.
        for variable in ("DJANGO_SETTINGS_MODULE", "UV_RUN_RECURSION_DEPTH"):
            self._environ.pop(variable, None)
        self._process: subprocess.Popen[bytes] | None = None
        self._seen = 0

    @property
    def chunk_dir(self) -> Path:
        """Where the local chunk store keeps its objects: `pub/…` and `t/<tenant>/…`."""
        return self.data_dir / "chunks"

    @property
    def output(self) -> str:
        """All that `up` has printed, over all starts."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    @property
    def sign_in_link(self) -> str:
        """The newest sign-in link that `up` has printed for the first admin."""
        links = re.findall(r"https?://\S+/sign-in-link/#\S+", self.output)
        assert links, f"up printed no sign-in link:\n{self.output}"
        return str(links[-1])

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def private_chunks(self) -> int:
        """How many chunks the tenants have stored."""
        return sum(path.is_file() for path in (self.chunk_dir / "t").rglob("*"))

    def launch(self, python: Sequence[str] = (sys.executable,)) -> subprocess.Popen[bytes]:
        """Start `up` without waiting for anything; `python` is the command that runs `manage.py`."""
        assert not self.is_running, "it runs already"
        self._seen = len(self.output)
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        with self.log.open("ab") as output:
            self._process = start_on_leash(
                [*python, PROJECT / "manage.py", "up", *options],
                cwd=PROJECT,
                environ=self._environ,
                output=output,
            )
        return self._process

    def wait_ready(self, timeout_s: float) -> None:
        """Until the `up` that was launched says that all is ready."""
        assert self._process is not None, "it was not started"
        deadline = time.monotonic() + timeout_s
        while READY not in self.output[self._seen :]:
            if self._process.poll() is not None:
                raise AssertionError(f"up ended with status {self._process.returncode}:\n{self.explain()}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"up was not ready after {timeout_s} s:\n{self.explain()}")
            time.sleep(0.05)

    def start(self, timeout_s: float = FIRST_START_S) -> float:
        """Start `up` and wait until it says that all is ready; answers the seconds that took."""
        began = time.monotonic()
        self.launch()
        self.wait_ready(timeout_s)
        return time.monotonic() - began

    def wait_for_image(self, slug: str, timeout_s: float = FIRST_START_S) -> None:
        """Until machines can be started from it: `up` publishes all but the first while it serves."""
        deadline = time.monotonic() + timeout_s
        while True:
            with urllib.request.urlopen(f"{self.url}/api/v1/images", timeout=60) as answer:  # noqa: S310 - ours
                if slug in {item["slug"] for item in json.load(answer)["items"]}:
                    return
            assert "could not be published" not in self.output, self.explain()
            assert time.monotonic() < deadline, f"no {slug} after {timeout_s} s:\n{self.explain()}"
            time.sleep(0.5)

    def wait(self, timeout_s: float) -> int:
        """Until `up` has ended; its exit status (negative: the signal that ended it)."""
        assert self._process is not None, "it was not started"
        status = self._process.wait(timeout_s)
        end_group(self._process, 0)  # the watcher of the leash that the test holds `up` on
        return status

    def explain(self) -> str:
        """The ends of all logs, for the message of a failed test."""
        logs = [self.log, *sorted((self.data_dir / "log").glob("*.log"))]
        return "\n".join(f"--- {log.name}\n{tail(log, 40)}" for log in logs)

    def kill(self) -> None:
        """SIGKILL to `up`; its children go with it, which is waited for."""
        self._end(signal.SIGKILL)

    def kill_server(self) -> None:
        """SIGKILL to the server process alone; `up` starts a new one."""
        status = read_status(self.data_dir)
        assert status, "it does not run"
        os.kill(status["server"], signal.SIGKILL)

    def stop(self) -> None:
        """End it as a service manager would."""
        if self.is_running:
            self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, "it was not started"
        self._process.send_signal(number)
        self.wait(60)
        wait_until_free(self.port)


def wait_until_free(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"somebody still listens on port {port}")
