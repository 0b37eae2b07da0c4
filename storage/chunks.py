"""Chunks of tenants and of the public: uploading, asking which are missing, reading, URLs."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet

from storage.codec import MAX_FRAME_BYTES, decode_verified
from storage.errors import BadChunk, BadIndex, ChunkNotFound
from storage.index import decode_node
from storage.models import Chunk
from storage.stores import get_store
from webvm.accounts.models import Tenant
from webvm.errors import QuotaExceeded

# Whose key space a chunk is in; None is the public's.
HomeId = UUID | None

# Database parameters in one query; SQLite and PostgreSQL both take far more.
BATCH = 2000


class Place(NamedTuple):
    """Where a chunk's bytes are and what is known of it."""

    home: HomeId
    raw_size: int
    stored_size: int
    node_level: int | None


class Rows(NamedTuple):
    """What a reader may name, by digest: through its own rows, and the public's."""

    own: dict[bytes, Place]
    public: dict[bytes, Place]

    def get(self, digest: bytes) -> Place | None:
        return self.own.get(digest) or self.public.get(digest)

    def get_node(self, digest: bytes, level: int) -> Place | None:
        """The row that was accepted as a node of this level."""
        for rows in self:
            place = rows.get(digest)
            if place and place.node_level == level:
                return place
        return None


def find_rows(home: HomeId, digests: Iterable[bytes]) -> Rows:
    """The rows of `home` and of the public for these digests: one query for each 2000 of them."""
    rows = Rows({}, {})
    for batch in _batches(sorted(set(digests))):
        reader = Q(tenant=None) if home is None else Q(tenant=None) | Q(tenant=home)
        found = Chunk.objects.filter(reader, digest__in=batch).values_list(
            "tenant_id", "digest", "home_id", "raw_size", "stored_size", "node_level"
        )
        for tenant_id, digest, home_id, raw_size, stored_size, node_level in found:
            place = Place(home_id, raw_size, stored_size, node_level)
            (rows.public if tenant_id is None else rows.own)[bytes(digest)] = place
    return rows


def store_key(home: HomeId, digest: bytes) -> str:
    """The chunk's key in the store."""
    if home is None:
        return f"pub/{digest.hex()}"
    return f"t/{home}/{hmac.digest(_chunk_key(home), digest, 'sha256').hex()}"


def put_chunk(tenant: Tenant | None, digest: bytes, frame: bytes) -> Chunk:
    """Stores a chunk that `tenant` (None: the public, by publishing) uploaded as one zstd frame; idempotent.

    The bytes are stored before the row, so a row always has its bytes. Counts against the quota once.
    Raises `BadChunk`, `QuotaExceeded`, `StoreUnavailable`.
    """
    if len(digest) != 32 or len(frame) > MAX_FRAME_BYTES:
        raise BadChunk("The chunk is larger than 256 KiB or its digest is not 32 bytes.")
    raw = decode_verified(frame, digest)
    # Without an order, which could make the database walk the whole table by it.
    for known in Chunk.objects.filter(Q(tenant=tenant) | Q(tenant=None), digest=digest)[:1]:
        return known
    if tenant and not _has_room(tenant, len(frame)).exists():
        raise QuotaExceeded
    get_store().put(store_key(tenant.pk if tenant else None, digest), frame)
    chunk = Chunk(
        tenant=tenant,
        home=tenant,
        digest=digest,
        raw_size=len(raw),
        stored_size=len(frame),
        node_level=None if tenant else level_of(raw),
    )
    try:
        with transaction.atomic():
            chunk.save(force_insert=True)
            if tenant and not _has_room(tenant, len(frame)).update(used_bytes=F("used_bytes") + len(frame)):
                raise QuotaExceeded
    except IntegrityError:  # another connection of the same tenant was quicker
        return Chunk.objects.get(tenant=tenant, digest=digest)
    return chunk


def find_missing(tenant: Tenant, digests: Iterable[bytes]) -> list[bytes]:
    """Those of `digests` that the tenant would have to upload, in the order given, each once."""
    asked = list(dict.fromkeys(digests))
    rows = find_rows(tenant.pk, asked)
    return [digest for digest in asked if rows.get(digest) is None]


def read_raw(home: HomeId, digest: bytes) -> bytes:
    """The verified raw bytes of a chunk that `home` may name.

    Raises `ChunkNotFound`, `BadChunk` (damaged in the store), `StoreUnavailable`.
    """
    place = find_rows(home, [digest]).get(digest)
    if place is None:
        raise ChunkNotFound
    return decode_verified(get_store().get(store_key(place.home, digest)), digest, max(place.raw_size, 1))


def level_of(raw: bytes) -> int | None:
    """The level of an index node, or None for anything else. Only for what site admins publish."""
    try:
        return decode_node(raw).level
    except BadIndex:
        return None


@lru_cache(maxsize=1024)
def _chunk_key(tenant_id: UUID) -> bytes:
    return bytes(Tenant.objects.values_list("chunk_key", flat=True).get(pk=tenant_id))


def _has_room(tenant: Tenant, size: int) -> QuerySet[Tenant]:
    """The tenant's row, if `size` more bytes fit its quota."""
    return Tenant.objects.filter(pk=tenant.pk, used_bytes__lte=F("quota_bytes") - size)


def _batches(digests: list[bytes]) -> Iterator[list[bytes]]:
    for at in range(0, len(digests), BATCH):
        yield digests[at : at + BATCH]
