"""Reading images and publish jobs, for pages and API alike."""

from __future__ import annotations

from django.db.models import OuterRef, Prefetch, QuerySet, Subquery

from storage.models import LOST, Image, ImageVersion, PublishJob, PublishState
from webvm.errors import NotFound


def published_versions() -> QuerySet[ImageVersion]:
    """The newest version of each image that has one which is not withdrawn, with its image, in the
    catalogue's order.
    """
    offered = ImageVersion.objects.filter(image=OuterRef("image"), is_withdrawn=False).order_by("-number")
    newest = ImageVersion.objects.filter(pk=Subquery(offered.values("pk")[:1]))
    return newest.select_related("image").order_by("image__position", "image__title", "image__slug")


def find_published_version(slug: str) -> ImageVersion:
    """The version that a new machine of this image starts from. Raises `NotFound`."""
    version = published_versions().filter(image__slug=slug).first()
    if version is None:
        raise NotFound
    return version


def all_images() -> QuerySet[Image]:
    """Every image in the catalogue's order, with all its versions, newest first, for site admins."""
    versions = ImageVersion.objects.order_by("-number")
    return Image.objects.order_by("position", "title", "slug").prefetch_related(
        Prefetch("versions", versions)
    )


def seen_state(job: PublishJob) -> tuple[str, str]:
    """The job's state and error as a person sees them: one whose worker is gone has failed."""
    if job.is_lost:
        return PublishState.FAILED, LOST
    return job.state, job.error
