"""`/images` for everybody, `/admin/publish-jobs` and `/admin/image-versions` for site admins."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Field, Router, Schema, Status

from storage.catalogue import find_published_version, published_versions, seen_state
from storage.images.publish import (
    cancel_publish,
    retry_publish,
    start_publish,
)
from storage.models import ImageVersion, PublishJob, PublishLogLine, PublishState
from storage.versions import offer_version_again, retire_version
from webvm.accounts.access import require_site_admin, signed_in
from webvm.accounts.auth import OPEN_AUTH
from webvm.errors import InvalidInput, NotFound

router = Router(tags=["Images"])
# Log lines in one answer; the next one goes on behind them.
LOG_LINES = 1000


class ImageVersionOut(Schema):
    id: UUID
    number: int
    published_at: datetime
    memory_mib: int
    disk_bytes: int = Field(description="Size of the machine's disk")
    start_bytes: int = Field(description="Download before a machine's first prompt, about")


class ImageOut(Schema):
    slug: str
    title: str
    description: str
    version: ImageVersionOut


class ImagePage(Schema):
    items: list[ImageOut]
    next: str | None


class RecipeIn(Schema):
    recipe: str = Field(max_length=1 << 20, description="The recipe, TOML (docs/design/guest.md)")


class LogLineOut(Schema):
    seq: int
    text: str


class JobOut(Schema):
    id: UUID
    slug: str
    state: PublishState
    step: str
    done: int
    total: int
    unit: str
    error: str
    version: UUID | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobWithLogOut(JobOut):
    log: list[LogLineOut] = Field(description="Lines behind `after_log`, at most 1000; ask again for more")


class JobPage(Schema):
    items: list[JobOut]
    next: str | None


class StateOut(Schema):
    id: UUID
    is_withdrawn: bool


def image_json(version: ImageVersion) -> dict[str, Any]:
    return {
        "slug": version.image.slug,
        "title": version.image.title,
        "description": version.image.description,
        "version": {
            "id": version.pk,
            "number": version.number,
            "published_at": version.published_at,
            "memory_mib": version.machine["memory_mib"],
            "disk_bytes": version.disk_bytes,
            "start_bytes": version.warm_pack_bytes,
        },
    }


def job_json(job: PublishJob) -> dict[str, Any]:
    state, error = seen_state(job)
    names = ("slug", "step", "done", "total", "unit", "created_at", "started_at", "finished_at")
    return {
        "id": job.pk,
        "state": state,
        "error": error,
        "version": job.version_id,
        **{name: getattr(job, name) for name in names},
    }


def find_job(request: HttpRequest, job_id: UUID) -> PublishJob:
    require_site_admin(signed_in(request), "publish images")
    job = PublishJob.objects.filter(pk=job_id).first()
    if job is None:
        raise NotFound
    return job


@router.get("/images", response=ImagePage, auth=OPEN_AUTH)
def list_images(request: HttpRequest) -> dict[str, Any]:
    """Every image that a machine can be started from."""
    return {"items": [image_json(version) for version in published_versions()], "next": None}


@router.get("/images/{slug}", response=ImageOut, auth=OPEN_AUTH)
def get_image(request: HttpRequest, slug: str) -> dict[str, Any]:
    return image_json(find_published_version(slug))


@router.post("/admin/publish-jobs", response={201: JobOut})
def create_publish_job(request: HttpRequest, payload: RecipeIn) -> Status[dict[str, Any]]:
    """Publish an image from a recipe; a worker does it, `GET` the job to follow it."""
    return Status(201, job_json(start_publish(payload.recipe, acting_user=signed_in(request))))


@router.get("/admin/publish-jobs", response=JobPage)
def list_publish_jobs(request: HttpRequest, after: str = "", limit: int = 50) -> dict[str, Any]:
    """The newest first, 1 to 200 at a time; `after` is the `next` of the page before."""
    limit = min(max(limit, 1), 200)
    require_site_admin(signed_in(request), "publish images")
    jobs = PublishJob.objects.order_by("-created_at", "-pk")
    if after:
        try:
            jobs = jobs.filter(created_at__lt=datetime.fromisoformat(after))
        except ValueError:
            raise InvalidInput("`after` is not the `next` of an earlier page.") from None
    found = list(jobs[: limit + 1])
    following = found[limit - 1].created_at.isoformat() if len(found) > limit else None
    return {"items": [job_json(job) for job in found[:limit]], "next": following}


@router.get("/admin/publish-jobs/{uuid:job_id}", response=JobWithLogOut)
def get_publish_job(request: HttpRequest, job_id: UUID, after_log: int = 0) -> dict[str, Any]:
    """The job, and what its log says behind line `after_log`."""
    job = find_job(request, job_id)
    lines = PublishLogLine.objects.filter(job=job, seq__gt=after_log).order_by("seq")[:LOG_LINES]
    return {**job_json(job), "log": list(lines.values("seq", "text"))}


@router.post("/admin/publish-jobs/{uuid:job_id}/cancel", response=JobOut)
def cancel_publish_job(request: HttpRequest, job_id: UUID) -> dict[str, Any]:
    job = find_job(request, job_id)
    cancel_publish(job, acting_user=signed_in(request))
    return job_json(job)


@router.post("/admin/publish-jobs/{uuid:job_id}/retry", response={201: JobOut})
def retry_publish_job(request: HttpRequest, job_id: UUID) -> Status[dict[str, Any]]:
    """A new job for the recipe of one that failed or was cancelled; it goes on from what is finished."""
    return Status(201, job_json(retry_publish(find_job(request, job_id), acting_user=signed_in(request))))


@router.post("/admin/image-versions/{uuid:version_id}/withdraw", response=StateOut)
def withdraw_version(request: HttpRequest, version_id: UUID) -> ImageVersion:
    """No new machine starts from it; machines that exist go on."""
    version = find_version(request, version_id)
    retire_version(version, acting_user=signed_in(request))
    return version


@router.post("/admin/image-versions/{uuid:version_id}/restore", response=StateOut)
def restore_version(request: HttpRequest, version_id: UUID) -> ImageVersion:
    version = find_version(request, version_id)
    offer_version_again(version, acting_user=signed_in(request))
    return version


def find_version(request: HttpRequest, version_id: UUID) -> ImageVersion:
    require_site_admin(signed_in(request), "publish images")
    version = ImageVersion.objects.filter(pk=version_id).first()
    if version is None:
        raise NotFound
    return version
