"""`manage.py expireguests`: remove guests whose time is over; for cron, once an hour or a day."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from webvm.accounts.actions import expire_guests


class Command(BaseCommand):
    help = "Remove guests whose time is over, with their machines."

    def handle(self, *args: Any, **options: Any) -> None:
        total = 0
        while removed := expire_guests():
            total += removed
        self.stdout.write(f"{total} guests removed.")
