"""The order of things in `manage.py up`."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.migration import Migration

from webvm.accounts.bootstrap import ensure_first_admin
from webvm.accounts.models import User
from webvm.up.client import BASE_DIR, Client
from webvm.up.errors import UpError
from webvm.up.locks import only_one, remove_status, write_status
from webvm.up.options import Options
from webvm.up.processes import Child, tail
from webvm.up.progress import Reporter, human_bytes
from webvm.up.starter import Background, has_image, missing_starters, publish_starter

GB = 1000**3
FIRST_RUN_BYTES = 4 * GB  # packages, downloads, two disk images while they are made, their chunks
LATER_BYTES = GB // 5
MIGRATE_S = 4.0
START_S = 4.0
READY_S = 60.0
WATCH_S = 0.2
# Not Daphne: it keeps in memory what a slow reader has not taken yet, and all of a body before it passes it
# on. Chunks on a socket are compressed already; who is behind a proxy is the settings' affair.
SERVER = (
    *("-m", "uvicorn", "--log-level", "info", "--no-access-log", "--timeout-graceful-shutdown", "2"),
    *("--ws-per-message-deflate", "false", "--lifespan", "off", "--no-proxy-headers"),
)
# One job at a time and none taken before its turn: a job in hand is lost with the worker, a queued one is
# not.
WORKER = (
    *("-m", "celery", "-A", "webvm.celery", "worker", "--pool", "solo", "--concurrency", "1"),
    *("--prefetch-multiplier", "1", "--loglevel", "info"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    "--beat",  # the schedule: garbage collection and the like
)


class Service:
    """One run of `up`."""

    def __init__(self, options: Options, report: Reporter) -> None:
        self.options = options
        self.report = report
        self.data_dir: Path = settings.DATA_DIR
        self.children: list[Child] = []
        self.url = ""

    def run(self) -> None:
        """Everything from the checks to a clean stop; raises `UpError`, or StopRequested when asked to."""
        with ExitStack() as stack:
            held = stack.enter_context(only_one(self.data_dir))
            listener = stack.enter_context(listen(self.options))
            self.url = f"http://{self.options.url_host}:{listener.getsockname()[1]}"
            self.report.line(f"WebVM on {self.url}, data in {self.data_dir}")
            check_free_space(self.data_dir, BASE_DIR, needed=space_needed(self.data_dir))
            Client().ensure_build(self.report)
            migrate(self.report)
            stack.callback(self.stop)
            server, worker = self.parts(listener, held)
            with self.report.step("Starting the server", START_S):
                sign_in = self.start_server(server, listener)
            self.say_ready(sign_in)
            self.start(worker)  # after the server, which somebody waits for
            missing = missing_starters()
            if missing and not has_image():
                publish_starter(missing.pop(0), self.report, self.watch)
                self.report.line("The starter image is published: machines can be started.")
                if sign_in:
                    self.say_ready(None if has_signed_in() else sign_in)
            first_run_is_over(self.data_dir).touch()
            others = Background(missing, self.report)
            self.report.line("Press Ctrl-C to stop.")
            while True:
                self.watch()
                others.look()

    def parts(self, listener: socket.socket, held: IO[bytes]) -> tuple[Child, Child]:
        """The server and the worker, not yet started."""
        environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "webvm.settings", "PYTHONUNBUFFERED": "1"}
        logs = self.data_dir / "log"
        fd = listener.fileno()
        serve = [sys.executable, *SERVER, "--fd", str(fd), "webvm.asgi:application"]
        work = [sys.executable, *WORKER]
        for folder in ("queue", "control"):
            (settings.BROKER_DIR / folder).mkdir(parents=True, exist_ok=True)
        return (
            Child("server", serve, BASE_DIR, environ, logs / "server.log", held, pass_fds=[fd]),
            Child("worker", work, BASE_DIR, environ, logs / "worker.log", held),
        )

    def start(self, child: Child) -> None:
        child.start()
        self.children.append(child)
        self.tell_status()

    def start_server(self, server: Child, listener: socket.socket) -> str | None:
        """Start the server, wait until it answers; the first admin's sign-in link as long as it is of use."""
        with explained(self.options):
            listener.listen(128)
        self.start(server)
        path = ensure_first_admin()  # takes some loading, so it is done while the server loads
        deadline = time.monotonic() + READY_S
        while not answers(self.options, listener.getsockname()[1]):
            if (server.process and server.process.poll() is not None) or time.monotonic() > deadline:
                raise UpError(
                    f"The server did not start; the end of its log, {server.log}:\n{tail(server.log)}"
                )
        return f"{self.url}{path}" if path else None

    def say_ready(self, sign_in: str | None) -> None:
        self.report.line()
        self.report.line(f"  WebVM is serving at {self.url}/")
        if sign_in:
            self.report.line(f"  Sign in as the first admin (the link works once): {sign_in}")
        self.report.line()

    def watch(self) -> None:
        """One look after the children, and a short sleep."""
        time.sleep(WATCH_S)
        restarted = [child.name for child in self.children if child.watch(self.report.line)]
        if restarted:
            self.tell_status()

    def tell_status(self) -> None:
        pids = {child.name: child.pid for child in self.children}
        write_status(self.data_dir, {"pid": os.getpid(), "url": self.url, **pids})

    def stop(self) -> None:
        """End the children in order: nobody asks for more work before the worker goes."""
        began = time.monotonic()
        for child in self.children:
            child.stop()
        remove_status(self.data_dir)
        self.report.line(f"Stopped ({time.monotonic() - began:.1f} s).")


def has_signed_in() -> bool:
    """Whether an admin has signed in by now."""
    return User.objects.filter(is_staff=True).exclude(last_login=None).exists()


@contextmanager
def listen(options: Options) -> Iterator[socket.socket]:
    """The server's socket, bound before any work so that a taken port is known; raises `UpError`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise UpError(f"{options.host!r} is not an address of this machine: give another --host.") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with explained(options):
            listener.bind(address)
        yield listener


@contextmanager
def explained(options: Options) -> Iterator[None]:
    """Turn what may go wrong with an address into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sentence = f"Port {options.port} is taken by another program: end it, or choose another --port."
        elif error.errno in {errno.EACCES, errno.EPERM}:
            sentence = f"Port {options.port} needs more rights than yours: choose a --port above 1023."
        else:
            sentence = f"Cannot listen on {options.host} ({error.strerror}): give another --host."
        raise UpError(sentence) from error


def check_free_space(*folders: Path, needed: int) -> None:
    """Refuse before the work what would fill the disk in the middle of it; raises `UpError`."""
    for folder in folders:
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise UpError(
                f"Not enough disk space for {folder}: {human_bytes(free)} are free, {human_bytes(needed)} "
                "are needed. Free some, or choose another --data-dir."
            )


def space_needed(data_dir: Path) -> int:
    """Bytes: `WEBVM_MIN_FREE_BYTES`, else plenty for a first run, little when everything is in place."""
    if given := os.environ.get("WEBVM_MIN_FREE_BYTES"):
        return int(given)
    return LATER_BYTES if first_run_is_over(data_dir).exists() else FIRST_RUN_BYTES


def first_run_is_over(data_dir: Path) -> Path:
    """The file that says so."""
    return data_dir / "run" / "first-run-is-over"


def migrate(report: Reporter) -> None:
    """Bring the database up to date."""
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if not plan:
            return
        with report.step("Preparing the database", MIGRATE_S) as step:
            done = 0

            def look(action: str, migration: Migration | None = None, fake: bool | None = None) -> None:
                nonlocal done
                if action == "apply_success":
                    done += 1
                    step.update(done, len(plan), "changes")

            MigrationExecutor(connection, look).migrate(executor.loader.graph.leaf_nodes(), plan)
            call_command(
                "migrate", verbosity=0, interactive=False
            )  # what Django does after migrating: permissions
    except OperationalError as error:
        raise UpError(
            f"The database cannot be prepared: {error}. See {settings.DATABASES['default']['NAME']}."
        ) from error
    finally:
        connection.close()


def answers(options: Options, port: int) -> bool:
    """Whether the server answers a request by now; waits a moment when not."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(options.host, options.host)  # noqa: S104
    request = HTTPConnection(host, port, timeout=5)
    try:
        request.request("GET", "/")
        return request.getresponse().status < 500
    except (OSError, HTTPException):
        time.sleep(0.05)
        return False
    finally:
        request.close()
