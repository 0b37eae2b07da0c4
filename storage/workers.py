"""Who runs a job, written into its row so that only this run writes to it and others see when it is gone."""

from __future__ import annotations

import os
import secrets
import socket


def new_worker_name() -> str:
    """`host:pid:token` of one run in this process."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def is_gone(worker: str) -> bool:
    """Whether the process of a run has ended; False also when it is on another computer."""
    host, _, rest = worker.partition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(rest.partition(":")[0]), 0)
    except ProcessLookupError:
        return True
    except (ValueError, PermissionError):
        return False
    return False
