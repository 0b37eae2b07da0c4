"""The lists people see, each with what its rows show loaded: the number of queries does not depend on the
rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone

from sessions.access import BULKY
from sessions.actions.leases import LEASE_TTL
from sessions.models import VM, ShareLink, Snapshot
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.models import Tenant


def listed_vms(tenants: Sequence[Tenant], *, deleted: bool = False) -> QuerySet[VM]:
    """The living VMs of the tenants, or the deleted ones that can still be brought back."""
    query = VM.objects.filter(tenant__in=tenants).select_related(
        "tenant", "head", "image_version__image", "lease_user", "created_by"
    )
    query = query.filter(deleted_at__gt=oldest_undo()) if deleted else query.filter(deleted_at=None)
    return query.defer("head__thumbnail", "image_version__read_trails", *BULKY)


def only_running(vms: QuerySet[VM]) -> QuerySet[VM]:
    """Those whose lease somebody holds. A holder uses the VM with every renewal: only what was used since the
    longest lease began is looked at, however many VMs there are.
    """
    now = timezone.now()
    return vms.filter(last_used_at__gt=now - LEASE_TTL, lease_session__isnull=False, lease_expires_at__gt=now)


def listed_snapshots(vm: VM, *, deleted: bool = False) -> QuerySet[Snapshot]:
    """A VM's shown snapshots, or the deleted ones that can still be brought back."""
    query = vm.snapshots.select_related("author").defer("thumbnail")
    return query.filter(deleted_at__gt=oldest_undo()) if deleted else query.filter(deleted_at=None)


def listed_links(vm: VM) -> QuerySet[ShareLink]:
    """Every link to the VM's shown snapshots."""
    links = ShareLink.objects.filter(snapshot__vm=vm, snapshot__deleted_at=None)
    return links.select_related("created_by", "snapshot").defer("snapshot__thumbnail")


def oldest_undo() -> datetime:
    return timezone.now() - undo_time()
