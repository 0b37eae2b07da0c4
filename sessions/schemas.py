"""The JSON of this app's things (docs/design/api.md), and how rows become it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.conf import settings
from django.urls import reverse
from ninja import Field, Schema

from sessions.actions.leases import held_by
from sessions.actions.links import is_used_up
from sessions.models import VM, ShareLink, Snapshot, SnapshotKind


class ImageRef(Schema):
    slug: str
    title: str
    version: int


class LeaseOut(Schema):
    """Where the VM is open at this moment."""

    holder: str
    since: datetime


class VMOut(Schema):
    id: UUID
    name: str
    tenant: UUID
    image: ImageRef
    head: UUID | None = Field(description="The snapshot it opens with; null: as its image was published")
    thumbnail_url: str | None
    stored_bytes: int = Field(description="What all its saves added to the tenant's storage")
    created_at: datetime
    last_used_at: datetime
    deleted_at: datetime | None
    open_in: LeaseOut | None = Field(description="Who has it open, if anybody has")
    autosave_seconds: int = Field(description="How often it saves by itself while it runs; 0: never")

    @staticmethod
    def of(vm: VM) -> VMOut:
        """`tenant`, `head`, `image_version__image` and `lease_user` should be loaded, `head__thumbnail` need
        not.
        """
        holder = held_by(vm)
        return VMOut(
            id=vm.pk,
            name=vm.name,
            tenant=vm.tenant_id,
            image=ImageRef(
                slug=vm.image_version.image.slug,
                title=vm.image_version.image.title,
                version=vm.image_version.number,
            ),
            head=vm.head_id,
            thumbnail_url=thumbnail_url(vm.head),
            stored_bytes=vm.stored_bytes,
            created_at=vm.created_at,
            last_used_at=vm.last_used_at,
            deleted_at=vm.deleted_at,
            open_in=LeaseOut(holder=str(holder), since=vm.lease_since) if holder and vm.lease_since else None,
            autosave_seconds=vm.autosave_seconds,
        )


Kind = Literal["save", "auto", "fork", "import"]
KINDS: dict[str, Kind] = {
    SnapshotKind.SAVE: "save",
    SnapshotKind.AUTO: "auto",
    SnapshotKind.FORK: "fork",
    SnapshotKind.IMPORT: "import",
}


class SnapshotOut(Schema):
    id: UUID
    vm: UUID
    parent: UUID | None = Field(description="The snapshot of the same VM that it was saved on top of")
    kind: Kind = Field(description="`auto`: nobody asked for it, and the next save replaces it")
    name: str
    message: str
    author: str | None
    created_at: datetime
    stored_bytes: int = Field(description="What this save added to the tenant's storage")
    thumbnail_url: str | None

    @staticmethod
    def of(snapshot: Snapshot) -> SnapshotOut:
        """`author` should be loaded. What a fork was made from may be another tenant's, and is not told."""
        is_fork = snapshot.kind == SnapshotKind.FORK
        return SnapshotOut(
            id=snapshot.pk,
            vm=snapshot.vm_id,
            parent=None if is_fork else snapshot.parent_id,
            kind=KINDS[snapshot.kind],
            name=snapshot.name,
            message=snapshot.message,
            author=str(snapshot.author) if snapshot.author else None,
            created_at=snapshot.created_at,
            stored_bytes=snapshot.stored_bytes,
            thumbnail_url=thumbnail_url(snapshot),
        )


LinkState = Literal["active", "expired", "used_up", "revoked"]


class LinkOut(Schema):
    id: UUID
    snapshot: UUID
    mode: Literal["fork"]
    state: LinkState
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None
    max_uses: int | None
    uses: int
    revoked_at: datetime | None

    @staticmethod
    def of(link: ShareLink, now: datetime) -> LinkOut:
        """`created_by` should be loaded."""
        return LinkOut(**_link_fields(link, now))


class NewLinkOut(LinkOut):
    url: str = Field(description="Told only now; only its hash is kept")

    @staticmethod
    def with_url(link: ShareLink, now: datetime, url: str) -> NewLinkOut:
        return NewLinkOut(url=url, **_link_fields(link, now))


def _link_fields(link: ShareLink, now: datetime) -> dict[str, Any]:
    return {
        "id": link.pk,
        "snapshot": link.snapshot_id,
        "mode": link.mode,
        "state": link_state(link, now),
        "created_by": str(link.created_by) if link.created_by else None,
        "created_at": link.created_at,
        "expires_at": link.expires_at,
        "max_uses": link.max_uses,
        "uses": link.uses,
        "revoked_at": link.revoked_at,
    }


def link_state(link: ShareLink, now: datetime) -> LinkState:
    if link.revoked_at is not None:
        return "revoked"
    if link.expires_at is not None and link.expires_at <= now:
        return "expired"
    return "used_up" if is_used_up(link) else "active"


def thumbnail_url(snapshot: Snapshot | None) -> str | None:
    """Where a snapshot's picture is, None when it has none."""
    if snapshot is None or not snapshot.has_thumbnail:
        return None
    return reverse("api:snapshot_thumbnail", args=[snapshot.pk])


class VMPage(Schema):
    items: list[VMOut]
    next: str | None


class SnapshotPage(Schema):
    items: list[SnapshotOut]
    next: str | None


class LinkPage(Schema):
    items: list[LinkOut]
    next: str | None


class PackOut(Schema):
    """A pack that may be fetched ahead (docs/design/formats.md); public and immutable."""

    digest: str
    url: str

    @classmethod
    def of(cls, digest: str) -> PackOut | None:
        return cls(digest=digest, url=f"{settings.CHUNK_BASE_URL}pub/{digest}") if digest else None


class LinkPreview(Schema):
    """What whoever holds a link's secret is told before using it."""

    name: str
    image: str
    message: str
    shared_by: str | None
    saved_at: datetime
    allow_guests: bool
    thumbnail: str | None = Field(description="A data: URL of the picture")
    warm_pack: PackOut | None


class Blob(Schema):
    size: int
    chunks: list[str]


class PcOut(Schema):
    """An emulated PC."""

    kind: Literal["pc"]
    memory_mib: int
    vga_memory_mib: int
    cmdline: str
    bios: Blob
    vga_bios: Blob
    kernel: Blob
    initrd: Blob


class LinuxOut(Schema):
    """Our own engine: Linux programs without a kernel."""

    kind: Literal["linux"]
    memory_mib: int
    terminals: int = Field(description="Consoles: /dev/ttyS0 and so on")


MachineOut = Annotated[PcOut | LinuxOut, Field(discriminator="kind")]


class DeviceOut(Schema):
    root: str
    blocks: int
    public: bool = Field(description="The whole tree is the image's, under `chunk_base_url` + `pub/`")


class OpenVM(Schema):
    id: UUID
    name: str
    tenant: UUID
    autosave_seconds: int


class OpenSnapshot(Schema):
    id: UUID
    message: str
    created_at: datetime


class OpenImage(Schema):
    id: UUID
    title: str
    version: int
    disk_root: str
    memory_root: str
    warm_pack: str
    warm_pack_bytes: int
    boot_pack: str
    boot_pack_bytes: int
    read_trails: list[list[int]]


class OpenDescriptor(Schema):
    """All a client needs to run the machine."""

    vm: OpenVM
    snapshot: OpenSnapshot | None
    machine: MachineOut
    disk: DeviceOut
    memory: DeviceOut | None
    image: OpenImage
    chunk_base_url: str
    chunk_cookies: bool = Field(description="Private chunks are to be fetched with the cookies of `locate`")
    locate_url: str
    socket_url: str


class JournalKey(Schema):
    """For the browser's journal of unsaved work (docs/design/journal.md)."""

    key: str = Field(description="32 bytes, base64; only for this user and this VM")
    owner: str = Field(description="The name under which the browser files this user's journals")


class Located(Schema):
    nodes: dict[str, str] = Field(description="Index nodes by digest, base64 of the raw bytes")
    urls: dict[str, str] = Field(description="A URL for each private chunk that the asked leaves name")
    packs: dict[int, str] = Field(
        description="URLs of packs that have most of a leaf's private chunks, by the leaf's number"
    )
    expires_in: int = Field(description="For how many seconds the URLs are good")


class VMCreate(Schema):
    image: str = Field(description="The image's slug")
    tenant: UUID | None = None
    name: str = ""


class VMPatch(Schema):
    name: str | None = None
    autosave_seconds: int | None = Field(default=None, description="0 (never), or 10 to 3600")


class SnapshotPatch(Schema):
    name: str


class ForkIn(Schema):
    name: str = ""
    tenant: UUID | None = None


class ResumeIn(Schema):
    snapshot: UUID | None = Field(description="null: as the image was published")


class LocateIn(Schema):
    snapshot: UUID | None = None
    device: Literal["disk", "memory"]
    leaves: list[int] = Field(max_length=64)


class LinkIn(Schema):
    mode: Literal["fork"] = "fork"
    expires_in: int | None = Field(default=None, description="Seconds, at most a year; null: until revoked")
    max_uses: int | None = None


class SecretIn(Schema):
    secret: str = Field(max_length=200)


class ExchangeOut(Schema):
    vm: VMOut
