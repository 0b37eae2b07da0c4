"""Uploads that no commit named in time. Nothing alive names a pending row, so no run has to look for what
does: they are condemned as they are, at a cost that is theirs alone.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from storage.gc.mark import Condemned
from storage.models import Chunk, ChunkState
from storage.states import charge, lock_tenants, own_bytes, pin_time

_STEP = 500


def abandoned_uploads(now: datetime) -> QuerySet[Chunk]:
    """Pending rows whose pin is over."""
    return Chunk.objects.filter(state=ChunkState.PENDING, state_at__lt=now - pin_time(), tenant__isnull=False)


def condemn_abandoned(now: datetime) -> Condemned:
    """Condemns them, some in each transaction. What is asked for meanwhile stays."""
    done = Condemned()
    while True:
        page = abandoned_uploads(now).order_by("state_at", "pk").values_list("tenant_id", "pk")[:_STEP]
        by_tenant: dict[UUID, list[int]] = defaultdict(list)
        for tenant_id, pk in page:
            if tenant_id is not None:
                by_tenant[tenant_id].append(pk)
        if not by_tenant:
            return done
        for tenant_id, pks in by_tenant.items():
            done += _condemn(tenant_id, pks, now)


def _condemn(tenant_id: UUID, pks: list[int], now: datetime) -> Condemned:
    with transaction.atomic():
        lock_tenants(tenant_id)
        rows = abandoned_uploads(now).filter(tenant=tenant_id, pk__in=pks)
        size = own_bytes(rows, tenant_id)
        count = rows.update(state=ChunkState.CONDEMNED, state_at=now)
        charge(tenant_id, used=-size, condemned=size)
    return Condemned(count, size)
