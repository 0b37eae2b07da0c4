"""Tiny machines for the tests: an image of a few blocks, devices that change, and a client of the socket."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.testing import WebsocketCommunicator

from sessions.actions.commits import Save, commit_snapshot
from sessions.actions.leases import release_lease, take_lease
from sessions.models import VM, Snapshot
from storage.chunks import find_missing, put_chunk
from storage.codec import BLOCK, encode_frame
from storage.index import Extent, build_index
from storage.models import Image, ImageVersion
from webvm.accounts.actions import create_token
from webvm.accounts.models import Tenant, User

DISK_BLOCKS = 2048
MEMORY_BLOCKS = 1280
# A PNG of one pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)


def digest_of(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def block(text: str) -> bytes:
    """A 4 KiB block that holds `text`."""
    return text.encode().ljust(BLOCK, b".")


@dataclass
class Device:
    """A disk or memory as its client knows it: where each block is, and every chunk and node it made."""

    blocks: int
    places: dict[int, tuple[str, int]] = field(default_factory=dict)
    chunks: dict[str, bytes] = field(default_factory=dict)
    root: str = ""

    def write(self, changes: Mapping[int, bytes]) -> list[str]:
        """Change blocks; the digests of the new tree's new chunks and nodes."""
        numbers = sorted(changes)
        named: list[str] = []
        for at in range(0, len(numbers), 64):
            some = numbers[at : at + 64]
            raw = b"".join(changes[number] for number in some)
            digest = digest_of(raw)
            self.chunks[digest] = raw
            named.append(digest)
            self.places.update({number: (digest, offset) for offset, number in enumerate(some)})
        self.root, nodes = self.index()
        self.chunks.update(nodes)
        return [*named, *nodes]

    def index(self) -> tuple[str, dict[str, bytes]]:
        """The root, and every node by its digest."""
        extents = [
            Extent(number, 1, bytes.fromhex(digest), at)
            for number, (digest, at) in sorted(self.places.items())
        ]
        return build_index(extents, self.blocks)

    def named(self) -> set[str]:
        """The digests of all its nodes and chunks."""
        return {*self.index()[1], *(digest for digest, _ in self.places.values())}

    def copy(self) -> Device:
        return Device(self.blocks, dict(self.places), dict(self.chunks), self.root)


@dataclass
class Machine:
    """The two devices of a VM at a snapshot, as its client has them."""

    disk: Device
    memory: Device

    def write(self, text: str) -> list[str]:
        """Change one block of the disk and one page of the memory; the digests that a save has to bring."""
        return [
            *self.disk.write({7: block(f"disk {text}")}),
            *self.memory.write({11: block(f"memory {text}")}),
        ]

    def copy(self) -> Machine:
        return Machine(self.disk.copy(), self.memory.copy())

    def raw(self, digest: str) -> bytes:
        return self.disk.chunks.get(digest) or self.memory.chunks[digest]


def image_machine(slug: str = "tiny") -> Machine:
    """The devices of the image that `make_image` publishes."""
    machine = Machine(Device(DISK_BLOCKS), Device(MEMORY_BLOCKS))
    machine.disk.write({number: block(f"{slug} disk {number}") for number in (0, 1, 2, 7, 1500)})
    machine.memory.write({number: block(f"{slug} memory {number}") for number in (0, 5, 11, 1030)})
    return machine


def make_image(
    slug: str = "tiny", title: str = "Tiny Linux", machine: Machine | None = None, kind: str = "pc"
) -> tuple[ImageVersion, Machine]:
    """A published image whose disk and memory have a few blocks, in the store and in the database. `machine`:
    not the usual content; `kind`: of machine.
    """
    machine = machine or image_machine(slug)
    kernel = b"kernel of " + slug.encode()
    upload(None, [*machine.disk.chunks.values(), *machine.memory.chunks.values(), kernel])
    blob = {"size": len(kernel), "chunks": [digest_of(kernel)]}
    own: dict[str, Any] = {"terminals": 4}
    if kind == "pc":
        blobs = dict.fromkeys(("bios", "vga_bios", "kernel", "initrd"), blob)
        own = {"vga_memory_mib": 2, "cmdline": "console=ttyS0", **blobs}
    image, _ = Image.objects.get_or_create(slug=slug, defaults={"title": title})
    version = ImageVersion.objects.create(
        image=image,
        number=image.versions.count() + 1,
        recipe="# tiny",
        machine={"kind": kind, "memory_mib": 1, **own},
        disk_root=machine.disk.root,
        disk_blocks=DISK_BLOCKS,
        memory_root=machine.memory.root,
        memory_blocks=MEMORY_BLOCKS,
        warm_pack="0" * 64,
        warm_pack_bytes=1,
        boot_pack="1" * 64,
        boot_pack_bytes=1,
    )
    return version, machine


def upload(tenant: Tenant | None, raws: Iterable[bytes]) -> None:
    """Store raw chunks straight through storage's own door."""
    for raw in raws:
        put_chunk(tenant, hashlib.sha256(raw).digest(), encode_frame(raw))


def bring(tenant: Tenant, machine: Machine, digests: Iterable[str]) -> None:
    """Upload what the tenant lacks of `digests`."""
    missing = find_missing(tenant, [bytes.fromhex(digest) for digest in digests])
    upload(tenant, [machine.raw(digest.hex()) for digest in missing])


def save(
    vm: VM, machine: Machine, text: str, user: User, *, extra: Iterable[str] = (), **fields: Any
) -> Snapshot:
    """Change the machine and save it as the head of `vm`, past the socket: through the same actions. `extra`:
    digests that earlier changes have to bring.
    """
    digests = [*extra, *machine.write(text)]
    lease = take_lease(vm.pk, uuid.uuid4(), take_over=True, acting_user=user)
    bring(vm.tenant, machine, digests)
    wanted = {
        "epoch": lease.epoch,
        "expected_head": lease.head,
        "disk_root": machine.disk.root,
        "memory_root": machine.memory.root,
        "idempotency_key": uuid.uuid4(),
        "message": text,
        "thumbnail": base64.b64encode(PNG).decode(),
    }
    try:
        return commit_snapshot(vm.pk, Save(**(wanted | fields)), acting_user=user)
    finally:
        release_lease(vm.pk, lease.epoch, acting_user=user)


def make_user(email: str = "", **extra: Any) -> User:
    """A user with a personal tenant and the password `password`."""
    return User.objects.create_user(email or f"{uuid.uuid4().hex}@example.org", "password", **extra)


def make_token(user: User) -> str:
    """An API token's secret."""
    return create_token(name="tests", acting_user=user)[1]


def frame(raw: bytes, digest: str | None = None) -> bytes:
    """The binary frame that uploads `raw`."""
    return b"\x01" + bytes.fromhex(digest or digest_of(raw)) + encode_frame(raw)


class Refused(Exception):
    """The server answered `ok: false`."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.code: str = error["code"]
        self.error = error
        super().__init__(f"{self.code}: {error['message']}")


class Closed(Exception):
    """The server closed the socket."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(str(code))


class Communicator(WebsocketCommunicator):
    """Channels' own keeps the threads' database connections open, which a real server does not."""

    async def send_input(self, message: Any) -> None:
        await ApplicationCommunicator.send_input(self, message)  # type: ignore[no-untyped-call]

    async def receive_output(self, timeout: float = 1) -> Any:  # noqa: ASYNC109 - its signature
        return await ApplicationCommunicator.receive_output(self, timeout)  # type: ignore[no-untyped-call]


class Socket:
    """A client of the VM's WebSocket. `async with Socket(vm.pk, token=…)`."""

    def __init__(
        self, vm_id: object, *, token: str | None = None, cookie: str | None = None, origin: str | None = None
    ) -> None:
        from webvm.asgi import application

        headers = [(b"host", b"testserver")]
        if token is not None:
            headers.append((b"authorization", f"Bearer {token}".encode()))
        if cookie is not None:
            headers.append((b"cookie", f"sessionid={cookie}".encode()))
            origin = origin or "http://testserver"
        if origin is not None:
            headers.append((b"origin", origin.encode()))
        self.communicator = Communicator(application, f"/ws/vms/{vm_id}/", headers)
        self.events: list[dict[str, Any]] = []
        self.accepted = False
        self.epoch = -1
        self._id = 0

    async def __aenter__(self) -> Socket:
        self.accepted, _ = await self.communicator.connect(timeout=10)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.communicator.disconnect(timeout=10)

    async def next(self, seconds: float = 10) -> dict[str, Any]:
        """The next message; a binary one as `{"type": "frame", "data": bytes}`. Raises `Closed`."""
        output = await self.communicator.receive_output(seconds)
        if output["type"] == "websocket.close":
            raise Closed(output.get("code", 1000))
        if output.get("bytes") is not None:
            return {"type": "frame", "data": output["bytes"]}
        message: dict[str, Any] = json.loads(output["text"])
        return message

    async def closed(self, seconds: float = 10) -> int:
        """Wait for the close, passing over messages; its code."""
        try:
            while True:
                self.events.append(await self.next(seconds))
        except Closed as closed:
            return closed.code

    async def until(self, type: str, seconds: float = 10) -> dict[str, Any]:
        """The next message of a type, heard before or coming now. Raises `Closed`."""
        while not any(event.get("type") == type for event in self.events):
            self.events.append(await self.next(seconds))
        found = next(event for event in self.events if event.get("type") == type)
        self.events.remove(found)
        return found

    async def send_text(self, text: str) -> None:
        await self.communicator.send_input({"type": "websocket.receive", "text": text})

    async def send_bytes(self, data: bytes) -> None:
        await self.communicator.send_input({"type": "websocket.receive", "bytes": data})

    async def request(self, type: str, **fields: Any) -> dict[str, Any]:
        """One request and its answer. Raises `Refused`, `Closed`."""
        self._id += 1
        await self.send_text(json.dumps({"id": self._id, "type": type, **fields}))
        while True:
            message = await self.next()
            if message.get("id") != self._id:
                self.events.append(message)
                continue
            if not message["ok"]:
                raise Refused(message["error"])
            return message

    async def lease(self, session: uuid.UUID | None = None, *, take_over: bool = False) -> dict[str, Any]:
        answer = await self.request("lease", session=str(session or uuid.uuid4()), take_over=take_over)
        self.epoch = answer["epoch"]
        return answer

    async def upload(self, raw: bytes, digest: str | None = None) -> dict[str, Any]:
        """Send a chunk; its `stored` or `refused`."""
        await self.send_bytes(frame(raw, digest))
        while True:
            message = await self.next()
            if message.get("type") in {"stored", "refused"}:
                return message
            self.events.append(message)

    async def negotiate(self, machine: Machine, digests: Iterable[str]) -> list[str]:
        chunks = [[digest, len(machine.raw(digest))] for digest in digests]
        answer = await self.request("negotiate", epoch=self.epoch, chunks=chunks)
        missing: list[str] = answer["missing"]
        return missing

    async def commit(self, machine: Machine, head: str | None, **fields: Any) -> dict[str, Any]:
        """Commit without uploading; the snapshot."""
        message = {
            "epoch": self.epoch,
            "expected_head": head,
            "disk_root": machine.disk.root,
            "memory_root": machine.memory.root,
            "message": "",
            "thumbnail": None,
            "idempotency_key": str(uuid.uuid4()),
            "reused_bytes": 0,
        }
        answer = await self.request("commit", **{**message, **fields})
        snapshot: dict[str, Any] = answer["snapshot"]
        return snapshot

    async def save(self, machine: Machine, text: str, head: str | None, **fields: Any) -> dict[str, Any]:
        """Change the machine, upload what is missing, commit; the snapshot."""
        for digest in await self.negotiate(machine, machine.write(text)):
            outcome = await self.upload(machine.raw(digest))
            assert outcome["type"] == "stored", outcome
        return await self.commit(machine, head, **({"message": text} | fields))


def reload(vm: VM) -> VM:
    return VM.objects.select_related("head").get(pk=vm.pk)


areload = sync_to_async(reload)
