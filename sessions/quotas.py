"""How many machines a tenant may have and run at one time. Both checks lock the tenant's row, so that two
requests at once do not pass together.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from sessions.errors import SessionQuotaExceeded, VMQuotaExceeded
from sessions.models import VM
from webvm.accounts.models import Tenant
from webvm.accounts.usage import Usage


def living_vms(tenant_id: UUID) -> QuerySet[VM]:
    """What counts as a machine: deleted ones do not, though they can be brought back."""
    return VM.objects.filter(tenant=tenant_id, deleted_at=None)


def running_vms(tenant_id: UUID, now: datetime | None = None) -> QuerySet[VM]:
    """What counts as a session: a VM whose lease somebody holds."""
    return living_vms(tenant_id).filter(
        lease_session__isnull=False, lease_expires_at__gt=now or timezone.now()
    )


def require_room_for_vm(tenant_id: UUID) -> None:
    """In the transaction that adds a VM. Raises `VMQuotaExceeded`."""
    tenant = Tenant.objects.select_for_update().get(pk=tenant_id)
    count = living_vms(tenant_id).count()
    if count >= tenant.max_vms:
        raise VMQuotaExceeded(vms=count, max_vms=tenant.max_vms)


def require_room_for_session(vm: VM, now: datetime) -> None:
    """In the transaction that gives the VM a new holder, which does not count itself.

    A session that slept past its lease and renews it is not asked: it may hold work that is not saved. Raises
    `SessionQuotaExceeded`.
    """
    tenant = Tenant.objects.select_for_update().get(pk=vm.tenant_id)
    count = running_vms(vm.tenant_id, now).exclude(pk=vm.pk).count()
    if count >= tenant.max_sessions:
        raise SessionQuotaExceeded(sessions=count, max_sessions=tenant.max_sessions)


def count_usage(tenants: Collection[UUID]) -> dict[UUID, Usage]:
    """For the tenants that have machines: how many, and how many run. One query."""
    running = Q(lease_session__isnull=False, lease_expires_at__gt=timezone.now())
    counted = (
        VM.objects.filter(tenant__in=tenants, deleted_at=None)
        .order_by()
        .values_list("tenant")
        .annotate(vms=Count("pk"), sessions=Count("pk", filter=running))
    )
    return {tenant: Usage(vms, sessions) for tenant, vms, sessions in counted}
