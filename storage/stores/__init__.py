"""Where chunks' bytes live: one interface, a local folder and S3 behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from django.conf import settings

if TYPE_CHECKING:
    from storage.stores.s3 import S3Store

KEY = re.compile(
    r"pub/[0-9a-f]{64}|t/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/[0-9a-f]{64}"
)

UPLOAD = re.compile(r"up/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/[0-9a-f]{64}")


class ChunkStore(Protocol):
    """Objects by key. Every method raises `StoreUnavailable` when the store cannot do what was asked.

    Keys are those of docs/design/formats.md; any other raises `ValueError`. What `put` returned from is
    durable, and a reader never sees a part of an object.
    """

    def put(self, key: str, stored: bytes) -> None:
        """Stores the object. Does nothing when it is already there: keys name their contents."""

    def get(self, key: str) -> bytes:
        """The whole object; raises `ChunkNotFound`."""

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None:
        """Deletes the object if it is there."""

    def list_spaces(self) -> Iterator[str]:
        """The key spaces that may have objects: `pub`, and `t/<tenant>` of each tenant. Only for upkeep."""

    def list_objects(self, space: str, prefix: str = "") -> Iterator[StoredObject]:
        """The objects of a key space whose names begin with `prefix` (hex digits), some in memory at a time.
        One that is put or deleted meanwhile may be listed or not. Only for upkeep."""


class StoredObject(NamedTuple):
    """`size` in stored bytes; `modified_at` is when it was put."""

    key: str
    size: int
    modified_at: datetime


class SignedUpload(NamedTuple):
    """A PUT that a browser may make: exactly these headers, a body of the signed length and digest."""

    url: str
    headers: dict[str, str]


class UploadSpace(Protocol):
    """Where browsers put frames themselves, apart from the chunks: nothing here is read by anybody but us.

    Names are those of `check_upload`. Methods raise `StoreUnavailable` as a `ChunkStore`'s do.
    """

    def sign_upload(self, name: str, size: int, sha256: bytes, expires_in: int) -> SignedUpload:
        """A PUT of `size` bytes with that SHA-256, once, within so many seconds."""

    def read_upload(self, name: str, limit: int) -> bytes:
        """What was put; raises `ChunkNotFound`, and `BadChunk` for more than `limit` bytes."""

    def delete_upload(self, name: str) -> None:
        """Deletes it if it is there."""

    def upload_origin(self) -> str:
        """`scheme://host:port` of the signed PUTs, for the pages' policy."""


def check_upload(name: str) -> str:
    if not UPLOAD.fullmatch(name):
        raise ValueError(f"{name!r} is not an upload's name")
    return name


def find_upload_space() -> UploadSpace | None:
    """Where browsers may put frames; None where all bytes come through the socket."""
    if settings.CHUNK_STORE == "s3" and settings.S3_DIRECT_UPLOADS:
        return _settings_s3_store()
    return None


def check_space(space: str, prefix: str = "") -> str:
    """A key space as `list_spaces` answers it, and the beginning of a name."""
    if not KEY.fullmatch(f"{space}/{prefix}{'0' * (64 - len(prefix))}"):
        raise ValueError(f"{space!r}, {prefix!r} is not a key space and a prefix")
    return space


def check_key(key: str) -> str:
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a chunk key")
    return key


def get_store() -> ChunkStore:
    """The store that the settings name; one object for each set of settings."""
    if settings.CHUNK_STORE == "s3":
        return _settings_s3_store()
    if settings.CHUNK_STORE == "local":
        return _local_store(str(settings.CHUNK_DIR))
    raise ValueError(f"WEBVM_CHUNK_STORE must be local or s3, not {settings.CHUNK_STORE!r}")


@lru_cache(maxsize=8)
def _local_store(folder: str) -> ChunkStore:
    from storage.stores.local import LocalStore

    return LocalStore(folder)


def _settings_s3_store() -> S3Store:
    return _s3_store(
        settings.S3_BUCKET,
        settings.S3_ENDPOINT_URL,
        settings.S3_REGION,
        settings.S3_ACCESS_KEY,
        settings.S3_SECRET_KEY,
        settings.S3_PUBLIC_URL,
    )


@lru_cache(maxsize=8)
def _s3_store(
    bucket: str,
    endpoint_url: str | None,
    region: str,
    access_key: str | None,
    secret_key: str | None,
    public_url: str | None,
) -> S3Store:
    from storage.stores.s3 import S3Store  # boto3 takes a third of a second to import

    return S3Store(bucket, endpoint_url, region, access_key, secret_key, public_url)
