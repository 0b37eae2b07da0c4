"""Mending what `verify` found, with bytes that prove themselves by their digest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from storage.chunks import HomeId, mend, store_key
from storage.codec import CHUNK_BYTES, decode_frame, digest_of, encode_frame
from storage.errors import BadChunk, BadPack, ChunkNotFound
from storage.gc.barrier import note_garbage, shade
from storage.gc.sweep import delete_claimed
from storage.gc.verify import BROKEN, CONDEMNED, MISSING, NO_ROW, Damage, read_object
from storage.models import Chunk, ChunkState, Collection, ImageVersion
from storage.packs import MAX_PACK_BYTES, decode_pack
from storage.states import batches, charge, lock_home, revive
from storage.stores import get_store
from webvm.accounts.access import require_site_admin
from webvm.accounts.audit import record
from webvm.accounts.models import Tenant, User


def repair(damages: Iterable[Damage], *, acting_user: User | None) -> list[Damage]:
    """Mends what it can, from any other copy in the store; answers what it has mended.

    What remains stays marked, and the next client that has its bytes is asked to upload them. `acting_user`
    None is the command line. Raises `PermissionDenied`, `StoreUnavailable`.
    """
    require_site_admin(acting_user, "repair the storage")
    found = list(damages)
    mended = [damage for damage in found if damage.is_pack]
    for damage in mended:
        _drop_pack(damage)
    todo = [damage for damage in found if not damage.is_pack]
    mended += [damage for damage in todo if _restore_row(damage)]
    for damage, raw in _other_copies([damage for damage in todo if damage.what in {MISSING, BROKEN}]):
        mend(damage.home, damage.digest, encode_frame(raw))
        mended.append(damage)
    if mended:
        digests = [damage.digest.hex() for damage in mended[:1000]]
        record("repair_storage", acting_user=acting_user, count=len(mended), chunks=digests)
    return mended


def _drop_pack(damage: Damage) -> None:
    """A leaf without a pack gets a new one when it is next asked for."""
    now = timezone.now()
    with transaction.atomic():
        lock_home(damage.home)
        Chunk.objects.filter(tenant=damage.home, pack=damage.digest).update(pack=None)
        rows = Chunk.objects.filter(tenant=damage.home, digest=damage.digest)
        row = rows.exclude(state=ChunkState.DELETED).first()
        if row is None:
            return
        if row.state in {ChunkState.PENDING, ChunkState.LIVE}:
            charge(damage.home, used=-row.stored_size, condemned=row.stored_size)
        row.state, row.state_at = ChunkState.DELETED, now
        row.save(update_fields=["state", "state_at"])
    delete_claimed(damage.home, [(row.pk, damage.digest)], now)


def _restore_row(damage: Damage) -> bool:
    """The row of what is alive, when its bytes are there."""
    if damage.what not in {CONDEMNED, NO_ROW}:
        return False
    if revive(damage.home, [damage.digest], ChunkState.LIVE):
        return True
    try:
        frame = get_store().get(store_key(damage.home, damage.digest))
        raw = decode_frame(frame, CHUNK_BYTES if damage.home else MAX_PACK_BYTES)
    except (ChunkNotFound, BadChunk, Tenant.DoesNotExist):
        return False
    if digest_of(raw) != damage.digest:
        return False
    row = Chunk(
        tenant_id=damage.home,
        home_id=damage.home,
        digest=damage.digest,
        raw_size=len(raw),
        stored_size=len(frame),
        node_level=damage.level,
    )
    try:
        with transaction.atomic():
            lock_home(damage.home)
            row.save(force_insert=True)
            charge(damage.home, used=len(frame))
            shade(damage.home, [damage.digest])
            if damage.home is not None:
                # What it names of the public was written down with the row that was lost.
                note_garbage(damage.home)
                last = Chunk.objects.aggregate(last=Max("pk"))["last"]
                Collection.objects.filter(tenant=damage.home).update(unwritten_up_to=last)
    except IntegrityError:
        # It is there as a chunk that no commit has accepted as a node.
        rows = Chunk.objects.filter(tenant=damage.home, digest=damage.digest, state=ChunkState.LIVE)
        return bool(rows.update(node_level=damage.level))
    return True


def _other_copies(damages: list[Damage]) -> Iterator[tuple[Damage, bytes]]:
    """The raw bytes of those that are somewhere else too: in another key space, or in an image's packs."""
    left = dict.fromkeys(damages)
    for batch in batches({damage.digest for damage in damages}):
        places: dict[bytes, set[tuple[HomeId, int]]] = {}
        rows = Chunk.objects.filter(digest__in=batch, is_damaged=False).exclude(state=ChunkState.DELETED)
        for digest, home, raw_size in rows.values_list("digest", "home_id", "raw_size"):
            places.setdefault(bytes(digest), set()).add((home, raw_size))
        for damage in [damage for damage in left if damage.digest in places]:
            for place, raw_size in places[damage.digest]:
                try:
                    raw = read_object(place, damage.digest, raw_size)
                except (ChunkNotFound, BadChunk):
                    continue
                del left[damage]
                yield damage, raw
                break
    if not left:
        return
    for version in ImageVersion.objects.filter(freed_at=None).only("warm_pack", "boot_pack").iterator():
        for pack in (version.warm_pack, version.boot_pack):
            chunks = _chunks_of_pack(bytes.fromhex(pack))
            for damage in [damage for damage in left if damage.digest in chunks]:
                del left[damage]
                yield damage, chunks[damage.digest]
            if not left:
                return


def _chunks_of_pack(digest: bytes) -> dict[bytes, bytes]:
    try:
        return decode_pack(read_object(None, digest, MAX_PACK_BYTES))
    except (ChunkNotFound, BadChunk, BadPack):
        return {}
