"""Publishing: what is published, what failing leaves behind, and who may."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from kombu.exceptions import OperationalError

from storage.codec import CHUNK_BYTES, decode_verified, digest_of
from storage.errors import PublishNotPossible
from storage.images.errors import BadRecipe, MirrorUnreachable
from storage.images.publish import (
    QUEUE_UNREACHABLE,
    cancel_publish,
    retry_publish,
    run_publish_job,
    send_unfinished_jobs,
    start_publish,
    withdraw_image_version,
)
from storage.models import LOST, Chunk, Image, ImageVersion, PublishJob, PublishState
from storage.packs import MAX_PACK_BYTES, decode_pack
from storage.stores import get_store
from storage.tasks import publish_image
from storage.walk import locate
from tests.integration.test_commits import leaf_of
from tests.support.faulty_store import FaultyChunkStore, full_after
from tests.support.machines import make_token, make_user
from tests.support.publishing import RECIPE, Workshop, make_workshop
from webvm.accounts.models import AuditEntry, User
from webvm.errors import PermissionDenied

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> Workshop:
    return make_workshop(tmp_path, monkeypatch, settings)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that a worker would get."""
    sent: list[str] = []
    monkeypatch.setattr(publish_image, "delay", sent.append)
    return sent


@pytest.fixture
def admin() -> User:
    return make_user("admin@example.org", is_staff=True)


def publish(recipe: str = RECIPE) -> PublishJob:
    job = start_publish(recipe, acting_user=None, in_worker=False)
    run_publish_job(job.pk)
    job.refresh_from_db()
    return job


def version_of(job: PublishJob) -> ImageVersion:
    assert job.state == PublishState.SUCCEEDED, job.error
    assert job.version is not None
    return job.version


def public(digest: str | bytes) -> bytes:
    """A public object's raw bytes, verified."""
    digest = digest if isinstance(digest, bytes) else bytes.fromhex(digest)
    return decode_verified(get_store().get(f"pub/{digest.hex()}"), digest, MAX_PACK_BYTES)


def read_device(root: str, blocks: int) -> dict[int, bytes]:
    """Its blocks that are not all zeros."""
    leaves = range((blocks + 1023) // 1024)
    located = locate(root, None, blocks, leaves)
    assert not located.urls
    found: dict[int, bytes] = {}
    for number in leaves:
        raw = leaf_of(located, root, number)
        leaf: Any = decode(raw) if raw else None
        for entry in leaf.entries if leaf else ():
            data = public(leaf.refs[entry.ref])
            for at in range(entry.count):
                part = data[(entry.offset + at) * 4096 : (entry.offset + at + 1) * 4096]
                if part.strip(b"\0"):
                    found[number * 1024 + entry.first + at] = part
    return found


def decode(raw: bytes) -> object:
    from storage.index import decode_node

    return decode_node(raw)


def nothing_is_published() -> bool:
    return not (Image.objects.exists() or ImageVersion.objects.exists() or Chunk.objects.exists())


class TestProduct:
    def test_disk_and_memory_read_back(self, tmp_path: Path) -> None:
        version = version_of(publish())
        [disk] = (tmp_path / "cache" / "booted").glob("*/out/disk.img")
        raw = disk.read_bytes()
        assert version.disk_bytes == len(raw)
        expected = {at // 4096: raw[at : at + 4096] for at in range(0, len(raw), 4096)}
        assert read_device(version.disk_root, version.disk_blocks) == {
            number: block for number, block in expected.items() if block.strip(b"\0")
        }
        assert raw[5 * 4096 : 6 * 4096] == b"c" * 4096  # what the guest wrote
        memory = read_device(version.memory_root, version.memory_blocks)
        assert sorted(memory) == [0, 3, 4, 1024, 16384, 24000]
        assert memory[1024].startswith(b"m1024;")
        assert version.memory_blocks == 64 * 256 + 8192

    def test_no_chunk_of_zeros_is_stored(self, workshop: Workshop) -> None:
        publish()
        zeros = digest_of(bytes(CHUNK_BYTES))
        assert not Chunk.objects.filter(digest=zeros).exists()
        assert not get_store().exists(f"pub/{zeros.hex()}")

    def test_every_row_has_its_object_and_says_its_size(self) -> None:
        publish()
        for chunk in Chunk.objects.all():
            stored = get_store().get(f"pub/{bytes(chunk.digest).hex()}")
            assert chunk.stored_size == len(stored)
            assert chunk.raw_size == len(public(bytes(chunk.digest)))
            assert (chunk.tenant, chunk.home) == (None, None)

    def test_the_warm_pack_holds_the_memory_and_both_indexes(self) -> None:
        version = version_of(publish())
        pack = decode_pack(public(version.warm_pack))
        disk = locate(version.disk_root, None, version.disk_blocks, range(version.disk_blocks // 1024))
        leaves = range(version.memory_blocks // 1024)
        memory = locate(version.memory_root, None, version.memory_blocks, leaves)
        assert disk.nodes.keys() | memory.nodes.keys() <= {digest.hex() for digest in pack}
        for raw in memory.nodes.values():
            node: Any = decode(raw)
            assert set(node.refs) <= pack.keys()
        assert version.warm_pack_bytes == len(get_store().get(f"pub/{version.warm_pack}"))

    def test_the_boot_pack_has_what_a_boot_reads_in_that_order(self) -> None:
        version = version_of(publish())
        chunks = list(decode_pack(public(version.boot_pack)).values())
        assert version.boot_trace == [7, 0, 3, 200, 7]
        assert [int.from_bytes(raw[:4], "little") for raw in chunks] == [7, 0, 200]

    def test_what_rehearsed_commands_read_is_kept(self) -> None:
        assert version_of(publish()).read_trails == [[0, 200], [1, 200]]

    def test_firmware_and_kernel_are_blobs(self) -> None:
        version = version_of(publish())
        assert version.machine["memory_mib"] == 64
        for name in ("kernel", "initrd", "bios", "vga_bios"):
            blob = version.machine[name]
            raw = b"".join(public(digest) for digest in blob["chunks"])
            assert raw == name.encode() * 60_000
            assert blob["size"] == len(raw)
            assert all(len(public(digest)) == CHUNK_BYTES for digest in blob["chunks"][:-1])

    def test_it_is_written_down_who_published(self, admin: User, sent: list[str]) -> None:
        job = start_publish(RECIPE, acting_user=admin)
        run_publish_job(job.pk)
        entries = AuditEntry.objects.filter(acting_user=admin)
        assert set(entries.values_list("action", flat=True)) == {"start_publish", "publish_version"}

    def test_the_log_is_data(self) -> None:
        job = publish()
        lines = list(job.log_lines.values_list("text", flat=True))
        assert "   red <b>bold</b>" in lines
        assert "   Setting up bash" in lines
        assert "A note about the mirror" in lines
        assert [line.seq for line in job.log_lines.all()] == list(range(1, len(lines) + 1))


class TestAgain:
    def test_the_same_again_is_recognised_and_nothing_is_done_twice(self, workshop: Workshop) -> None:
        first, second = publish(), publish()
        assert version_of(first) == version_of(second)
        assert ImageVersion.objects.count() == 1
        assert (workshop.built, workshop.boots) == (1, 1)

    def test_another_recipe_makes_the_next_version(self, workshop: Workshop) -> None:
        first = version_of(publish())
        workshop.chunks.append(11)
        second = version_of(publish(RECIPE.replace("For tests", "More tests")))
        assert (first.number, second.number) == (1, 2)
        assert second.image.description == "More tests"
        shared = Chunk.objects.count()
        assert second.facts["new_bytes"] < first.facts["new_bytes"]
        assert shared > 0

    def test_an_old_disk_is_made_anew(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        publish()
        monkeypatch.setattr("storage.images.built.FRESH_S", -1)
        publish()
        # The same packages make the same disk, so that it need not be booted again.
        assert (workshop.built, workshop.boots) == (2, 1)

    def test_a_lost_object_is_stored_again(self) -> None:
        version = version_of(publish())
        for chunk in Chunk.objects.all():
            get_store().delete(f"pub/{bytes(chunk.digest).hex()}")
        assert version_of(publish()) == version
        assert read_device(version.memory_root, version.memory_blocks)


class TestFailure:
    def test_a_failed_build_says_why(self, workshop: Workshop) -> None:
        workshop.build_error = MirrorUnreachable()
        job = publish()
        assert job.state == PublishState.FAILED
        assert job.error == MirrorUnreachable.message
        assert nothing_is_published()

    def test_a_bug_is_a_failed_job_too(self, workshop: Workshop) -> None:
        workshop.build_error = ZeroDivisionError("oops")
        job = publish()
        assert job.state == PublishState.FAILED
        assert "oops" in job.error

    @pytest.mark.parametrize(
        ("behaviour", "why"),
        [
            ({"error": "the guest panicked"}, "the guest panicked"),
            ({"crash": True}, "ended early"),
            ({"memory": [3, 1]}, "out of order"),
            ({"memory": [30_000]}, "larger than the machine"),
            ({"memory": []}, "empty"),
        ],
    )
    def test_a_machine_that_does_not_get_through(
        self, workshop: Workshop, behaviour: dict[str, Any], why: str
    ) -> None:
        workshop.behave(**behaviour)
        job = publish()
        assert job.state == PublishState.FAILED
        assert why in job.error
        assert nothing_is_published()

    def test_after_a_failure_it_goes_on_where_it_was(self, workshop: Workshop, sent: list[str]) -> None:
        workshop.behave(error="no luck")
        job = publish()
        assert job.step == "Booting the machine"
        workshop.behave()
        again = retry_publish(job, acting_user=None)
        run_publish_job(again.pk)
        again.refresh_from_db()
        assert version_of(again)
        assert (workshop.built, workshop.boots) == (1, 2)

    @pytest.mark.parametrize("puts", [0, 3, 12])
    def test_a_full_store_leaves_nothing_half_published(
        self, puts: int, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = FaultyChunkStore(get_store(), full_after(puts))
        monkeypatch.setattr("storage.images.shelf.get_store", lambda: store)
        job = publish()
        assert job.state == PublishState.FAILED
        assert "The store fails" in job.error
        assert nothing_is_published()
        store.plan = lambda call: None
        assert version_of(publish())
        assert workshop.boots == 1

    def test_a_failure_in_the_last_transaction_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("the database is gone")

        with monkeypatch.context() as patch:
            patch.setattr("storage.images.publish.ImageVersion.objects.create", fail)
            job = publish()
        assert job.state == PublishState.FAILED
        assert nothing_is_published()


class TestJobs:
    def test_a_second_delivery_does_nothing(self, workshop: Workshop, sent: list[str]) -> None:
        job = start_publish(RECIPE, acting_user=None)
        assert sent == [str(job.pk)]
        publish_image(str(job.pk))
        publish_image(str(job.pk))
        assert workshop.boots == 1
        assert ImageVersion.objects.count() == 1

    def test_a_queue_that_cannot_be_reached_fails_the_job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_job: str) -> None:
            raise OperationalError("connection refused")

        monkeypatch.setattr(publish_image, "delay", refuse)
        job = start_publish(RECIPE, acting_user=None)
        assert (job.state, job.error) == (PublishState.FAILED, QUEUE_UNREACHABLE)

    def test_one_job_an_image_at_a_time(self, sent: list[str]) -> None:
        start_publish(RECIPE, acting_user=None)
        with pytest.raises(PublishNotPossible):
            start_publish(RECIPE, acting_user=None)
        start_publish(RECIPE.replace('"small"', '"other"'), acting_user=None)

    def test_a_queued_job_is_cancelled_at_once(self, sent: list[str], workshop: Workshop) -> None:
        job = start_publish(RECIPE, acting_user=None)
        cancel_publish(job, acting_user=None)
        publish_image(str(job.pk))
        job.refresh_from_db()
        assert job.state == PublishState.CANCELLED
        assert workshop.built == 0
        with pytest.raises(PublishNotPossible):
            cancel_publish(job, acting_user=None)

    def test_a_running_job_is_cancelled_within_seconds(self, workshop: Workshop) -> None:
        workshop.behave(hang=True)
        job = start_publish(RECIPE, acting_user=None, in_worker=False)

        def run() -> None:
            run_publish_job(job.pk)
            connection.close()

        thread = threading.Thread(target=run)
        thread.start()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not workshop.boots:
            time.sleep(0.1)
        cancel_publish(job, acting_user=None)
        thread.join(15)
        assert not thread.is_alive()
        job.refresh_from_db()
        assert job.state == PublishState.CANCELLED
        assert nothing_is_published()

    def lose(self, **fields: Any) -> PublishJob:
        job = start_publish(RECIPE, acting_user=None, in_worker=False)
        long_ago = timezone.now() - timedelta(minutes=10)
        values = {"state": PublishState.RUNNING, "worker": "elsewhere:1:x", "heartbeat_at": long_ago}
        PublishJob.objects.filter(pk=job.pk).update(**values | fields)
        job.refresh_from_db()
        return job

    def test_a_job_without_a_worker_is_seen_as_failed_and_can_be_retried(
        self, client: Client, admin: User, sent: list[str]
    ) -> None:
        job = self.lose()
        client.force_login(admin)
        seen = client.get(f"/api/v1/admin/publish-jobs/{job.pk}").json()
        assert (seen["state"], seen["error"]) == ("failed", LOST)
        again = retry_publish(job, acting_user=admin)
        job.refresh_from_db()
        assert (job.state, job.error) == (PublishState.FAILED, LOST)
        assert sent == [str(again.pk)]

    def test_a_new_worker_goes_on_with_the_job_of_one_that_died(self, sent: list[str]) -> None:
        import socket
        import subprocess
        import sys

        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        job = self.lose(worker=f"{socket.gethostname()}:{process.pid}:x", heartbeat_at=timezone.now())
        send_unfinished_jobs()
        assert sent == [str(job.pk)]
        publish_image(str(job.pk))
        job.refresh_from_db()
        assert version_of(job)

    def test_a_job_that_runs_elsewhere_is_left_alone(self, sent: list[str], workshop: Workshop) -> None:
        job = self.lose(heartbeat_at=timezone.now())
        send_unfinished_jobs()
        publish_image(str(job.pk))
        assert sent == []
        assert workshop.built == 0

    def test_a_worker_that_lost_its_job_stops(self, workshop: Workshop) -> None:
        workshop.behave(hang=True)
        job = start_publish(RECIPE, acting_user=None, in_worker=False)
        errors: list[BaseException] = []

        def run() -> None:
            try:
                run_publish_job(job.pk)
            except BaseException as error:
                errors.append(error)
            connection.close()

        thread = threading.Thread(target=run)
        thread.start()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not workshop.boots:
            time.sleep(0.1)
        PublishJob.objects.filter(pk=job.pk).update(worker="another:1:x")
        thread.join(15)
        assert not thread.is_alive()
        assert not errors
        job.refresh_from_db()
        assert (job.state, job.worker) == (PublishState.RUNNING, "another:1:x")


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
            withdraw_image_version(version, acting_user=user)
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
        assert "slug = &quot;starter&quot;" in form
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
