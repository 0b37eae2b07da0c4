"""Chunks as objects of an S3 bucket, through boto3."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from storage.errors import BadChunk, ChunkNotFound, StoreUnavailable
from storage.stores import KEY, SignedUpload, StoredObject, check_key, check_space, check_upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CACHE_CONTROL = "max-age=31536000, immutable"
CONTENT_TYPE = "application/octet-stream"
_MISSING = {"NoSuchKey", "404", "NotFound"}
# What reading a body that breaks off, or stops coming, raises.
_BROKEN_OFF = (IncompleteReadError, ResponseStreamingError, ReadTimeoutError)
READ_ATTEMPTS = 3


@lru_cache(maxsize=8)
def _client(
    endpoint_url: str | None, region: str, access_key: str | None, secret_key: str | None
) -> S3Client:
    """Clients are safe to share by threads, and take long to make."""
    return boto3.session.Session().client(
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


class S3Store:
    """See `ChunkStore`. Writes are conditional (`If-None-Match: *`) and carry their SHA-256, which S3 checks.

    Without a key of its own it uses boto3's usual sources of credentials. `public_url` is the endpoint as
    browsers reach it, where that is another one. It is an `UploadSpace` too.
    """

    def __init__(
        self,
        bucket: str,
        endpoint_url: str | None = None,
        region: str = "us-east-1",
        access_key: str | None = None,
        secret_key: str | None = None,
        public_url: str | None = None,
    ) -> None:
        self.bucket = bucket
        self.client = _client(endpoint_url, region, access_key, secret_key)
        # Signs what browsers do; it connects to nothing itself.
        self.signer = _client(public_url, region, access_key, secret_key) if public_url else self.client

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
                    ContentType=CONTENT_TYPE,
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
        return self._read(check_key(key))

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

    def list_spaces(self) -> Iterator[str]:
        for prefix in ("pub", "t/"):
            with self._errors():
                pages = self.client.get_paginator("list_objects_v2").paginate(
                    Bucket=self.bucket, Prefix=prefix, Delimiter="/"
                )
                for page in pages:
                    for found in page.get("CommonPrefixes", []):
                        yield found["Prefix"].rstrip("/")

    def list_objects(self, space: str, prefix: str = "") -> Iterator[StoredObject]:
        begin = f"{check_space(space, prefix)}/{prefix}"
        with self._errors():
            for page in self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=begin
            ):
                for found in page.get("Contents", []):
                    if KEY.fullmatch(found["Key"]):
                        yield StoredObject(found["Key"], found["Size"], found["LastModified"])

    def sign_upload(self, name: str, size: int, sha256: bytes, expires_in: int) -> SignedUpload:
        checksum = base64.b64encode(sha256).decode()
        with self._errors():
            url = self.signer.generate_presigned_url(
                "put_object",
                Params={
                    "Bucket": self.bucket,
                    "Key": check_upload(name),
                    "ContentLength": size,
                    "ContentType": CONTENT_TYPE,
                    "ChecksumSHA256": checksum,
                    "IfNoneMatch": "*",
                },
                ExpiresIn=expires_in,
            )
        # The length is signed as well; a browser sets it by itself.
        headers = {"Content-Type": CONTENT_TYPE, "x-amz-checksum-sha256": checksum, "If-None-Match": "*"}
        return SignedUpload(url, headers)

    def read_upload(self, name: str, limit: int) -> bytes:
        return self._read(check_upload(name), limit)

    def delete_upload(self, name: str) -> None:
        with self._errors():
            self.client.delete_object(Bucket=self.bucket, Key=check_upload(name))

    @lru_cache(maxsize=1)  # noqa: B019 - stores are few and live as long as the process
    def upload_origin(self) -> str:
        url = self.signer.generate_presigned_url("get_object", Params={"Bucket": self.bucket, "Key": "x"})
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}"

    def prepare_bucket(self, origins: list[str]) -> None:
        """Lets pages of these origins put frames, and has what was abandoned removed.

        Replaces the bucket's CORS and lifecycle rules.
        """
        with self._errors():
            self.client.put_bucket_cors(
                Bucket=self.bucket,
                CORSConfiguration={
                    "CORSRules": [
                        {
                            "AllowedOrigins": origins,
                            "AllowedMethods": ["PUT"],
                            "AllowedHeaders": ["content-type", "if-none-match", "x-amz-checksum-sha256"],
                            "MaxAgeSeconds": 3600,
                        }
                    ]
                },
            )
            self.client.put_bucket_lifecycle_configuration(
                Bucket=self.bucket,
                LifecycleConfiguration={
                    "Rules": [
                        {
                            "ID": "abandoned uploads",
                            "Filter": {"Prefix": "up/"},
                            "Status": "Enabled",
                            "Expiration": {"Days": 1},
                        }
                    ]
                },
            )

    def _read(self, name: str, limit: int | None = None) -> bytes:
        """The whole object. boto3 tries again until the answer begins, we when it breaks off."""
        for attempt in range(READ_ATTEMPTS):
            with self._errors():
                answer = self.client.get_object(Bucket=self.bucket, Key=name)
                body = answer["Body"]
                try:
                    if limit is not None and answer["ContentLength"] > limit:
                        raise BadChunk("The upload is larger than a chunk can be.")
                    return body.read()
                except _BROKEN_OFF:
                    if attempt == READ_ATTEMPTS - 1:
                        raise
                finally:
                    body.close()
        raise AssertionError("not reached")

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
