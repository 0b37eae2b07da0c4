"""Chunks of tenants and of the public: uploading, asking which are missing, reading, URLs."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone

from storage.codec import MAX_FRAME_BYTES, decode_verified, digest_of, frame_content_size
from storage.errors import BadChunk, BadIndex, ChunkNotFound, StoreUnavailable
from storage.index import decode_node
from storage.models import Chunk, ChunkState
from storage.packs import MAX_PACK_BYTES
from storage.states import (
    batches,
    charge,
    has_room,
    lock_tenants,
    pin,
    quota_exceeded,
    revive,
    take_back_name,
)
from storage.stores import get_store
from webvm.accounts.models import Tenant

# Whose key space a chunk is in; None is the public's.
HomeId = UUID | None


class Place(NamedTuple):
    """Where a chunk's bytes are and what is known of it."""

    home: HomeId
    raw_size: int
    stored_size: int
    node_level: int | None
    state: str = ChunkState.LIVE
    is_damaged: bool = False
    # A node: the public node at its place that it was made from.
    based_on: bytes | None = None
    # A leaf: the pack of its private chunks, in the same home.
    pack: bytes | None = None


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
    """The rows of `home` and of the public for these digests: one query for each 2000 of them.

    A tenant's condemned ones too, since they have their bytes; not those that are being deleted. Of the
    public only what is live: nobody leads to the rest, and nobody new may.
    """
    rows = Rows({}, {})
    for batch in batches(digests):
        reader = Q(tenant=None, state=ChunkState.LIVE)
        if home is not None:
            reader |= Q(tenant=home) & ~Q(state=ChunkState.DELETED)
        found = Chunk.objects.filter(reader, digest__in=batch).values_list(
            *("tenant_id", "digest", "home_id", "raw_size", "stored_size"),
            *("node_level", "state", "is_damaged", "based_on", "pack"),
        )
        for tenant_id, digest, home_id, raw_size, stored_size, level, state, is_damaged, *named in found:
            based_on, pack = (None if other is None else bytes(other) for other in named)
            place = Place(home_id, raw_size, stored_size, level, state, is_damaged, based_on, pack)
            (rows.public if tenant_id is None else rows.own)[bytes(digest)] = place
    return rows


def store_key(home: HomeId, digest: bytes) -> str:
    """The chunk's key in the store."""
    if home is None:
        return f"pub/{digest.hex()}"
    return f"t/{home}/{hmac.digest(_chunk_key(home), digest, 'sha256').hex()}"


def put_chunk(tenant: Tenant | None, digest: bytes, frame: bytes) -> Chunk:
    """Stores a chunk that `tenant` (None: the public, by publishing) uploaded as one zstd frame; idempotent.

    The bytes are stored before the row, so a row always has its bytes. Counts against the quota once. What
    was condemned is revived, what is damaged is mended with these bytes. Raises `BadChunk`, `QuotaExceeded`,
    `StoreUnavailable`.
    """
    if len(digest) != 32 or len(frame) > MAX_FRAME_BYTES:
        raise BadChunk("The chunk is larger than 256 KiB or its digest is not 32 bytes.")
    return _put_verified(tenant, digest, frame, decode_verified(frame, digest))


def put_pack(tenant: Tenant, pack: bytes, frame: bytes) -> Chunk:
    """Stores a raw pack of the tenant's, whose stored form is `frame`, like an upload that waits for what
    names it. Raises `QuotaExceeded`, `StoreUnavailable`."""
    return _put_verified(tenant, digest_of(pack), frame, pack)


def _put_verified(tenant: Tenant | None, digest: bytes, frame: bytes, raw: bytes) -> Chunk:
    while True:
        # Without an order, which could make the database walk the whole table by it.
        found = {
            row.tenant_id: row
            for row in Chunk.objects.filter(Q(tenant=tenant) | Q(tenant=None), digest=digest)
        }
        known = found.get(tenant.pk if tenant else None)
        if tenant and (known is None or known.state == ChunkState.DELETED):
            # What is public and about to go is nobody's to name: the tenant gets its own.
            public = found.get(None)
            known = public if public and public.state == ChunkState.LIVE else known
        if known is None:
            try:
                return _put_new(tenant, digest, frame, raw)
            except IntegrityError:  # another connection of the same tenant was quicker
                continue
        if known.state == ChunkState.DELETED:
            take_back_name(known)
            continue
        if known.state == ChunkState.CONDEMNED:
            revive(known.tenant_id, [digest], ChunkState.PENDING if tenant else ChunkState.LIVE)
            continue  # to see that it was not deleted a moment before
        if known.is_damaged:
            mend(known.home_id, digest, frame)
            known.is_damaged = False
        if known.tenant_id and known.state == ChunkState.PENDING:
            pin(known.tenant_id, [digest])
        return known


def _put_new(tenant: Tenant | None, digest: bytes, frame: bytes, raw: bytes) -> Chunk:
    """Raises `IntegrityError` when the row is there by now."""
    if tenant and not has_room(tenant.pk, len(frame)).exists():
        raise quota_exceeded(tenant.pk)
    _store(store_key(tenant.pk if tenant else None, digest), digest, frame)
    chunk = Chunk(
        tenant=tenant,
        home=tenant,
        digest=digest,
        raw_size=len(raw),
        stored_size=len(frame),
        node_level=None if tenant else level_of(raw),
        state=ChunkState.PENDING if tenant else ChunkState.LIVE,
        state_at=timezone.now() if tenant else None,
    )
    with transaction.atomic():
        chunk.save(force_insert=True)
        if tenant and not has_room(tenant.pk, len(frame)).update(used_bytes=F("used_bytes") + len(frame)):
            raise quota_exceeded(tenant.pk)
    return chunk


def mend(home: HomeId, digest: bytes, frame: bytes) -> None:
    """Puts a frame that was verified by its digest in the place of a missing or broken object."""
    store, key = get_store(), store_key(home, digest)
    store.delete(key)  # a store never replaces what is there
    _store(key, digest, frame)
    with transaction.atomic():
        lock_tenants(home)
        rows = Chunk.objects.filter(home=home, digest=digest)
        own = rows.filter(tenant=home).first()
        if own and home:
            used = own.state in {ChunkState.PENDING, ChunkState.LIVE}
            more = len(frame) - own.stored_size
            charge(home, used=more if used else 0, condemned=0 if used else more)
        rows.update(is_damaged=False, stored_size=len(frame))


def _store(key: str, digest: bytes, frame: bytes) -> None:
    """Put the frame, and see that it is what the store gives from now on: only then may a save rely on it."""
    store = get_store()
    for attempt in range(2):
        store.put(key, frame)
        try:
            kept = store.get(key)
            if kept != frame:  # the same bytes may be there in another frame
                decode_verified(kept, digest, frame_content_size(frame, MAX_PACK_BYTES))
            return
        except (ChunkNotFound, BadChunk):
            if attempt == 0:
                store.delete(key)  # or it would be taken for what is there already
    raise StoreUnavailable("The storage did not keep the data. Nothing was lost; try again in a moment.")


def find_missing(tenant: Tenant, digests: Iterable[bytes]) -> list[bytes]:
    """Those of `digests` that the tenant would have to upload, in the order given, each once.

    The others are pinned: they stay for `states.pin_time` at least, so that a commit can name them. Raises
    `QuotaExceeded` when that would take back more than there is room for.
    """
    asked = list(dict.fromkeys(digests))
    rows = find_rows(tenant.pk, asked)
    condemned = {digest for digest, place in rows.own.items() if place.state == ChunkState.CONDEMNED}
    gone = condemned - revive(tenant.pk, condemned, ChunkState.PENDING) if condemned else set()
    pin(tenant.pk, [digest for digest, place in rows.own.items() if place.state == ChunkState.PENDING])
    missing = []
    for digest in asked:
        place = rows.get(digest)
        if place is None or place.is_damaged or digest in gone:
            missing.append(digest)
    return missing


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
