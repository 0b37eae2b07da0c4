"""Publishing as actions: start, cancel, run and retry a job; withdraw an image version and bring it back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

from django.db import transaction
from django.db.models import F, Max
from django.utils import timezone
from kombu.exceptions import OperationalError

from storage.errors import PublishCancelled, PublishNotPossible
from storage.images.built import build
from storage.images.job_report import JobReport
from storage.images.pipeline import Product, boot, shelve
from storage.images.recipe import Recipe, parse_recipe
from storage.models import LOST, Image, ImageVersion, PublishJob, PublishState
from storage.workers import is_gone, new_worker_name
from webvm.accounts.access import require_site_admin
from webvm.accounts.audit import record
from webvm.accounts.models import User
from webvm.errors import WebVMError

QUEUE_UNREACHABLE = "The queue of the workers cannot be reached, so that nobody would do the job. Try again."
ACTIVE = (PublishState.QUEUED, PublishState.RUNNING)
_log = logging.getLogger(__name__)


def start_publish(recipe_text: str, *, acting_user: User | None, in_worker: bool = True) -> PublishJob:
    """Queues the publishing of a recipe (`acting_user` None: the command line). Raises `BadRecipe` and
    others.

    With `in_worker` false nobody is sent the job: the caller runs it with `run_publish_job`.
    """
    require_site_admin(acting_user, "publish images")
    recipe = parse_recipe(recipe_text)
    fail_lost_jobs()
    with transaction.atomic():
        if PublishJob.objects.select_for_update().filter(slug=recipe.slug, state__in=ACTIVE).exists():
            raise PublishNotPossible(
                f"{recipe.slug} is being published already. Wait for it, or cancel it first."
            )
        job = PublishJob.objects.create(recipe=recipe_text, slug=recipe.slug, created_by=acting_user)
        record("start_publish", acting_user=acting_user, target=job, slug=recipe.slug)
        if in_worker:
            transaction.on_commit(lambda: send_to_worker(job.pk))
    job.refresh_from_db()
    return job


def retry_publish(job: PublishJob, *, acting_user: User | None) -> PublishJob:
    """A new job for the same recipe, after one that failed or was cancelled."""
    if job.state not in {PublishState.FAILED, PublishState.CANCELLED} and not job.is_lost:
        raise PublishNotPossible("Only a job that failed or was cancelled can be tried again.")
    return start_publish(job.recipe, acting_user=acting_user)


def cancel_publish(job: PublishJob, *, acting_user: User | None) -> None:
    """Ends the job: at once while it is queued, within seconds while it runs. Raises `PublishNotPossible`."""
    require_site_admin(acting_user, "publish images")
    with transaction.atomic():
        queued = PublishJob.objects.filter(pk=job.pk, state=PublishState.QUEUED)
        if not queued.update(state=PublishState.CANCELLED, finished_at=timezone.now()):
            running = PublishJob.objects.filter(pk=job.pk, state=PublishState.RUNNING)
            gone = _is_abandoned(job)
            ended = {"state": PublishState.CANCELLED, "finished_at": timezone.now()} if gone else {}
            if not running.update(cancel_requested=True, **ended):
                raise PublishNotPossible
        record("cancel_publish", acting_user=acting_user, target=job, slug=job.slug)
    job.refresh_from_db()


def fail_lost_jobs() -> None:
    """Running jobs whose worker is gone become failed ones, so that they do not stand in the way."""
    for job in PublishJob.objects.filter(state=PublishState.RUNNING):
        if _is_abandoned(job):
            lost = PublishJob.objects.filter(pk=job.pk, state=PublishState.RUNNING, worker=job.worker)
            lost.update(state=PublishState.FAILED, error=LOST, finished_at=timezone.now())


def send_unfinished_jobs() -> None:
    """Queues every job that waits, or whose worker is gone, for the worker that has just started."""
    for job in PublishJob.objects.filter(state__in=ACTIVE):
        if job.state == PublishState.QUEUED or _is_abandoned(job):
            send_to_worker(job.pk)


def run_publish_job(job_id: UUID, echo: Callable[[str | None], None] | None = None) -> None:
    """Runs a job to its end, here and now. Does nothing when it is not waiting for a worker.

    Whatever goes wrong ends up in the job, Ctrl-C too; only bugs are logged. `echo` as in `JobReport`.
    """
    worker = new_worker_name()
    job = _claim(job_id, worker)
    if job is None:
        return
    report = JobReport(job_id, worker, echo)
    state, error = PublishState.FAILED, ""
    try:
        recipe = parse_recipe(job.recipe)
        built = build(recipe, report)
        product = shelve(built, boot(recipe, built, report), report)
        report.step("Publishing")
        publish_version(job, worker, recipe, product, report)
        return
    except PublishCancelled as cancelled:
        state, error = PublishState.CANCELLED, cancelled.text
    except KeyboardInterrupt:
        state, error = (
            PublishState.CANCELLED,
            "Stopped from the keyboard. What is finished is kept for the next run.",
        )
    except WebVMError as failed:
        error = failed.text
    except OSError as failed:
        error = f"The system refused: {failed}."
        _log.exception("publishing %s failed", job.slug)
    except Exception as bug:
        error = f"Something that should not happen: {bug!r}. The server's log has more."
        _log.exception("publishing %s failed", job.slug)
    report.log(error)
    report.close()
    PublishJob.objects.filter(pk=job_id, worker=worker, state=PublishState.RUNNING).update(
        state=state, error=error, finished_at=timezone.now()
    )


def publish_version(
    job: PublishJob, worker: str, recipe: Recipe, product: Product, report: JobReport
) -> ImageVersion:
    """The one transaction that makes a finished product public and ends its job.

    When the image's newest version is the very same, that one is the result.
    """
    report.close()
    with transaction.atomic():
        image, _ = Image.objects.select_for_update().get_or_create(slug=recipe.slug)
        image.title, image.description = recipe.title, recipe.description
        image.position = recipe.position
        image.save()
        product.shelf.save_rows()
        newest = ImageVersion.objects.filter(image=image).order_by("-number").first()
        version = newest if newest and _is_same(newest, product) else None
        if version is None:
            number = (image.versions.aggregate(last=Max("number"))["last"] or 0) + 1
            version = ImageVersion.objects.create(
                image=image,
                number=number,
                recipe=job.recipe,
                facts={**product.facts, "seconds": report.times},
                **product.fields,
            )
        mine = PublishJob.objects.filter(pk=job.pk, worker=worker, state=PublishState.RUNNING)
        if not mine.update(
            state=PublishState.SUCCEEDED,
            version=version,
            finished_at=timezone.now(),
            done=F("total"),
            error="",
        ):
            raise PublishCancelled("Another worker has taken over the job.")
        record(
            "publish_version",
            acting_user=job.created_by,
            target=version,
            slug=image.slug,
            number=version.number,
        )
    return version


def send_to_worker(job_id: UUID) -> None:
    """Queues the job for a worker. Sending it twice does no harm."""
    from storage.tasks import publish_image

    try:
        publish_image.delay(str(job_id))
    except (OSError, OperationalError):
        _log.exception("the job %s could not be queued", job_id)
        PublishJob.objects.filter(pk=job_id, state=PublishState.QUEUED).update(
            state=PublishState.FAILED, error=QUEUE_UNREACHABLE, finished_at=timezone.now()
        )


def _claim(job_id: UUID, worker: str) -> PublishJob | None:
    """The job, now this worker's; None when somebody else has it or it has ended."""
    job = PublishJob.objects.filter(pk=job_id, state__in=ACTIVE).first()
    if job is None or (job.state == PublishState.RUNNING and not _is_abandoned(job)):
        return None
    now = timezone.now()
    seen = PublishJob.objects.filter(pk=job_id, state=job.state, worker=job.worker)
    if not seen.update(
        state=PublishState.RUNNING,
        worker=worker,
        started_at=job.started_at or now,
        heartbeat_at=now,
        error="",
    ):
        return None
    job.refresh_from_db()
    return job


def _is_abandoned(job: PublishJob) -> bool:
    """Whether nobody runs a running job any more: its process on this computer has ended, or long silence."""
    if job.is_lost:
        return True
    return is_gone(job.worker)


def _is_same(version: ImageVersion, product: Product) -> bool:
    return all(getattr(version, name) == value for name, value in product.fields.items())
