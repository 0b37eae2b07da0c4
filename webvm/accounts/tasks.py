"""Background jobs of accounts."""

from __future__ import annotations

import logging

from celery import shared_task
from django.core.cache import cache
from kombu.exceptions import KombuError

from webvm.accounts.actions.guests import expire_guests

log = logging.getLogger(__name__)
EVERY_S = 3600


@shared_task(name="webvm.accounts.expire_guests")
def expire_guests_task() -> int:
    """Remove guests whose time is over."""
    return expire_guests()


def expire_guests_soon() -> None:
    """Queue the task, at most once an hour. Whoever makes guests calls this, so no scheduler has to run.

    A broker that does not answer is only logged: it is not worth an error to the new guest.
    """
    if not cache.add("accounts.expire_guests", True, EVERY_S):
        return
    try:
        expire_guests_task.delay()
    except (KombuError, OSError) as error:
        log.warning("Expired guests stay for now: the broker does not take the task: %s", error)
