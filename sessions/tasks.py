"""Celery tasks: importing archives in a worker."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery import shared_task
from celery.signals import worker_ready

from sessions.archives.imports import send_unfinished_imports
from sessions.archives.running import run_import


@shared_task(name="sessions.import_archive")
def import_archive(job_id: str) -> None:
    """Takes in an archive. A second delivery does nothing."""
    run_import(UUID(job_id))


@worker_ready.connect
def go_on_with_unfinished_imports(**_: Any) -> None:
    """A worker that was killed took its message with it; a new worker goes on with the import."""
    send_unfinished_imports()
