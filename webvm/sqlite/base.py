"""A writer waits for the others of its process at a lock, where the next one goes on at once.

SQLite itself makes a writer sleep for up to 100 ms between looks at whether the database is free: with many
writers it is free most of the time while all of them sleep. Other processes are still waited for like that.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

from django.db.backends.sqlite3 import base

_queues: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class DatabaseWrapper(base.DatabaseWrapper):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_writing = False

    def _start_transaction_under_autocommit(self) -> None:
        # After this long SQLite would give up too; it is left to say so itself.
        patience = float(self.settings_dict["OPTIONS"].get("timeout", 5))
        self._is_writing = self._queue.acquire(timeout=patience)
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._leave()
            raise

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]
        self._leave()  # a commit that failed is rolled back next

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._leave()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._leave()

    @property
    def _queue(self) -> threading.Lock:
        return _queues[str(self.settings_dict["NAME"])]

    def _leave(self) -> None:
        if self._is_writing:
            self._is_writing = False
            self._queue.release()
