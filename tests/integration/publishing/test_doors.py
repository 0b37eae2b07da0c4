"""The command, the API and the pages that publish, and who may."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.test import Client

from storage.images.errors import BadRecipe
from storage.images.publish import start_publish
from storage.models import Chunk, PublishJob
from storage.tasks import publish_image
from storage.versions import retire_version
from tests.integration.publishing.steps import publish, version_of
from tests.support.machines import make_token, make_user
from tests.support.publishing import RECIPE, Workshop
from webvm.accounts.models import User
from webvm.errors import PermissionDenied

pytestmark = pytest.mark.django_db(transaction=True)


class TestCommand:
    def test_it_publishes_here_and_now(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(RECIPE)
        out = StringIO()
        call_command("publishimage", recipe, stdout=out)
        assert "Published small version 1." in out.getvalue()
        assert "== Booting the machine" in capsys.readouterr().out

    def test_a_failure_is_an_exit_status_and_a_sentence(self, tmp_path: Path, workshop: Workshop) -> None:
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(RECIPE)
        workshop.behave(error="the guest panicked")
        with pytest.raises(CommandError, match=r"Booting the machine: .*the guest panicked"):
            call_command("publishimage", recipe)

    def test_a_bad_recipe_and_a_missing_one(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="cannot be read"):
            call_command("publishimage", tmp_path / "missing.toml")
        recipe = tmp_path / "recipe.toml"
        recipe.write_text("slug = 1")
        with pytest.raises(CommandError, match="slug"):
            call_command("publishimage", recipe)


class TestDoors:
    def test_only_site_admins_publish(self, client: Client, sent: list[str]) -> None:
        user = make_user()
        with pytest.raises(PermissionDenied):
            start_publish(RECIPE, acting_user=user)
        version = version_of(publish())
        with pytest.raises(PermissionDenied):
            retire_version(version, acting_user=user)
        headers = {"Authorization": f"Bearer {make_token(user)}"}
        job = PublishJob.objects.get()
        for method, path in [
            ("POST", "/api/v1/admin/publish-jobs"),
            ("GET", "/api/v1/admin/publish-jobs"),
            ("GET", f"/api/v1/admin/publish-jobs/{job.pk}"),
            ("GET", "/api/v1/admin/publish-jobs/00000000-0000-0000-0000-000000000000"),
            ("POST", f"/api/v1/admin/publish-jobs/{job.pk}/cancel"),
            ("POST", f"/api/v1/admin/image-versions/{version.pk}/withdraw"),
        ]:
            answer = client.generic(method, path, '{"recipe": ""}', "application/json", headers=headers)
            assert answer.status_code == 403, path
        client.force_login(user)
        for path in ("/admin-images/", "/admin-images/publish/", f"/admin-images/jobs/{job.pk}/"):
            assert client.get(path).status_code == 403
        assert not sent

    def test_the_api_publishes_and_shows_the_log(self, client: Client, admin: User, sent: list[str]) -> None:
        headers = {"Authorization": f"Bearer {make_token(admin)}"}
        url = "/api/v1/admin/publish-jobs"
        bad = client.post(url, {"recipe": "slug = 1"}, "application/json", headers=headers)
        assert (bad.status_code, bad.json()["error"]["code"]) == (422, BadRecipe.code)
        made = client.post(url, {"recipe": RECIPE}, "application/json", headers=headers)
        assert made.status_code == 201
        publish_image(sent[0])
        job = client.get(f"{url}/{made.json()['id']}", headers=headers).json()
        assert job["state"] == "succeeded"
        last = job["log"][-1]["seq"]
        rest = client.get(f"{url}/{job['id']}?after_log={last - 1}", headers=headers).json()
        assert [line["seq"] for line in rest["log"]] == [last]
        listed = client.get(url, headers=headers).json()
        assert [item["id"] for item in listed["items"]] == [job["id"]]

    def test_a_withdrawn_version_is_not_offered(self, client: Client, admin: User) -> None:
        version = version_of(publish())
        assert client.get("/api/v1/images").json()["items"][0]["slug"] == "small"
        assert client.get("/api/v1/images/small").json()["version"]["disk_bytes"] == 64 << 20
        client.force_login(admin)
        client.post(f"/admin-images/versions/{version.pk}/withdraw/")
        assert client.get("/api/v1/images").json()["items"] == []
        assert client.get("/api/v1/images/small").status_code == 404
        client.post(f"/admin-images/versions/{version.pk}/restore/")
        assert client.get("/api/v1/images/small").status_code == 200

    def test_the_pages(self, client: Client, admin: User, sent: list[str], settings: LazySettings) -> None:
        job = publish()
        shown = client.get("/images/").content.decode()
        assert "Small machine" in shown
        assert "Sign in to start a machine" in shown
        client.force_login(admin)
        assert 'name="image" value="small"' in client.get("/images/").content.decode()
        assert "small" in client.get("/admin-images/").content.decode()
        page = client.get(f"/admin-images/jobs/{job.pk}/").content.decode()
        assert "&lt;b&gt;bold&lt;/b&gt;" in page
        assert "<b>bold</b>" not in page
        form = client.get("/admin-images/publish/").content.decode()
        assert "slug = &quot;starter-64&quot;" in form
        bad = client.post("/admin-images/publish/", {"recipe": "slug = 1"})
        assert bad.status_code == 422
        good = client.post("/admin-images/publish/", {"recipe": RECIPE})
        assert good.status_code == 302
        assert "data-publish-job" in client.get(good["Location"]).content.decode()

    def test_the_django_admin_shows_everything(self, client: Client, admin: User) -> None:
        version_of(publish())
        User.objects.filter(pk=admin.pk).update(is_superuser=True)
        client.force_login(admin)
        chunk = Chunk.objects.first()
        assert chunk is not None
        for model in ("chunk", "image", "imageversion", "publishjob", "publishlogline"):
            assert client.get(f"/admin/storage/{model}/").status_code == 200
        found = client.get(f"/admin/storage/chunk/?q={bytes(chunk.digest).hex()}").content.decode()
        assert bytes(chunk.digest).hex() in found
        assert client.get(f"/admin/storage/chunk/{chunk.pk}/change/").status_code == 200
