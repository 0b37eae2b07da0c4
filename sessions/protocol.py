"""The client's messages of docs/design/protocol.md: parsed, checked, and carried out by actions.

Everything here is synchronous and runs in a thread; the socket around it is in consumers.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from django.utils import timezone
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sessions.actions import commits, leases, uploads
from sessions.schemas import SnapshotOut
from storage.chunks import put_chunk
from storage.codec import MAX_FRAME_BYTES
from storage.stores import find_upload_space
from storage.uploads import MAX_OFFERED, Offer
from webvm.accounts.models import Tenant, User

MAX_TEXT = 1 << 20
MAX_BINARY = 288 << 10
MAX_CREDIT = 16
MAX_CHUNK = 256 << 10
MAX_NEGOTIATED = 4096
CHUNK_FRAME = 1
HEADER = 33  # u8 type, 32-byte digest
SCREEN_TYPE = b"\x02"
SCREEN_HEADER = 6
MAX_SCREEN = 64 << 10

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Root = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
Epoch = Annotated[int, Field(ge=0, lt=1 << 63)]
Id = Annotated[UUID, Field(strict=False)]
FrameSize = Annotated[int, Field(ge=1, le=MAX_FRAME_BYTES)]
Frames = Annotated[
    list[Annotated[tuple[Digest, FrameSize, Digest], Field(strict=False)]], Field(max_length=MAX_OFFERED)
]


class BadFrame(Exception):
    """A frame breaks a limit or the grammar: the socket is closed with 4400."""


class Message(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)
    id: int = Field(ge=0, lt=1 << 53)


class TakeLease(Message):
    type: Literal["lease"]
    session: Id
    take_over: bool


class Renew(Message):
    type: Literal["renew"]
    epoch: Epoch


class Release(Message):
    type: Literal["release"]
    epoch: Epoch


class Ask(Message):
    type: Literal["ask"]
    session: Id


class Yield(Message):
    type: Literal["yield"]
    epoch: Epoch


class Watch(Message):
    """Send me what the holder's terminal shows; `fresh`: from a whole screen on."""

    type: Literal["watch"]
    on: bool
    fresh: bool


class Seen(Message):
    """So many bytes of what was relayed have arrived."""

    type: Literal["seen"]
    count: int = Field(ge=0, lt=1 << 32)


class Negotiate(Message):
    type: Literal["negotiate"]
    epoch: Epoch
    chunks: list[Annotated[list[Digest | int], Field(min_length=2, max_length=2)]] = Field(
        max_length=MAX_NEGOTIATED
    )


class Place(Message):
    """Where to put frames that go past the socket: digest, the frame's length, its SHA-256."""

    type: Literal["place"]
    epoch: Epoch
    frames: Frames


class Uploaded(Message):
    """They have been put there."""

    type: Literal["uploaded"]
    epoch: Epoch
    frames: Frames


class Commit(Message):
    type: Literal["commit"]
    epoch: Epoch
    expected_head: Id | None
    disk_root: Root
    memory_root: Root
    message: str
    thumbnail: str | None
    idempotency_key: Id
    reused_bytes: int = Field(ge=0, lt=1 << 63)
    kind: Literal["save", "auto"] = "save"


Request = TakeLease | Renew | Release | Ask | Yield | Negotiate | Place | Uploaded | Commit
"""What actions carry out; `Watch` and `Seen` concern the socket alone."""
AnyMessage = Annotated[Request | Watch | Seen, Field(discriminator="type")]
_PARSER: TypeAdapter[Request | Watch | Seen] = TypeAdapter(AnyMessage)


def parse_text(text: str) -> Request | Watch | Seen:
    """Raises `BadFrame`."""
    if len(text) > MAX_TEXT or len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT:
        raise BadFrame("text frame too large")
    try:
        return _PARSER.validate_python(json.loads(text))
    except (ValueError, RecursionError, ValidationError) as error:
        raise BadFrame("not a message of the protocol") from error


@dataclass(frozen=True)
class ChunkFrame:
    digest: bytes
    frame: bytes


@dataclass(frozen=True)
class ScreenFrame:
    """What the holder's terminal shows, relayed as it is: `u8 2, u32 seq, u8 whole` and bytes that only the
    watching clients read.
    """

    data: bytes


def parse_binary(data: bytes) -> ChunkFrame | ScreenFrame:
    """Raises `BadFrame`."""
    if data[:1] == SCREEN_TYPE:
        if not SCREEN_HEADER <= len(data) <= MAX_SCREEN:
            raise BadFrame("not a screen frame")
        return ScreenFrame(bytes(data))
    if len(data) > MAX_BINARY or len(data) <= HEADER or data[0] != CHUNK_FRAME:
        raise BadFrame("not a chunk frame")
    return ChunkFrame(bytes(data[1:HEADER]), bytes(data[HEADER:]))


def negotiated_digests(message: Negotiate) -> list[bytes]:
    """The digests, each with a size a chunk can have. Raises `BadFrame`."""
    digests = []
    for digest, size in message.chunks:
        if not isinstance(digest, str) or not isinstance(size, int) or not 1 <= size <= MAX_CHUNK:
            raise BadFrame("not a digest and a size")
        digests.append(bytes.fromhex(digest))
    return digests


def offers_of(message: Place | Uploaded) -> list[Offer]:
    return [Offer(bytes.fromhex(digest), size, bytes.fromhex(sha)) for digest, size, sha in message.frames]


def answer(message: Request, vm_id: UUID, user: User, fresh_bytes: int) -> dict[str, Any]:
    """Carry out a message; the answer's fields. Raises `BadFrame`, `WebVMError`."""
    match message:
        case TakeLease():
            lease = leases.take_lease(vm_id, message.session, take_over=message.take_over, acting_user=user)
            head = str(lease.head) if lease.head else None
            return {"epoch": lease.epoch, "expires_in": lease.expires_in, "head": head, "credit": MAX_CREDIT}
        case Renew():
            return {"expires_in": leases.renew_lease(vm_id, message.epoch, acting_user=user)}
        case Release():
            leases.release_lease(vm_id, message.epoch, acting_user=user)
            return {}
        case Ask():
            return {"state": leases.ask_lease(vm_id, message.session, acting_user=user).state}
        case Yield():
            leases.yield_lease(vm_id, message.epoch, acting_user=user)
            return {}
        case Negotiate():
            digests = negotiated_digests(message)
            missing = commits.negotiate_chunks(vm_id, message.epoch, digests, acting_user=user)
            direct = bool(missing) and find_upload_space() is not None
            return {"missing": [digest.hex() for digest in missing], "direct": direct}
        case Place():
            places = uploads.place_chunks(vm_id, message.epoch, offers_of(message), acting_user=user)
            return {"put": {digest.hex(): place._asdict() for digest, place in places.items()}}
        case Uploaded():
            taken = uploads.take_chunks(vm_id, message.epoch, offers_of(message), acting_user=user)
            return {
                "stored": [digest.hex() for digest in taken.stored],
                "refused": {digest.hex(): error.as_json() for digest, error in taken.refused.items()},
                "fresh_bytes": taken.fresh_bytes,
            }
        case Commit():
            save = commits.Save(
                epoch=message.epoch,
                expected_head=message.expected_head,
                disk_root=message.disk_root,
                memory_root=message.memory_root,
                idempotency_key=message.idempotency_key,
                message=message.message,
                thumbnail=message.thumbnail,
                reused_bytes=message.reused_bytes,
                fresh_bytes=fresh_bytes,
                is_auto=message.kind == "auto",
            )
            snapshot = commits.commit_snapshot(vm_id, save, acting_user=user)
            return {"snapshot": SnapshotOut.of(snapshot).model_dump(mode="json")}


def store(tenant: Tenant, chunk: ChunkFrame) -> int:
    """Keep an uploaded chunk; the stored bytes it added. Raises `BadChunk`, `QuotaExceeded`,
    `StoreUnavailable`.
    """
    started = timezone.now()
    row = put_chunk(tenant, chunk.digest, chunk.frame)
    return row.stored_size if row.tenant_id == tenant.pk and row.created_at >= started else 0
