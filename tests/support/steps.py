"""The steps of a save inside a server, and a server that dies at one of them.

`install()` is called in a server that a test has started. From then on everything a save changes is a step
with a name: each statement that writes, each COMMIT (before and after), each file that becomes durable, and
the moment before the answer. The names are written to `<folder>/trace`; when `<folder>/die-at` names a step,
the process gets SIGKILL just before it. Nothing of this is in the product.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from sessions import protocol

WRITE = re.compile(
    r'\s*(?:(INSERT)(?: OR \w+)? INTO|(UPDATE)|(DELETE) FROM)\s+"?(?:\w+"?\.)?"?(\w+)"?', re.IGNORECASE
)


class Steps:
    """Counts the steps of the threads that carry out messages; all other threads pass."""

    def __init__(self, folder: Path) -> None:
        self._trace = folder / "trace"
        self._die_at = folder / "die-at"
        self._lock = threading.Lock()
        self._inside = threading.local()
        self._seen: Counter[str] = Counter()
        self._armed = ""

    def carry_out(self, kind: str, function: Callable[..., Any], *arguments: Any) -> Any:
        self._inside.kind = kind
        try:
            result = function(*arguments)
            self.note("answer")
            return result
        finally:
            self._inside.kind = None

    def note(self, what: str) -> None:
        kind = getattr(self._inside, "kind", None)
        if kind is None:
            return
        step = f"{kind}: {what}"
        with self._lock:
            armed = self._die_at.read_text() if self._die_at.exists() else ""
            if armed != self._armed:  # armed anew: a new save begins
                self._armed = armed
                self._seen.clear()
            with self._trace.open("a") as trace:
                trace.write(f"{step}\n")
            self._seen[step] += 1
            if armed.split("\n")[:2] == [step, str(self._seen[step])]:
                os.kill(os.getpid(), signal.SIGKILL)

    def statement(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        found = WRITE.match(sql)
        if found:
            insert, update, delete, table = found.groups()
            self.note(f"{(insert or update or delete).lower()} {table}")
        return execute(sql, params, many, context)

    def connected(self, connection: BaseDatabaseWrapper, **_: Any) -> None:
        if self.statement in connection.execute_wrappers:
            return
        connection.execute_wrappers.append(self.statement)
        real = connection._commit  # type: ignore[attr-defined]

        def commit() -> None:
            self.note("before the commit")
            real()
            self.note("after the commit")

        connection._commit = commit  # type: ignore[attr-defined]


def install(folder: Path) -> None:
    """Watch the saves of this process."""
    steps = Steps(folder)
    connection_created.connect(steps.connected, weak=False)
    answer, store, replace, fsync = protocol.answer, protocol.store, os.replace, os.fsync

    def noted_replace(*arguments: Any, **keywords: Any) -> None:
        steps.note("file gets its name")
        replace(*arguments, **keywords)

    def noted_fsync(descriptor: Any) -> None:
        steps.note("file or folder is synced")
        fsync(descriptor)

    def noted_answer(message: Any, *arguments: Any) -> Any:
        return steps.carry_out(message.type, answer, message, *arguments)

    def noted_store(*arguments: Any) -> Any:
        return steps.carry_out("upload", store, *arguments)

    os.replace, os.fsync = noted_replace, noted_fsync  # type: ignore[assignment]
    protocol.answer, protocol.store = noted_answer, noted_store  # type: ignore[assignment]
