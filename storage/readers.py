"""Whether the membership that a chunk's URL was signed for still stands."""

from __future__ import annotations

import threading
import time

from django.db import DatabaseError, close_old_connections

from storage.errors import StoreUnavailable
from storage.signing import NOBODY
from webvm.accounts.models import Membership

# How long an answer is believed, and how many are kept: a revoked member is refused within this time.
BELIEVED_S = 0.5
KEPT = 4096

_lock = threading.Lock()
_known: dict[int, tuple[float, bool]] = {}


def still_stands(member: int) -> bool:
    """Asks the database at most twice a second for each member. Raises `StoreUnavailable`."""
    if member == NOBODY:
        return True
    now = time.monotonic()
    with _lock:
        asked_at, answer = _known.get(member, (float("-inf"), False))
    if now - asked_at < BELIEVED_S:
        return answer
    answer = _ask(member)
    with _lock:
        if len(_known) >= KEPT:
            _known.clear()
        _known[member] = (now, answer)
    return answer


def _ask(member: int) -> bool:
    close_old_connections()
    try:
        return Membership.objects.filter(
            pk=member, user__is_active=True, tenant__deleted_at__isnull=True
        ).exists()
    except DatabaseError as error:
        raise StoreUnavailable from error
    finally:
        close_old_connections()
