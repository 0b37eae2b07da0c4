"""Pages of long lists by cursor: newest first, each page costs the same wherever it is."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from django.db.models import Model, Q, QuerySet

from webvm.errors import InvalidInput

PAGE_SIZE = 50
MAX_PAGE_SIZE = 100

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True)
class Page(Generic[Row]):
    """`next` is the cursor of the page after this one, None on the last."""

    items: Sequence[Row]
    next: str | None


def page_of(query: QuerySet[Row], field: str, cursor: str | None, limit: int = PAGE_SIZE) -> Page[Row]:
    """The rows after `cursor` by descending time `field`, within an instant by id. Raises `InvalidInput`."""
    if cursor:
        time, last_id = _decode(cursor)
        query = query.filter(Q(**{f"{field}__lt": time}) | Q(**{field: time, "pk__gt": last_id}))
    rows = list(query.order_by(f"-{field}", "pk")[: limit + 1])
    if len(rows) <= limit:
        return Page(rows, None)
    rows = rows[:limit]
    return Page(rows, _encode(getattr(rows[-1], field), rows[-1].pk))


def _encode(time: datetime, last_id: UUID) -> str:
    return (
        base64.urlsafe_b64encode(json.dumps([time.isoformat(), str(last_id)]).encode()).decode().rstrip("=")
    )


def _decode(cursor: str) -> tuple[datetime, UUID]:
    try:
        time, last_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        parsed = datetime.fromisoformat(time)
        if parsed.tzinfo is None:
            raise ValueError("no time zone")
        return parsed, UUID(last_id)
    except (binascii.Error, ValueError, TypeError, AttributeError, RecursionError):
        raise InvalidInput(
            "This page of the list cannot be found. Start again from the first.", field="cursor"
        ) from None
