"""Celery tasks: publishing images, and the upkeep of the storage by schedule (`CELERY_BEAT_SCHEDULE`)."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from celery import shared_task
from celery.signals import worker_ready
from django.conf import settings

from storage.errors import StoreUnavailable
from storage.gc.collect import collect_garbage
from storage.gc.orphans import delete_orphans
from storage.gc.repair import repair
from storage.gc.verify import verify_sample
from storage.images.publish import run_publish_job, send_unfinished_jobs
from storage.leaf_packs import make_packs

_log = logging.getLogger(__name__)


@shared_task(name="storage.publish_image")
def publish_image(job_id: str) -> None:
    """Runs a publish job. A second delivery does nothing."""
    run_publish_job(UUID(job_id))


@worker_ready.connect
def go_on_with_unfinished_jobs(**_: Any) -> None:
    """A worker that was killed took its job's message with it; a new worker goes on with the job."""
    send_unfinished_jobs()


@shared_task(name="storage.pack_leaves")
def pack_leaves_task(home: str, leaves: list[str]) -> None:
    """Makes the packs of a tenant's leaves (hex digests). A second delivery finds them made."""
    try:
        make_packs(UUID(home), [bytes.fromhex(digest) for digest in leaves])
    except StoreUnavailable as error:
        _log.error("Packs are made later: %s", error)


@shared_task(name="storage.collect_garbage")
def collect_garbage_task() -> None:
    """What the schedule asks for. Two at once share the work; what one leaves, the next goes on with."""
    try:
        collect_garbage(acting_user=None, share=True)
    except StoreUnavailable as error:
        _log.error("Garbage is collected later: %s", error)


@shared_task(name="storage.delete_orphans")
def delete_orphans_task() -> None:
    """Lists the whole store, so it is rare."""
    try:
        delete_orphans(acting_user=None)
    except StoreUnavailable as error:
        _log.error("Orphans are deleted later: %s", error)


@shared_task(name="storage.verify_sample")
def verify_sample_task() -> None:
    """A little of the storage each time, so that damage is known before somebody needs what is damaged."""
    try:
        checked = verify_sample(settings.VERIFY_SAMPLE)
    except StoreUnavailable as error:
        _log.error("The storage cannot be verified: %s", error)
        return
    for damage in checked.damages:
        _log.error(
            "damaged: %s of tenant %s: %s. Run manage.py verifystorage --repair",
            damage.digest.hex(),
            damage.home or "(public)",
            damage.what,
        )
    if checked.damages:
        repair(checked.damages, acting_user=None)
