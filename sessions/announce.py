"""Hints to the sockets: "look again", sent after the commit. The database is the truth; a lost hint costs
seconds.
"""

from __future__ import annotations

import hashlib
import logging
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

log = logging.getLogger(__name__)


def vm_group(vm_id: UUID) -> str:
    return f"vm-{vm_id.hex}"


def watch_group(vm_id: UUID) -> str:
    """The sockets that watch what the VM's holder sees."""
    return f"watch-{vm_id.hex}"


def user_group(user_id: int) -> str:
    return f"user-{user_id}"


def login_group(session_key: str) -> str:
    """The group of one sign-in. Group names reach Redis, so the key is hashed."""
    return f"login-{hashlib.sha256(session_key.encode()).hexdigest()[:40]}"


def announce(group: str) -> None:
    """Tell a group's sockets to look again, once the current transaction is committed."""
    transaction.on_commit(lambda: _send(group))


def _send(group: str) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        async_to_sync(layer.group_send)(group, {"type": "look.again"})
    except Exception:  # a hint that cannot be sent must not fail what is already committed
        log.warning("no hint could be sent to %s", group, exc_info=True)
