"""Real nginx with deploy/nginx.conf in front of a service, and a server that counts what reaches it."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn

from tests.support.servers import free_port, wait_for_port
from webvm.up.processes import end_group, start_on_leash

CONF = Path(__file__).resolve().parents[2] / "deploy" / "nginx.conf"
SIGNING_KEY = "a-key-that-service-and-cdn-share-0123456789"
PLACES = ("/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/local/bin/nginx", "/opt/homebrew/bin/nginx")


def ensure_nginx() -> str:
    """nginx's path; an AssertionError that says what to install."""
    given = os.environ.get("WEBVM_NGINX")
    found = shutil.which(given or "nginx") or next((path for path in PLACES if Path(path).is_file()), None)
    if found is None and hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        # RUNLEVEL keeps the package from starting a server of its own.
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "nginx-light"]):
            subprocess.run(["apt-get", *command], env=environ, check=False, timeout=600, capture_output=True)
        found = shutil.which("nginx") or next((path for path in PLACES if Path(path).is_file()), None)
    assert found, (
        "These tests need nginx (1.18 or later, with http_secure_link_module): "
        "run `apt-get install nginx-light` as root, or name the program in WEBVM_NGINX."
    )
    return found


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that nobody but the test trusts, and its key."""
    certificate, key = folder / "cdn.crt", folder / "cdn.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"]
    subprocess.run(
        [*command, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    return certificate, key


class Cdn:
    """Context manager: nginx on a free port, with an empty cache, that asks the service on `origin_port`."""

    def __init__(self, folder: Path, origin_port: int, *, tls: bool = False, http2: bool = True) -> None:
        self.folder = folder / "cdn"
        self.port = free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.chunk_base_url = f"{self.url}/chunks/"
        self.origin_port = origin_port
        self._tls, self._http2 = tls, http2
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Cdn:
        self.folder.mkdir(parents=True)
        listen, certificates = f"127.0.0.1:{self.port}", ""
        if self._tls:
            certificate, key = make_certificate(self.folder)
            listen += " ssl http2" if self._http2 else " ssl"
            certificates = f"ssl_certificate {certificate}; ssl_certificate_key {key};"
        text = CONF.read_text(encoding="utf-8")
        values = {
            "WEBVM_CDN_LISTEN": listen,
            "WEBVM_CDN_TLS": certificates,
            "WEBVM_CDN_ORIGIN": f"127.0.0.1:{self.origin_port}",
            "WEBVM_CDN_FOLDER": str(self.folder),
            "WEBVM_CDN_SIZE": "1g",
            "WEBVM_CHUNK_SIGNING_KEY": SIGNING_KEY,
        }
        for name, value in values.items():
            text = text.replace("${" + name + "}", value)
        conf, log = self.folder / "nginx.conf", self.folder / "error.log"
        # As root nginx would run its workers as another user, who may not enter pytest's folders.
        user = "user root;\n" if os.geteuid() == 0 else ""
        conf.write_text(user + text, encoding="utf-8")
        command = [ensure_nginx(), "-p", str(self.folder), "-c", str(conf), "-g", "daemon off;"]
        with log.open("wb") as output:
            self._process = start_on_leash(command, cwd=self.folder, environ=os.environ, output=output)
        wait_for_port(self.port, self._process, log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            end_group(self._process, 5.0)

    @property
    def trust(self) -> ssl.SSLContext:
        """A context that takes the certificate of this server and no other."""
        return ssl.create_default_context(cafile=str(self.folder / "cdn.crt"))

    def requests(self) -> list[tuple[str, str, int, str]]:
        """Method, path, status and what the cache knew (`HIT`, `MISS`, …, `-`) of every request so far."""
        lines = [line.split() for line in (self.folder / "access.log").read_text().splitlines()]
        return [(line[1], line[2], int(line[3]), line[5]) for line in lines]

    def delivered(self) -> set[str]:
        """The paths that somebody was sent. Who is gone before the answer leaves nothing in the cache."""
        lines = [line.split() for line in (self.folder / "access.log").read_text().splitlines()]
        return {line[2] for line in lines if int(line[4]) > 0}


Application = Callable[..., Awaitable[None]]


class CountingServer:
    """Context manager: an ASGI application on a real port, and every request that reached it."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.paths: list[str] = []
        config = uvicorn.Config(
            self._count,
            host="127.0.0.1",
            port=self.port,
            log_level="error",
            lifespan="off",
            interface="asgi3",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    async def _count(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.paths.append(scope["path"])
        await self._application(scope, receive, send)

    def __enter__(self) -> CountingServer:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            self._thread.join(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    @property
    def chunk_requests(self) -> list[str]:
        return [path for path in self.paths if path.startswith("/chunks/")]
