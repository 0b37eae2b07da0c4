"""Crashes and time for tests that run in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from django.db import connection

from storage import nodes
from storage.stores import ChunkStore

T = TypeVar("T")


class Crash(BaseException):
    """No `except Exception` sees it, as none sees a SIGKILL."""


class Crasher:
    """Lets so many more statements and store calls happen, then none until the process "starts again"."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.of = ""

    def step(self, what: str = "") -> None:
        if self.left is None or self.of not in what:
            return
        if self.left <= 0:
            raise Crash
        self.left -= 1

    def statement(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        self.step(sql)
        return execute(sql, params, many, context)

    @contextmanager
    def after(self, steps: int | None, of: str = "") -> Iterator[None]:
        """What happens inside crashes after so many steps (None: not at all); raises `Crash` if it did. `of`:
        only statements with this text are counted, and crashed at.
        """
        self.left, self.of = steps, of
        try:
            with connection.execute_wrapper(self.statement):
                yield
        except Crash:
            nodes.cache.clear()
            connection.close()
            raise
        finally:
            self.left = None


class CrashingStore:
    """The store as the crashing process sees it: each call is a step, and one that was made may have no
    answer.
    """

    def __init__(self, inner: ChunkStore, crasher: Crasher) -> None:
        self._inner, self._crasher = inner, crasher

    def _around(self, call: Callable[[], T]) -> T:
        self._crasher.step()
        answer = call()
        self._crasher.step()
        return answer

    def put(self, key: str, stored: bytes) -> None:
        self._around(lambda: self._inner.put(key, stored))

    def get(self, key: str) -> bytes:
        return self._around(lambda: self._inner.get(key))

    def exists(self, key: str) -> bool:
        return self._around(lambda: self._inner.exists(key))

    def delete(self, key: str) -> None:
        self._around(lambda: self._inner.delete(key))


class Clock:
    """In place of `django.utils.timezone.now`: stands still but for a millisecond a look, and jumps when
    told.
    """

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def __call__(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now

    def jump(self, by: timedelta) -> None:
        self._now += by
