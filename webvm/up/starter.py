"""Publishing the starter image on the first run, and following it on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from django.conf import settings

from storage.models import ImageVersion, PublishJob, PublishState
from webvm.accounts.models import User
from webvm.up.errors import UpError
from webvm.up.progress import Reporter, Step

TITLES = "Starter image: {}"


def needs_starter() -> bool:
    """Whether there is no image that anybody could start a machine from (and one is wanted)."""
    return bool(settings.STARTER_RECIPE) and not ImageVersion.objects.filter(is_withdrawn=False).exists()


def publish_starter(report: Reporter, watch: Callable[[], None]) -> None:
    """Have the worker publish the starter image, and show its progress; `watch()` waits a moment."""
    from storage.images.publish import start_publish  # much to import, and needed once

    job = (
        PublishJob.objects.filter(state__in=[PublishState.QUEUED, PublishState.RUNNING])
        .order_by("created_at")
        .first()
    )
    if job is None:
        recipe = Path(settings.STARTER_RECIPE).read_text(encoding="utf-8")
        admin = User.objects.filter(is_staff=True, is_active=True).order_by("pk").first()
        job = start_publish(recipe, acting_user=admin)
    while job.state in {PublishState.QUEUED, PublishState.RUNNING}:
        shown = job.step or "waiting for the worker"
        with report.step(TITLES.format(shown)) as step:
            while job.state in {PublishState.QUEUED, PublishState.RUNNING} and (job.step or "") == (
                "" if shown == "waiting for the worker" else shown
            ):
                follow(job, step)
                watch()
                job.refresh_from_db()
    if job.state != PublishState.SUCCEEDED:
        raise UpError(f"The starter image could not be published, at the step “{job.step}”: {job.error}")


def follow(job: PublishJob, step: Step) -> None:
    step.update(job.done, job.total, job.unit)
