"""How many people one server carries: `uv run python -m tests.bench.load [--sessions N] [--sockets N]`.

A real Daphne on loopback with a database and a chunk folder of its own (`--database` names another one, which
must be empty). All sessions save at the same moment; every acknowledged snapshot is read back and compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import django

PEOPLE = 200
"""Whose machines the idle sockets are on: some have several."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=200, help="machines that save at once")
    parser.add_argument("--rounds", type=int, default=3, help="saves of each")
    parser.add_argument("--sockets", type=int, default=2000, help="idle sockets")
    parser.add_argument("--database", help="as WEBVM_DATABASE_URL; default: SQLite")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()  # the client knows the formats from the project's own code
    from tests.support.forked import ForkedServer
    from tests.support.load import save_at_once, stay_idle

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the server inherits it
    environ = {"WEBVM_DATABASE_URL": options.database} if options.database else {}
    with (
        tempfile.TemporaryDirectory(prefix="webvm-load-") as folder,
        ForkedServer(Path(folder), environ) as server,
    ):
        server.call("publish")
        if options.sessions:
            accounts = server.call("make_people", options.sessions)
            server.start_daphne()
            saves = asyncio.run(save_at_once(server, accounts, options.rounds))
            tell("saving at once", {**saves.figures, "errors": saves.errors[:5]})
            server.kill()
        if options.sockets:
            accounts = server.call("make_people", min(options.sockets, PEOPLE))
            server.start_daphne()
            idle = asyncio.run(stay_idle(server, accounts, options.sockets, 15))
            each = round(idle.memory_each / 1000, 1)
            tell("idle sockets", {"sockets": idle.sockets, "kb_each": each, "cores_busy": round(idle.cpu, 3)})
            server.kill()


def tell(what: str, figures: dict[str, Any]) -> None:
    print(json.dumps({what: figures}, indent=2), flush=True)  # noqa: T201 - the output of a command


if __name__ == "__main__":
    main()
