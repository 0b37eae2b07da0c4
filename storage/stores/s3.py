"""Chunks as objects of an S3 bucket, through boto3."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from storage.errors import ChunkNotFound, StoreUnavailable
from storage.stores import check_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CACHE_CONTROL = "max-age=31536000, immutable"
_MISSING = {"NoSuchKey", "404", "NotFound"}


class S3Store:
    """See `ChunkStore`. Writes are conditional (`If-None-Match: *`) and carry their SHA-256, which S3 checks.

    Without a key of its own it uses boto3's usual sources of credentials.
    """

    def __init__(
        self,
        bucket: str,
        endpoint_url: str | None = None,
        region: str = "us-east-1",
        access_key: str | None = None,
        secret_key: str | None = None,
    ) -> None:
        self.bucket = bucket
        self.client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=region,
            aws_access_key_id=access_key or None,
            aws_secret_access_key=secret_key or None,
            config=Config(
                signature_version="s3v4",
                connect_timeout=3,
                read_timeout=15,
                retries={"mode": "standard", "total_max_attempts": 4},
                max_pool_connections=32,  # publishing and locate use many threads
                s3={"addressing_style": "path" if endpoint_url else "auto"},
            ),
        )

    def put(self, key: str, stored: bytes) -> None:
        check_key(key)
        checksum = base64.b64encode(hashlib.sha256(stored).digest()).decode()
        with self._errors():
            try:
                self.client.put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=stored,
                    IfNoneMatch="*",
                    ChecksumSHA256=checksum,
                    ContentType="application/octet-stream",
                    ContentEncoding="zstd",
                    CacheControl=CACHE_CONTROL if key.startswith("pub/") else f"private, {CACHE_CONTROL}",
                )
            except ClientError as error:
                # 412: it is there. 409: somebody else is writing the same bytes just now; theirs may still
                # fail.
                status = _status(error)
                if status == 409 and not self.exists(key):
                    raise
                if status not in {409, 412}:
                    raise

    def get(self, key: str) -> bytes:
        with self._errors():
            answer = self.client.get_object(Bucket=self.bucket, Key=check_key(key))
            with answer["Body"] as body:
                stored: bytes = body.read()
        if len(stored) != answer["ContentLength"]:
            raise StoreUnavailable("The object store cut an answer short. Try again in a moment.")
        return stored

    def exists(self, key: str) -> bool:
        try:
            with self._errors():
                self.client.head_object(Bucket=self.bucket, Key=check_key(key))
        except ChunkNotFound:
            return False
        return True

    def delete(self, key: str) -> None:
        with self._errors():
            self.client.delete_object(Bucket=self.bucket, Key=check_key(key))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _MISSING:
                raise ChunkNotFound from None
            raise StoreUnavailable(f"The object store refused: {code or _status(error)}.") from error
        except BotoCoreError as error:
            raise StoreUnavailable(f"The object store cannot be reached: {error}.") from error


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
