"""Pages: the image catalogue for everybody; images, publishing and its jobs for site admins."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from storage.catalogue import all_images, published_versions, seen_state
from storage.images.errors import BadRecipe
from storage.images.publish import (
    cancel_publish,
    retry_publish,
    start_publish,
)
from storage.models import ImageVersion, PublishJob, PublishState
from storage.versions import fate_of, offer_version_again, retire_version
from webvm.accounts.access import require_site_admin, signed_in
from webvm.accounts.actions.tenants import undo_time
from webvm.errors import NotFound, WebVMError

View = Callable[..., HttpResponse]
RECENT_JOBS = 20
# The page starts with the end of a long log; the script fetches what follows.
SHOWN_LINES = 500


class RecipeForm(forms.Form):
    recipe = forms.CharField(
        max_length=1 << 20,
        strip=False,
        widget=forms.Textarea(
            attrs={"class": "code", "rows": 24, "spellcheck": "false", "autocomplete": "off"}
        ),
        help_text="TOML; docs/design/guest.md says what the keys mean. The slug names the image; publishing "
        "it again makes its next version.",
    )


def for_site_admins(view: View) -> View:
    @login_required
    @never_cache
    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        require_site_admin(signed_in(request), "publish images")
        return view(request, *args, **kwargs)

    return wrapped


@require_safe
def images(request: HttpRequest) -> HttpResponse:
    """The catalogue: one press starts a machine."""
    return render(request, "storage/images.html", {"versions": published_versions()})


@require_safe
@for_site_admins
def admin_images(request: HttpRequest) -> HttpResponse:
    jobs = [(job, *seen_state(job)) for job in PublishJob.objects.order_by("-created_at")[:RECENT_JOBS]]
    images = [
        (image, [(version, fate_of(version)) for version in image.versions.all()]) for image in all_images()
    ]
    return render(
        request, "storage/admin_images.html", {"images": images, "jobs": jobs, "undo_days": undo_time().days}
    )


@require_http_methods(["GET", "HEAD", "POST"])
@for_site_admins
def publish(request: HttpRequest) -> HttpResponse:
    """The form, with a version's recipe (`?from=<id>`) or the starter's to begin with."""
    if request.method == "POST":
        form = RecipeForm(request.POST)
        if form.is_valid():
            try:
                job = start_publish(form.cleaned_data["recipe"], acting_user=signed_in(request))
                return redirect("admin-job", job.pk)
            except BadRecipe as error:
                form.add_error("recipe", error.text)
            except WebVMError as error:
                form.add_error(None, error.text)
        return render(request, "storage/publish.html", {"form": form}, status=422)
    form = RecipeForm(initial={"recipe": _first_recipe(request.GET.get("from", ""))})
    return render(request, "storage/publish.html", {"form": form})


@require_safe
@for_site_admins
def job(request: HttpRequest, job_id: UUID) -> HttpResponse:
    found = _find_job(job_id)
    state, error = seen_state(found)
    lines = list(found.log_lines.order_by("-seq")[:SHOWN_LINES])[::-1]
    context = {
        "job": found,
        "state": state,
        "state_words": PublishState(state).label,
        "error": error,
        "lines": lines,
        "last_seq": lines[-1].seq if lines else 0,
        "is_active": state in {PublishState.QUEUED, PublishState.RUNNING},
        "can_retry": state in {PublishState.FAILED, PublishState.CANCELLED},
    }
    return render(request, "storage/job.html", context)


@require_POST
@for_site_admins
def cancel_job(request: HttpRequest, job_id: UUID) -> HttpResponse:
    found = _find_job(job_id)
    _say(
        request, lambda: cancel_publish(found, acting_user=signed_in(request)), "The job is being cancelled."
    )
    return redirect("admin-job", job_id)


@require_POST
@for_site_admins
def retry_job(request: HttpRequest, job_id: UUID) -> HttpResponse:
    found = _find_job(job_id)
    try:
        return redirect("admin-job", retry_publish(found, acting_user=signed_in(request)).pk)
    except WebVMError as error:
        messages.error(request, error.text)
        return redirect("admin-job", job_id)


@require_POST
@for_site_admins
def withdraw_version(request: HttpRequest, version_id: UUID) -> HttpResponse:
    version = _find_version(version_id)
    done = f"{version} is withdrawn. Machines that were started from it go on and keep its data."
    _say(request, lambda: retire_version(version, acting_user=signed_in(request)), done)
    return redirect("admin-images")


@require_POST
@for_site_admins
def restore_version(request: HttpRequest, version_id: UUID) -> HttpResponse:
    version = _find_version(version_id)
    done = f"{version} is offered again."
    _say(request, lambda: offer_version_again(version, acting_user=signed_in(request)), done)
    return redirect("admin-images")


def _say(request: HttpRequest, action: Callable[[], object], done: str) -> None:
    try:
        action()
    except WebVMError as error:
        messages.error(request, error.text)
    else:
        messages.success(request, done)


def _find_job(job_id: UUID) -> PublishJob:
    found = PublishJob.objects.select_related("version__image", "created_by").filter(pk=job_id).first()
    if found is None:
        raise NotFound
    return found


def _find_version(version_id: UUID) -> ImageVersion:
    found = ImageVersion.objects.select_related("image").filter(pk=version_id).first()
    if found is None:
        raise NotFound
    return found


def _first_recipe(version_id: str) -> str:
    if version_id:
        try:
            return _find_version(UUID(version_id)).recipe
        except ValueError:
            raise NotFound from None
    given = settings.STARTER_RECIPES
    example = Path(given[0]) if given else settings.BASE_DIR / "images" / "starter.toml"
    return example.read_text(encoding="utf-8") if example.is_file() else ""
