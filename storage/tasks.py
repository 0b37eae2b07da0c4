"""Celery tasks: publishing images in a worker."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery import shared_task
from celery.signals import worker_ready

from storage.images.publish import run_publish_job, send_unfinished_jobs


@shared_task(name="storage.publish_image")
def publish_image(job_id: str) -> None:
    """Runs a publish job. A second delivery does nothing."""
    run_publish_job(UUID(job_id))


@worker_ready.connect
def go_on_with_unfinished_jobs(**_: Any) -> None:
    """A worker that was killed took its job's message with it; a new worker goes on with the job."""
    send_unfinished_jobs()
