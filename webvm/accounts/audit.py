"""The audit log: a row for every change, written in the transaction of the change."""

from __future__ import annotations

from typing import Any

from django.db.models import Model

from webvm.accounts.models import AuditEntry, Tenant, User


def record(
    action: str,
    *,
    acting_user: User | None,
    tenant: Tenant | None = None,
    target: Model | None = None,
    **data: Any,
) -> AuditEntry:
    """Write down that `acting_user` (None: the system) did `action` (its `verb_noun` name) to `target`.

    `data` must be JSON and hold no secrets. A guest and a full user are written alike.
    """
    return AuditEntry.objects.create(
        action=action,
        acting_user=acting_user,
        tenant=tenant,
        target_type=target._meta.model_name or "" if target is not None else "",
        target_id=str(target.pk) if target is not None else "",
        data=data,
    )
