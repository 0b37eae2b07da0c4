"""`manage.py publishimage RECIPE`: make an image from a recipe and publish it for everybody."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from storage.images.publish import run_publish_job, start_publish
from storage.images.terminal import Terminal
from storage.models import LOST, PublishJob, PublishState
from webvm.errors import WebVMError

POLL_S = 0.5


class Command(BaseCommand):
    help = (
        "Publish an image from a recipe (TOML). Finished parts are kept, so a run that was stopped goes on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("recipe", type=Path, help="The recipe's file")
        parser.add_argument(
            "--in-worker",
            action="store_true",
            help="Hand the job to the Celery worker and follow it from here",
        )
        parser.add_argument("--quiet-log", action="store_true", help="Show the progress only, not the log")

    def handle(self, *, recipe: Path, in_worker: bool, quiet_log: bool, **_: Any) -> None:
        try:
            text = recipe.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{recipe} cannot be read: {error}") from error
        try:
            job = start_publish(text, acting_user=None, in_worker=in_worker)
        except WebVMError as error:
            raise CommandError(error.text) from error
        terminal = Terminal(job.pk, sys.stdout, show_log=not quiet_log)
        try:
            if in_worker:
                self._follow(job, terminal)
            else:
                run_publish_job(job.pk, terminal.echo)
        except KeyboardInterrupt:
            raise CommandError("The worker goes on with the job; cancel it on the page of its job.") from None
        finally:
            terminal.close()
        job.refresh_from_db()
        if job.state != PublishState.SUCCEEDED or job.version is None:
            raise CommandError(f"Not published. {job.step}: {job.error}")
        self.stdout.write(f"Published {job.version.image.slug} version {job.version.number}.")

    def _follow(self, job: PublishJob, terminal: Terminal) -> None:
        seen = 0
        while True:
            job.refresh_from_db()
            for line in job.log_lines.filter(seq__gt=seen).order_by("seq"):
                seen = line.seq
                terminal.echo(line.text)
            terminal.echo(None)
            if job.state not in {PublishState.QUEUED, PublishState.RUNNING}:
                return
            if job.is_lost:
                raise CommandError(LOST)
            time.sleep(POLL_S)
