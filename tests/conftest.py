"""What all tests share: the order of the suites, and the servers that some of them need."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.forked import ForkedServer
from tests.support.s3 import S3Server
from tests.support.servers import PostgresServer, RedisServer

TESTS = Path(__file__).parent
# Quick answers first; and Playwright's event loop, once begun, leaves no room for the asynchronous tests.
SUITES = ("unit", "quality", "integration", "engine", "e2e")
# Two halves that take about the same time and share no server: the run of everything does them side by side.
HALVES = {"engine": "engine and browser", "e2e": "engine and browser"}
SERVICE = "service"
IN_HALVES = pytest.StashKey[bool]()


# A shell starts what it puts into the background deaf to Ctrl-C, and so would be every program that a test
# starts and then stops with it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Everything (`pytest` without paths) runs in two processes, unless `-n` says otherwise."""
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if everything and not hasattr(config, "workerinput") and config.option.numprocesses is None:
        config.option.numprocesses = 0 if config.option.usepdb else len({SERVICE, *HALVES.values()})
        config.stash[IN_HALVES] = True


class Halves(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Each half in its own process. xdist's groups are suffixes of names, which pytest 9 lets nobody add."""

    def _split_scope(self, nodeid: str) -> str:
        return HALVES.get(nodeid.split("/")[1], SERVICE)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    return Halves(config, log) if config.stash.get(IN_HALVES, False) else None


def suite_of(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: SUITES.index(suite_of(item)))


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """pytest-django's, and at the end the sockets' threads let go of the database that it removes."""
    yield
    from sessions.threads import close_connections

    close_connections()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL server with an empty cluster of its own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis server on a free port."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on a free port."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def prepared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedServer]:
    """A real service on SQLite with the tiny image published; no server runs yet."""
    with ForkedServer(tmp_path_factory.mktemp("service")) as server:
        server.call("publish")
        yield server
