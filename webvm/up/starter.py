"""Publishing the starter images: the first one is waited for and shown, the others follow meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from storage.models import Image, ImageVersion, PublishJob, PublishState
from webvm.accounts.models import User
from webvm.errors import WebVMError
from webvm.up.errors import UpError, sentence_for
from webvm.up.progress import Reporter

ACTIVE = (PublishState.QUEUED, PublishState.RUNNING)
QUEUED = "waiting for the worker"
LOOK_S = 1.0
# Steps inside the machine, which knows no bytes to count: how long they take on two cores, in seconds.
USUAL_S = {
    "pc": {
        "Looking for packages": 5.0,
        "Booting the machine": 25.0,
        "Finishing the configuration inside the guest": 60.0,
        "Preparing the warm snapshot": 15.0,
        "Taking the warm snapshot": 5.0,
        "Trying out the warm snapshot": 5.0,
        "Recording the boot trace": 30.0,
    },
    "linux": {
        "Looking for packages": 5.0,
        "Finishing the configuration inside the guest": 11.0,
        "Rehearsing what people run first": 12.0,
    },
}


@dataclass(frozen=True)
class Starter:
    """A recipe that `up` publishes."""

    slug: str
    title: str
    kind: str  # of machine
    position: int
    recipe: str


def read_starters() -> list[Starter]:
    """The wanted images, as the settings name them; raises `UpError`."""
    from storage.images.recipe import parse_recipe  # much to import, and needed once

    found: list[Starter] = []
    for path in settings.STARTER_RECIPES:
        try:
            text = Path(path).read_text(encoding="utf-8")
            recipe = parse_recipe(text)
        except OSError as error:
            raise UpError(f"The starter recipe cannot be read: {sentence_for(error)}") from error
        except UnicodeDecodeError as error:
            raise UpError(f"The starter recipe {path} cannot be read: {error}.") from error
        except WebVMError as error:
            raise UpError(f"The starter recipe {path} is wrong: {error.text}") from error
        found.append(Starter(recipe.slug, recipe.title, recipe.kind, recipe.position, text))
    return found


def missing_starters() -> list[Starter]:
    """Those of which there is no version, not even a withdrawn one. Raises `UpError`."""
    starters = read_starters()
    for starter in starters:  # what a newer version of the recipe says of the catalogue
        Image.objects.filter(slug=starter.slug).update(position=starter.position)
    there = set(
        ImageVersion.objects.filter(image__slug__in=[starter.slug for starter in starters]).values_list(
            "image__slug", flat=True
        )
    )
    return [starter for starter in starters if starter.slug not in there]


def has_image() -> bool:
    """Whether there is anything that a machine can be started from."""
    return ImageVersion.objects.filter(is_withdrawn=False).exists()


def publish_starter(starter: Starter, report: Reporter, watch: Callable[[], None]) -> None:
    """Have the worker publish the image and show how far it is; `watch()` waits a moment.

    A job that an earlier run has left is followed instead. Raises `UpError` with the job's own sentence.
    """
    job = job_for(starter)
    while job.state in ACTIVE:
        title = job.step or QUEUED
        with report.step(f"Starter image: {title}", USUAL_S[starter.kind].get(title)) as step:
            while job.state in ACTIVE and (job.step or QUEUED) == title:
                if job.unit != "steps":
                    step.update(job.done, job.total, job.unit)
                watch()
                job.refresh_from_db()
            if job.state not in {*ACTIVE, PublishState.SUCCEEDED}:
                why = job.error or job.state
                raise UpError(f"The starter image could not be published, at the step “{job.step}”: {why}")


class Background:
    """The images that nobody waits for: the worker publishes them while the service runs.

    `look()` is called all the time; what has come of them is a line each. None of them stops the service.
    """

    def __init__(self, starters: list[Starter], report: Reporter) -> None:
        self._report = report
        self._jobs: list[tuple[Starter, PublishJob]] = []
        self._looked = 0.0
        for starter in starters:
            try:
                self._jobs.append((starter, job_for(starter)))
            except UpError as error:
                report.line(str(error))
        for starter, _ in self._jobs:
            report.line(f"“{starter.title}” is being published meanwhile.")

    def look(self) -> None:
        if not self._jobs or time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        for starter, job in list(self._jobs):
            job.refresh_from_db()
            if job.state in ACTIVE:
                continue
            self._jobs.remove((starter, job))
            if job.state == PublishState.SUCCEEDED:
                self._report.line(f"“{starter.title}” is published.")
            else:
                why = job.error or job.state
                self._report.line(
                    f"“{starter.title}” could not be published, at the step “{job.step}”: {why}"
                )


def job_for(starter: Starter) -> PublishJob:
    """The job that is queued or running (the worker goes on with those when it starts), else a new one in the
    worker's queue. Raises `UpError`.
    """
    from storage.images.publish import start_publish

    left = PublishJob.objects.filter(state__in=ACTIVE, slug=starter.slug).order_by("created_at").first()
    if left is not None:
        return left
    admin = User.objects.filter(is_staff=True, is_active=True).order_by("pk").first()
    try:
        return start_publish(starter.recipe, acting_user=admin)
    except WebVMError as error:
        raise UpError(f"The starter image cannot be published: {error.text}") from error
