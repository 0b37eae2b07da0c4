"""What the pipeline tells while it works, and the one way it is told to stop."""

from __future__ import annotations

import re
from typing import Protocol

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
MAX_LINE = 1000


class Report(Protocol):
    """Every method may raise `PublishCancelled`, and must be called at least every few seconds."""

    def step(self, name: str) -> None:
        """A new step begins."""

    def progress(self, done: int, total: int, unit: str) -> None:
        """How far the step is; `unit` is `bytes` or a plural noun."""

    def log(self, text: str) -> None:
        """Lines for a person to read."""

    def console(self, text: str, source: str = "console") -> None:
        """What the guest printed on one of its ports, in any pieces."""

    def tick(self) -> None:
        """Nothing new, but alive."""


def clean_line(text: str) -> str:
    """Guest output is data: without escape sequences and control characters, and not too long."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))[:MAX_LINE]
