"""Sending something long to a person: a few at a time, in threads, never ahead of a slow reader."""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header

from sessions.archives.errors import RangeNotSatisfiable, TooManyDownloads
from webvm.accounts.access import require_role
from webvm.accounts.models import Tenant, User

PER_USER = 3
PER_PROCESS = 16
# What one step in a thread reads before it is sent.
STEP_BYTES = 512 * 1024
# Within so many seconds a person who is no longer a member gets nothing more.
RECHECK_S = 1.0


class Slots:
    """How many downloads are under way in this process, altogether and of each user."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: Counter[int] = Counter()

    def take(self, user: User) -> Callable[[], None]:
        """Answers what gives the place back. Raises `TooManyDownloads`."""
        with self._lock:
            if self._of[user.pk] >= PER_USER or self._of.total() >= PER_PROCESS:
                raise TooManyDownloads
            self._of[user.pk] += 1
        return lambda: self._give_back(user.pk)

    def _give_back(self, user_id: int) -> None:
        with self._lock:
            self._of[user_id] -= 1
            self._of += Counter()  # drops those without any


slots = Slots()


class Download(StreamingHttpResponse):
    """A file of the tenant's that `parts` makes in this process's threads while it is sent.

    No database connection or transaction is held between two steps. Ends early, as a broken download, when
    making it fails or the user stops being a member. Raises `TooManyDownloads`.
    """

    def __init__(
        self, parts: Generator[bytes], *, user: User, tenant: Tenant, name: str, kind: str, **options: Any
    ) -> None:
        self._release = weakref.finalize(self, slots.take(user))
        super().__init__(_in_steps(parts, user, tenant), content_type=kind, **options)
        self["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
        self["X-Content-Type-Options"] = "nosniff"
        self["Cache-Control"] = "private, no-transform"
        self["X-Accel-Buffering"] = "no"  # nginx would keep on its disk what a slow reader has not taken

    def close(self) -> None:
        super().close()
        self._release()


async def _in_steps(parts: Generator[bytes], user: User, tenant: Tenant) -> AsyncGenerator[bytes]:
    checked = time.monotonic()
    try:
        while True:
            is_due = time.monotonic() - checked > RECHECK_S
            if is_due:
                checked = time.monotonic()
            step = await database_sync_to_async(_next_step)(parts, user if is_due else None, tenant)
            if not step:
                return
            yield step
    finally:
        await sync_to_async(parts.close)()


def _next_step(parts: Iterator[bytes], user: User | None, tenant: Tenant) -> bytes:
    if user is not None:
        require_role(User.objects.get(pk=user.pk), tenant)
    step: list[bytes] = []
    size = 0
    for part in parts:
        step.append(part)
        size += len(part)
        if size >= STEP_BYTES:
            break
    return b"".join(step)


_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def asked_range(header: str | None, if_range: str | None, etag: str, size: int) -> tuple[int, int] | None:
    """`(start, end)` of the one part that a request wants; None: all of it. `end` is not part of it.

    Several ranges, other units and what is no range are passed over, as RFC 9110 allows. Raises
    `RangeNotSatisfiable`.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == ("", "") or (if_range is not None and if_range.strip() != etag):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        raise RangeNotSatisfiable(size=size)
    return start, end
