"""A client on the real wire: the VM's WebSocket and the HTTP API of a running server."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
from django.conf import settings
from django.test import Client
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from storage.codec import BLOCK, decode_verified
from storage.index import FANOUT, LEAF_BLOCKS, Leaf, decode_node, node_span
from storage.signing import signed_member
from storage.stores import get_store
from tests.support.machines import Closed, Device, Machine, Socket

Contents = dict[int, bytes]
"""The blocks of a device that are not zeros, by their numbers."""


class WireSocket(Socket):
    """`Socket`, to a server at `url`. A server that is gone is `Closed` with code 1006."""

    def __init__(self, url: str, vm_id: object, token: str) -> None:
        self.address = url.replace("http", "ws", 1) + f"/ws/vms/{vm_id}/"
        self.headers = {"Authorization": f"Bearer {token}"}
        self.connection: ClientConnection | None = None
        self.events = []
        self.accepted = False
        self.epoch = -1
        self._id = 0

    async def __aenter__(self) -> WireSocket:
        self.connection = await connect(
            self.address,
            additional_headers=self.headers,
            compression=None,
            proxy=None,
            max_size=None,
            open_timeout=60,
            ping_interval=None,
        )
        self.accepted = True
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.connection is not None:
            await self.connection.close()

    async def next(self, seconds: float = 60) -> dict[str, Any]:
        assert self.connection is not None
        try:
            message: dict[str, Any] = json.loads(await self.connection.recv())
        except ConnectionClosed as closed:
            raise closed_by(closed) from None
        return message

    async def send_text(self, text: str) -> None:
        await self._send(text)

    async def send_bytes(self, data: bytes) -> None:
        await self._send(data)

    async def _send(self, data: str | bytes) -> None:
        assert self.connection is not None
        try:
            await self.connection.send(data)
        except ConnectionClosed as closed:
            raise closed_by(closed) from None


def closed_by(closed: ConnectionClosed) -> Closed:
    return Closed(closed.rcvd.code if closed.rcvd else 1006)


class Reader:
    """Reads a VM's snapshots as a browser does: descriptor, locate, chunks; everything verified."""

    def __init__(
        self, url: str, vm_id: object, token: str, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.vm_id = vm_id
        self.client = httpx.Client(
            base_url=url,
            transport=transport,
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            trust_env=False,
            verify=False,  # noqa: S501 - plain HTTP on loopback: loading certificates takes longer than a read
        )

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status().json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self.client.post(path, json=body).raise_for_status().json()

    def chunk(self, url: str) -> bytes:
        """The stored bytes of a chunk."""
        with self.client.stream("GET", url, headers={"Accept-Encoding": "zstd"}) as answer:
            answer.raise_for_status()
            return b"".join(answer.iter_raw())

    def snapshots(self) -> list[dict[str, Any]]:
        """The VM's history, newest first."""
        items: list[dict[str, Any]] = self.get(f"/api/v1/vms/{self.vm_id}/snapshots")["items"]
        return items

    def head(self) -> str | None:
        found: str | None = self.get(f"/api/v1/vms/{self.vm_id}")["head"]
        return found

    def read(self, snapshot: str | None) -> tuple[Contents, Contents]:
        """The disk and the memory."""
        query = f"?snapshot={snapshot}" if snapshot else ""
        opened = self.get(f"/api/v1/vms/{self.vm_id}/open{query}")
        return self._device(opened, snapshot, "disk"), self._device(opened, snapshot, "memory")

    def holds(self, snapshot: str | None, machine: Machine) -> None:
        """Assert that the snapshot is byte for byte what the machine was."""
        disk, memory = self.read(snapshot)
        assert disk == contents(machine.disk)
        assert memory == contents(machine.memory)

    def _device(self, opened: dict[str, Any], snapshot: str | None, name: str) -> Contents:
        root, blocks = opened[name]["root"], opened[name]["blocks"]
        if not root:
            return {}
        leaves = list(range(-(-blocks // LEAF_BLOCKS)))
        located = self.post(opened["locate_url"], {"snapshot": snapshot, "device": name, "leaves": leaves})
        return _Tree(self, located, opened["chunk_base_url"]).below(root, 0)


class InProcess(httpx.BaseTransport):
    """Requests carried out in this process and thread: within a test's transaction, by the real views."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        if path.startswith(settings.CHUNK_BASE_URL):
            return self._chunk(path.removeprefix(settings.CHUNK_BASE_URL))
        answer = Client().generic(
            request.method,
            path,
            request.read(),
            request.headers.get("content-type", "application/json"),
            headers={"Authorization": request.headers["authorization"]},
        )
        return httpx.Response(answer.status_code, content=answer.content)

    def _chunk(self, address: str) -> httpx.Response:
        """As the chunk application answers: signed, or public."""
        key, _, query = address.partition("?")
        if not key.startswith("pub/") and signed_member(key, query) is None:
            return httpx.Response(403)
        return httpx.Response(200, stream=httpx.ByteStream(get_store().get(key)))


class _Tree:
    """One device's nodes and the addresses of its chunks."""

    def __init__(self, reader: Reader, located: dict[str, Any], base: str) -> None:
        self._reader, self._base = reader, base
        self._nodes = {digest: base64.b64decode(raw) for digest, raw in located["nodes"].items()}
        self._urls: dict[str, str] = located["urls"]
        self._chunks: dict[bytes, bytes] = {}

    def below(self, digest: str, position: int) -> Contents:
        node = decode_node(self._nodes[digest])
        blocks: Contents = {}
        if not isinstance(node, Leaf):
            for child in node.entries:
                blocks |= self.below(node.refs[child.ref].hex(), position * FANOUT + child.slot)
            return blocks
        for entry in node.entries:
            raw = self._chunk(node.refs[entry.ref])
            for number in range(entry.count):
                at = (entry.offset + number) * BLOCK
                blocks[position * node_span(0) + entry.first + number] = raw[at : at + BLOCK]
        return blocks

    def _chunk(self, digest: bytes) -> bytes:
        if digest not in self._chunks:
            url = self._urls.get(digest.hex(), f"{self._base}pub/{digest.hex()}")
            self._chunks[digest] = decode_verified(self._reader.chunk(url), digest)
        return self._chunks[digest]


def contents(device: Device) -> Contents:
    """What the client that made the device knows of it."""
    return {
        number: device.chunks[digest][at * BLOCK : (at + 1) * BLOCK]
        for number, (digest, at) in device.places.items()
    }
