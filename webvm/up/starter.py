"""Publishing the starter image on the first run, and following it on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from django.conf import settings

from storage.models import ImageVersion, PublishJob, PublishState
from webvm.accounts.models import User
from webvm.errors import WebVMError
from webvm.up.errors import UpError, sentence_for
from webvm.up.progress import Reporter

ACTIVE = (PublishState.QUEUED, PublishState.RUNNING)
QUEUED = "waiting for the worker"
# Steps inside the emulator, which knows no bytes to count: how long they take on two cores, in seconds.
USUAL_S = {
    "Looking for packages": 5.0,
    "Booting the machine": 25.0,
    "Finishing the configuration inside the guest": 60.0,
    "Preparing the warm snapshot": 15.0,
    "Taking the warm snapshot": 5.0,
    "Trying out the warm snapshot": 5.0,
    "Recording the boot trace": 30.0,
}


def needs_starter() -> bool:
    """Whether there is no image that anybody could start a machine from (and one is wanted)."""
    return bool(settings.STARTER_RECIPE) and not ImageVersion.objects.filter(is_withdrawn=False).exists()


def publish_starter(report: Reporter, watch: Callable[[], None]) -> None:
    """Have the worker publish the starter image and show how far it is; `watch()` waits a moment.

    A job that an earlier run has left is followed instead. Raises `UpError` with the job's own sentence.
    """
    job = unfinished_job() or new_job()
    while job.state in ACTIVE:
        title = job.step or QUEUED
        with report.step(f"Starter image: {title}", USUAL_S.get(title)) as step:
            while job.state in ACTIVE and (job.step or QUEUED) == title:
                if job.unit != "steps":
                    step.update(job.done, job.total, job.unit)
                watch()
                job.refresh_from_db()
            if job.state not in {*ACTIVE, PublishState.SUCCEEDED}:
                why = job.error or job.state
                raise UpError(f"The starter image could not be published, at the step “{job.step}”: {why}")


def unfinished_job() -> PublishJob | None:
    """A job that is queued or running; the worker goes on with those when it starts."""
    return PublishJob.objects.filter(state__in=ACTIVE).order_by("created_at").first()


def new_job() -> PublishJob:
    """A job for the starter recipe, in the worker's queue; raises `UpError`."""
    from storage.images.publish import start_publish  # much to import, and needed once

    admin = User.objects.filter(is_staff=True, is_active=True).order_by("pk").first()
    try:
        return start_publish(Path(settings.STARTER_RECIPE).read_text(encoding="utf-8"), acting_user=admin)
    except WebVMError as error:
        raise UpError(f"The starter image cannot be published: {error.text}") from error
    except OSError as error:
        raise UpError(f"The starter recipe cannot be read: {sentence_for(error)}") from error
