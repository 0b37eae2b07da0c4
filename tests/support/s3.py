"""A real S3 server (`ministack`) on loopback."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from types import TracebackType

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
