"""`manage.py preparebucket ORIGIN…`: the rules that the S3 bucket needs for browsers' own uploads."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from storage.stores import get_store
from storage.stores.s3 import S3Store
from webvm.errors import WebVMError

ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")


class Command(BaseCommand):
    help = (
        "Set the S3 bucket's CORS rule, so that this site's pages may upload into it, and a lifecycle rule "
        "that removes what was never finished. Replaces the rules the bucket has."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("origins", nargs="+", help="Where the pages are: https://webvm.example.org")

    def handle(self, *, origins: list[str], **_: Any) -> None:
        for origin in origins:
            if not ORIGIN.fullmatch(origin):
                raise CommandError(f"{origin!r} is no origin: give scheme and host only, without a path.")
        store = get_store()
        if not isinstance(store, S3Store):
            raise CommandError("The chunk store is not S3: set WEBVM_CHUNK_STORE=s3 and the bucket first.")
        try:
            store.prepare_bucket(origins)
        except WebVMError as error:
            raise CommandError(error.text) from error
        self.stdout.write(f"The bucket {settings.S3_BUCKET} takes uploads from {', '.join(origins)}.")
