"""The threads that do the sockets' database and store work. Each keeps its database connection while it is
in use.

Opening one for every message (as `database_sync_to_async` does) took half of a small save's time. Requests
of pages have threads of their own, which come and go, so there the setting `CONN_MAX_AGE` stays at 0.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

P = ParamSpec("P")
T = TypeVar("T")

KEPT_S = 60.0
"""How long a connection is used before it is opened anew, so that a changed server is noticed."""
TRUSTED_S = 1.0
"""A connection that was used so recently is not tried out before it is used again."""

_threads = ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 4), thread_name_prefix="sockets")
_used: dict[BaseDatabaseWrapper, tuple[float, float]] = {}
"""When each thread's connection was opened and last used."""


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that may block in one of the threads."""
    return await sync_to_async(_run, thread_sensitive=False, executor=_threads)(function, args, kwargs)


def close_connections() -> None:
    """Close what the threads keep open, while none of them works."""
    for connection in list(_used):
        connection.inc_thread_sharing()
        connection.close()
        connection.dec_thread_sharing()
    _used.clear()


def _run(function: Callable[..., T], args: tuple[object, ...], kwargs: dict[str, object]) -> T:
    connection = connections[DEFAULT_DB_ALIAS]
    began = time.monotonic()
    opened, last = _used.get(connection, (began, began))
    if connection.connection is not None and (
        began - opened > KEPT_S or (began - last > TRUSTED_S and not connection.is_usable())
    ):
        connection.close()
    if connection.connection is None:
        opened = began
    try:
        return function(*args, **kwargs)
    finally:
        # After an error nobody knows what state it is in.
        if connection.errors_occurred or connection.in_atomic_block:
            connection.close()
            connection.errors_occurred = False
        _used[connection] = (opened, time.monotonic())
