"""The images that `up` publishes: which are missing, the one that is waited for, and the others."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.conf import LazySettings

from storage.catalogue import published_versions
from storage.images.errors import MirrorUnreachable
from storage.images.publish import run_publish_job, start_publish
from storage.models import PublishJob, PublishState
from storage.versions import retire_version
from tests.integration.publishing.steps import publish, version_of
from tests.support.publishing import LINUX_RECIPE, RECIPE, Workshop
from webvm.accounts.models import User
from webvm.up.errors import UpError
from webvm.up.progress import Reporter
from webvm.up.starter import Background, has_image, missing_starters, publish_starter

pytestmark = pytest.mark.django_db(transaction=True)
PC = "position = 1\n" + RECIPE
LINUX = "position = 2\n" + LINUX_RECIPE.replace('"small"', '"small-64"').replace("Small machine", "64 bits")


@pytest.fixture(autouse=True)
def recipes(settings: LazySettings, tmp_path: Path, sent: list[str]) -> list[Path]:
    """Two recipes, and a worker that is `work`."""
    paths = [tmp_path / "pc.toml", tmp_path / "linux.toml"]
    for path, text in zip(paths, (PC, LINUX), strict=True):
        path.write_text(text)
    settings.STARTER_RECIPES = [str(path) for path in paths]
    return paths


def work() -> None:
    """Does the oldest job that waits."""
    job = PublishJob.objects.filter(state=PublishState.QUEUED).order_by("created_at").first()
    if job:
        run_publish_job(job.pk)


def missing() -> list[str]:
    return [starter.slug for starter in missing_starters()]


def background(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Background:
    monkeypatch.setattr("webvm.up.starter.LOOK_S", 0)
    return Background(missing_starters(), Reporter(out))


def test_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is waited for, the other comes while the service runs, and then nothing is missing."""
    out = io.StringIO()
    assert (missing(), has_image()) == (["small", "small-64"], False)
    publish_starter(missing_starters()[0], Reporter(out), work)
    assert (missing(), has_image()) == (["small-64"], True)
    others = background(out, monkeypatch)
    others.look()
    assert "“64 bits” is being published meanwhile.\n" in out.getvalue()
    assert "“64 bits” is published." not in out.getvalue()
    work()
    others.look()
    others.look()
    assert out.getvalue().count("“64 bits” is published.\n") == 1
    assert missing() == []
    assert [version.machine["kind"] for version in published_versions()] == ["pc", "linux"]


def test_a_withdrawn_one_is_not_published_again(admin: User) -> None:
    retire_version(version_of(publish(PC)), acting_user=admin)
    assert (missing(), has_image()) == (["small-64"], False)


def test_the_catalogue_follows_the_recipes(recipes: list[Path]) -> None:
    publish(PC)
    publish(LINUX)
    recipes[0].write_text(PC.replace("position = 1", "position = 3"))
    assert missing() == []
    assert [version.image.slug for version in published_versions()] == ["small-64", "small"]


def test_a_job_that_was_left_is_followed() -> None:
    job = start_publish(PC, acting_user=None)
    publish_starter(missing_starters()[0], Reporter(io.StringIO()), work)
    assert [found.pk for found in PublishJob.objects.all()] == [job.pk]


def test_one_that_fails_is_said(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.build_error = MirrorUnreachable("No mirror here.")
    with pytest.raises(UpError, match=r"at the step “.*”: No mirror here"):
        publish_starter(missing_starters()[0], Reporter(io.StringIO()), work)
    out = io.StringIO()
    others = background(out, monkeypatch)
    work()
    work()
    others.look()
    for title in ("Small machine", "64 bits"):
        assert f"“{title}” could not be published, at the step “" in out.getvalue()
    assert missing() == ["small", "small-64"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read"),
        (b"slug = [", "is wrong: The recipe is not valid"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_recipe_that_is_no_good_is_said(recipes: list[Path], text: bytes | None, sentence: str) -> None:
    if text is None:
        recipes[1].unlink()
    else:
        recipes[1].write_bytes(text)
    with pytest.raises(UpError, match=sentence):
        missing_starters()
