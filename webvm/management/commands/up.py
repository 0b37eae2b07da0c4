"""`manage.py up`: install, build, migrate, publish the starter image, serve."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from webvm.up.options import add_arguments, read_options


class Command(BaseCommand):
    help = "Do everything between a fresh clone and a running service, then serve until Ctrl-C."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        # The arguments became environment variables before the settings were read: see webvm/up/options.py.
        from webvm.up.progress import Reporter
        from webvm.up.service import Service

        Service(read_options(), Reporter(sys.stdout)).run()
