"""Archives of a tiny machine, right ones and others, and sending them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from asgiref.sync import sync_to_async
from django.conf import LazySettings

from sessions.actions.vms import create_vm
from sessions.archives.export import archive_parts
from sessions.archives.machines import STATE_FORMATS, STATE_HEADER
from sessions.models import VM, ImportJob, Snapshot
from sessions.tasks import import_archive
from storage.codec import BLOCK, CHUNK_BYTES
from storage.models import Chunk
from tests.support.machines import (
    block,
    bring,
    make_image,
    make_token,
    make_user,
    save,
)
from webvm.accounts.models import Tenant

PC_STATE = STATE_FORMATS["pc"]
LINUX_STATE = STATE_FORMATS["linux"]


def state_header(ram_mib: int = 1, vga_mib: int = 2, layout: int = PC_STATE.layouts[0]) -> bytes:
    return STATE_HEADER.pack(PC_STATE.magic, layout, ram_mib << 20, vga_mib << 20).ljust(BLOCK, b"\0")


def linux_state_header(
    memory_mib: int = 1, text_bytes: int = 100, layout: int = LINUX_STATE.layouts[0]
) -> bytes:
    return STATE_HEADER.pack(LINUX_STATE.magic, layout, text_bytes, memory_mib * 256).ljust(BLOCK, b"\0")


class World:
    def __init__(self, spool: Path, kind: str = "pc") -> None:
        self.spool = spool
        self.version, image = make_image(kind=kind)
        self.machine = image.copy()
        self.ada, self.bob = make_user("ada@example.org"), make_user("bob@example.org")
        self.token = make_token(self.bob)
        self.vm = create_vm("tiny", acting_user=self.ada, name="A <b>machine</b>")
        scattered = {number: block(f"changed {number}") for number in range(3, 1400, 70)}
        bring(self.vm.tenant, self.machine, self.machine.disk.write(scattered))
        # The page cache: pages that are blocks of the disk.
        header = state_header() if kind == "pc" else linux_state_header()
        pages = {256: header, 20: block("tiny disk 1500"), 21: scattered[73], 22: block("its own")}
        bring(self.vm.tenant, self.machine, self.machine.memory.write(pages))
        self.snapshot = save(self.vm, self.machine, "one", self.ada)
        self.archive = b"".join(archive_parts(Snapshot.objects.get(pk=self.snapshot.pk)))

    @property
    def tenant(self) -> Tenant:
        return Tenant.objects.get(memberships__user=self.bob)

    def facts(self) -> tuple[Any, ...]:
        """All that a refused import must leave alone."""
        files = sorted(path.name for path in self.spool.glob("*"))
        chunks = Chunk.objects.filter(tenant=self.tenant).count()
        return VM.objects.count(), Snapshot.objects.count(), chunks, self.tenant.used_bytes, files


def make_world(
    settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str = "pc"
) -> World:
    """With a spool folder of its own and a worker that is this process."""
    settings.SPOOL_DIR = tmp_path / "spool"
    monkeypatch.setattr(import_archive, "delay", import_archive)  # in this process, at once
    return World(tmp_path / "spool", kind)


async def post(
    token: str, content: bytes | Any, query: str = "", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    from webvm.asgi import application

    transport = httpx.ASGITransport(application)  # type: ignore[arg-type]
    given = {"Authorization": f"Bearer {token}", **(headers or {})}
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        answer = await client.post(f"/api/v1/vms/import{query}", content=content, headers=given)
    return answer.status_code, answer.json()


@sync_to_async
def job_of(answer: dict[str, Any]) -> ImportJob:
    return ImportJob.objects.get(pk=answer["id"])


Members = list[tuple[tarfile.TarInfo, bytes]]


def members_of(archive: bytes) -> Members:
    raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(archive), read_across_frames=True).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def tar_of(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, raw in members:
            tar.addfile(member, io.BytesIO(raw))
    return out.getvalue()


def pack(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(tar_of(members))


def pieces(raw: bytes) -> str:
    parts = (raw[at : at + CHUNK_BYTES] for at in range(0, len(raw), CHUNK_BYTES))
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def rebuilt(
    members: Members, change: Callable[[dict[str, Any]], object] = dict, *, memory: bytes | None = None
) -> bytes:
    """An archive with another manifest or memory whose digests are right."""
    raws = {member.name: raw for member, raw in members}
    manifest = json.loads(raws["manifest.json"])
    change(manifest)
    raws["manifest.json"] = json.dumps(manifest).encode()
    raws["memory.raw"] = memory or raws["memory.raw"]
    digests = {name: pieces(raws[name]) for name in ("disk.raw", "memory.raw")}
    digests["manifest.json"] = hashlib.sha256(raws["manifest.json"]).hexdigest()
    raws["digests.json"] = json.dumps(digests).encode()
    return pack((info(name, len(raw)), raw) for name, raw in raws.items())


def info(name: str, size: int = 0, type: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, type, link
    return member
