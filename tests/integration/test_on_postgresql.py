"""Everything that touches the database again, on PostgreSQL and Redis: what deployments run on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.servers import PostgresServer, RedisServer

PROJECT = Path(__file__).resolve().parents[2]


def test_on_postgresql_and_redis(postgres_server: PostgresServer, redis_server: RedisServer) -> None:
    # The settings choose the database once a process, so this takes another process, no part of this run.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST_")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "django_db",
            "-p",
            "no:cacheprovider",
            # Much of it waits: two at a time take little more than half as long.
            *("--numprocesses", "2", "--dist", "loadfile"),
            "tests/integration",
        ],
        cwd=PROJECT,
        env={**outside, "WEBVM_DATABASE_URL": postgres_server.url, "WEBVM_REDIS_URL": redis_server.url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"on PostgreSQL and Redis:\n{done.stdout}"
