"""A real S3 server (`ministack`) on loopback, and stores that misbehave on purpose."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from storage.errors import StoreUnavailable
from storage.stores import ChunkStore
from storage.stores.s3 import S3Store
from tests.support.servers import free_port, wait_for_port

ACCESS_KEY, SECRET_KEY = "test", "test"  # the one root key that the server knows


class S3Server:
    """Context manager; `store()` makes a bucket of its own and a store on it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> S3Server:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        log = self._folder / "s3.log"
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "SERVICES": "s3",
            "AUTH": "true",
            "LOG_LEVEL": "WARNING",
            "TMPDIR": str(self._folder),
            "S3_DATA_DIR": str(self._folder / "s3"),
        }
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ministack"], env=environ, stdout=output, stderr=subprocess.STDOUT
            )
        wait_for_port(port, self._process, log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def make_bucket(self) -> str:
        """A new bucket's name."""
        bucket = f"chunks-{secrets.token_hex(6)}"
        self.store(bucket).client.create_bucket(Bucket=bucket)
        return bucket

    def store(self, bucket: str) -> S3Store:
        """A store on the bucket."""
        return S3Store(bucket, self.url, "us-east-1", ACCESS_KEY, SECRET_KEY)


@dataclass
class FaultyStore:
    """A store that does what its fields say and hands the rest to `inner`.

    `delay_s` slows every call; the next `failures` calls raise `StoreUnavailable`; no put works after
    `fail_puts_after` of them; `truncate` and `lie` damage what is read.
    """

    inner: ChunkStore
    delay_s: float = 0.0
    failures: int = 0
    fail_puts_after: int | None = None
    truncate: bool = False
    lie: bool = False
    puts: list[str] = field(default_factory=list)

    def _trouble(self) -> None:
        time.sleep(self.delay_s)
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("The store fails because a test wants it to.")

    def put(self, key: str, stored: bytes) -> None:
        self._trouble()
        if self.fail_puts_after is not None and len(self.puts) >= self.fail_puts_after:
            raise StoreUnavailable("The store is full because a test wants it to be.")
        self.inner.put(key, stored)
        self.puts.append(key)

    def get(self, key: str) -> bytes:
        self._trouble()
        stored = self.inner.get(key)
        if self.truncate:
            return stored[: len(stored) // 2]
        return bytes([stored[0] ^ 1, *stored[1:]]) if self.lie else stored

    def exists(self, key: str) -> bool:
        self._trouble()
        return self.inner.exists(key)

    def delete(self, key: str) -> None:
        self._trouble()
        self.inner.delete(key)
