"""`manage.py restoretenant`: bring back a deleted tenant, or what a deleted account had, in time."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from webvm.accounts.actions import restore_tenant
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.models import Tenant, User
from webvm.errors import WebVMError


class Command(BaseCommand):
    help = "Bring back a deleted tenant with all its machines, for a new owner. Without an id: list them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", type=UUID, nargs="?", help="the tenant's id")
        parser.add_argument("--owner", metavar="EMAIL", help="who becomes its owner")

    def handle(self, *args: Any, tenant: UUID | None, owner: str | None, **options: Any) -> None:
        if tenant is None:
            for gone in Tenant.objects.exclude(deleted_at=None).order_by("deleted_at").iterator():
                if gone.deleted_at is not None:
                    until = gone.deleted_at + undo_time()
                    self.stdout.write(f"{gone.pk}  {gone.name}, until {until:%Y-%m-%d %H:%M} UTC")
            return
        user = User.objects.filter(email=(owner or "").strip().lower(), is_active=True).first()
        if user is None:
            raise CommandError("Say with --owner whose it will be: the address of an active account.")
        try:
            back = restore_tenant(tenant, user, acting_user=None)
        except WebVMError as error:
            raise CommandError(error.text) from error
        self.stdout.write(f"{back.name} is back. {user.email} owns it.")
