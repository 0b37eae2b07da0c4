"""Publish jobs and their workers: one at a time, cancelled, lost, taken over."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from kombu.exceptions import OperationalError

from storage.errors import PublishNotPossible
from storage.images.publish import (
    QUEUE_UNREACHABLE,
    cancel_publish,
    retry_publish,
    run_publish_job,
    send_unfinished_jobs,
    start_publish,
)
from storage.models import LOST, ImageVersion, PublishJob, PublishState
from storage.tasks import publish_image
from tests.integration.publishing.steps import nothing_is_published, version_of
from tests.support.publishing import RECIPE, Workshop
from webvm.accounts.models import User

pytestmark = pytest.mark.django_db(transaction=True)


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
