"""Collections that a damaged index node stops: what operators are told until it is mended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from storage.models import Collection, PublicCollection


@dataclass(frozen=True)
class Blocked:
    """Of a tenant, or of the public (None). `error` says what to do."""

    home: UUID | None
    name: str
    error: str
    holds_public: bool = False
    """Public chunks are kept too, since it is not known which of them the tenant names."""

    def __str__(self) -> str:
        kept = " Until then public chunks that it may name stay, too." if self.holds_public else ""
        return f"{self.name}: {self.error}{kept}"


def blocked_collections() -> Iterator[Blocked]:
    """Those whose last run could not go on."""
    tenants = Collection.objects.exclude(error="").select_related("tenant").order_by("tenant_id")
    for each in tenants:
        name = f"Tenant {each.tenant} ({each.tenant_id})"
        yield Blocked(each.tenant_id, name, each.error, each.unwritten_up_to is not None)
    for public in PublicCollection.objects.exclude(error=""):
        yield Blocked(None, "The public", public.error)
