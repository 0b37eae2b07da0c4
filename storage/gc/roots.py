"""Where the collector and the verifier learn which trees are alive, without knowing who holds them.

An app that keeps roots (the sessions' snapshots) registers one `RootSource` when it is ready.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True)
class Root:
    """One device that is alive: `root` is looked up in the rows of `home` (None: the public's)."""

    home: UUID | None
    root: str
    blocks: int
    # Who suffers when it is damaged: ids and names for the operator's eyes.
    tenant: str
    vm: str
    snapshot: str
    device: str


class RootSource(Protocol):
    def roots_in(self, home: UUID, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Root digests found in `home`, as `(cursor, digest)` in the order of the cursors, behind `after`.

        Every root that is there for as long as somebody pages through is answered; those made or gone
        meanwhile may or may not be.
        """

    def uses_version(self, version_id: UUID) -> bool:
        """Whether something is there, or can be brought back, that starts from this image version."""

    def all_roots(self) -> Iterator[Root]:
        """Every device that is alive, a page in memory at a time."""

    def purge(self, now: datetime, limit: int) -> int:
        """Removes for good some of what was deleted and whose time to be brought back is over; how much."""

    def to_purge(self, now: datetime) -> dict[str, int]:
        """What `purge` would remove altogether, by kind, for a dry run."""

    def homes_to_purge(self, now: datetime) -> set[UUID]:
        """In whose rows things to be purged have their roots, for a dry run."""

    def purgeable_roots_in(self, home: UUID, now: datetime) -> set[bytes]:
        """Roots in `home` that only things to be purged hold, for a dry run."""


sources: list[RootSource] = []


def register(source: RootSource) -> None:
    sources.append(source)
