"""What a real server's database is filled with before a test: called in a process of the service."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.management import call_command

from tests.support.machines import make_image, make_token
from webvm.accounts.models import Tenant, User


def prepare() -> None:
    """Bring the database up to date."""
    call_command("migrate", verbosity=0, interactive=False)


def publish() -> None:
    """The tiny image."""
    make_image()


def make_people(count: int) -> list[dict[str, str]]:
    """So many users, each with a tenant, an API token and a VM of the tiny image."""
    from sessions.actions.vms import create_vm

    people = []
    for _ in range(count):
        user = User.objects.create_user(f"{uuid.uuid4().hex}@example.org")
        vm = create_vm("tiny", acting_user=user)
        people.append({"token": make_token(user), "vm": str(vm.pk), "tenant": str(vm.tenant_id)})
    return people


def accounts_of(tenant_id: str) -> dict[str, Any]:
    """What is counted against the tenant's quota, and what its own chunks add up to."""
    from storage.models import Chunk

    tenant = Tenant.objects.get(pk=tenant_id)
    own = Chunk.objects.filter(tenant=tenant, home=tenant).values_list("stored_size", flat=True)
    return {"used_bytes": tenant.used_bytes, "stored": sum(own)}
