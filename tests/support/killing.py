"""Cutting off what changes the database, at any statement."""

from __future__ import annotations

from typing import Any


class Killed(BaseException):
    """Not to be caught by anybody but the test."""


class Killer:
    """Kills at one statement that changes something; none is carried out after that."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.has_killed = False

    def __call__(self, run: Any, sql: str, *args: Any) -> Any:
        if not self.has_killed and not sql.startswith(("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK")):
            self.left -= 1
            if self.left == 0:
                self.has_killed = True
                raise Killed
        return run(sql, *args)
