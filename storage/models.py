"""Chunks, images and publish jobs. See docs/design/formats.md for the words."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from storage.jobs import WorkerJob
from webvm.accounts.models import Tenant


class ChunkState(models.TextChoices):
    """See docs/design/storage.md. A row's bytes are in the store in every state but the last."""

    PENDING = "pending", "Pending"  # uploaded, or asked for by a negotiate; no commit names it yet
    LIVE = "live", "Live"
    CONDEMNED = "condemned", "Condemned"  # nothing led to it; a commit or an upload revives it
    DELETED = "deleted", "Being deleted"  # its object is being removed; the row goes after the object


class Chunk(models.Model):
    """That a tenant (or, with `tenant` null, everybody) may name a chunk.

    `home` is the tenant whose key space has the bytes: null for public ones, `tenant` itself for what it
    uploaded, another tenant for a row adopted by a fork. Only rows with `home == tenant` count against the
    quota, and only while they are pending or live.
    """

    # No indexes of their own for the foreign keys: those below begin with them.
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="chunks", db_index=False
    )
    digest = models.BinaryField(max_length=32)
    home = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    raw_size = models.PositiveIntegerField()
    stored_size = models.PositiveIntegerField()
    node_level = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        help_text="Set once a commit (or publishing) has accepted it as an index node of this level",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    state = models.CharField(max_length=9, choices=ChunkState.choices, default=ChunkState.LIVE)
    state_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When it came into its state; pending: when it was last asked for. Null while it is live",
    )
    is_damaged = models.BooleanField(
        default=False,
        help_text="Its object is missing or broken: whoever has the bytes may upload them again",
    )
    # The collector's marks: the number of the tenant's run that last reached the row, and whether what it
    # names has still to be looked at.
    reached = models.PositiveIntegerField(default=0)
    to_walk = models.BooleanField(default=False)
    based_on = models.BinaryField(
        max_length=32,
        null=True,
        blank=True,
        help_text="Of a tenant's node: the public node at its place that it was made from, which stays",
    )
    pack = models.BinaryField(
        max_length=32,
        null=True,
        blank=True,
        help_text="Of a tenant's leaf: the pack of its private chunks, in the same home, which stays with it",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "digest"], name="one_chunk_per_tenant"),
            models.UniqueConstraint(fields=["digest"], condition=Q(tenant=None), name="one_public_chunk"),
        ]
        indexes = [
            models.Index(fields=["home", "digest", "tenant"], name="chunks_by_home"),
            models.Index(fields=["tenant", "node_level", "id"], name="chunks_by_level"),
            models.Index(fields=["tenant", "id"], condition=Q(to_walk=True), name="chunks_to_walk"),
            models.Index(
                fields=["state", "state_at", "id"],
                condition=Q(state_at__isnull=False),
                name="chunks_not_live",
            ),
            models.Index(fields=["id"], condition=Q(is_damaged=True), name="chunks_damaged"),
            models.Index(fields=["based_on"], condition=Q(based_on__isnull=False), name="chunks_based_on"),
            models.Index(fields=["pack"], condition=Q(pack__isnull=False), name="chunks_packed"),
        ]

    def __str__(self) -> str:
        return bytes(self.digest).hex()


class CollectionPhase(models.TextChoices):
    IDLE = "idle", "Idle"
    ROOTS = "roots", "Finding roots"
    WALK = "walk", "Walking"
    CONDEMN = "condemn", "Condemning"


class CollectionRun(models.Model):
    """How far the garbage collection of some chunks is; a run goes on from here after a crash."""

    garbage_since = models.DateTimeField(
        null=True, blank=True, db_index=True, help_text="Since when there may be something to collect"
    )
    run = models.PositiveIntegerField(
        default=0, help_text="The number of the last run, or of the one under way"
    )
    phase = models.CharField(max_length=8, choices=CollectionPhase.choices, default=CollectionPhase.IDLE)
    cursor = models.CharField(max_length=120, blank=True, help_text="Where the phase goes on")
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True, help_text="Why the last run could not go on")

    class Meta:
        abstract = True


class Collection(CollectionRun):
    """The collection of one tenant's chunks."""

    tenant = models.OneToOneField(
        Tenant, on_delete=models.CASCADE, primary_key=True, related_name="collection"
    )
    unwritten_up_to = models.BigIntegerField(
        null=True,
        blank=True,
        help_text="Nodes of the tenant may name public chunks, up to this row, of which that is not written "
        "down; the next run does that",
    )

    class Meta:
        indexes = [
            models.Index(fields=["tenant"], condition=~Q(phase="idle"), name="collections_under_way"),
            models.Index(
                fields=["tenant"], condition=Q(unwritten_up_to__isnull=False), name="collections_unwritten"
            ),
        ]

    def __str__(self) -> str:
        return f"Collection of {self.tenant_id}: {self.phase}"


class PublicCollection(CollectionRun):
    """The collection of the public chunks: one row, with the key 1, once there was something to collect."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    has_borrowed = models.BooleanField(
        default=False, help_text="Whether the last run kept chunks only because tenants still name them"
    )

    def __str__(self) -> str:
        return f"Collection of the public chunks: {self.phase}"


class Image(models.Model):
    """A base machine that site admins publish for everybody."""

    slug = models.SlugField(max_length=63, unique=True)
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    position = models.PositiveSmallIntegerField(
        default=100, help_text="Its place in the catalogue, as its recipe has it: low ones come first"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.title


class ImageVersion(models.Model):
    """One immutable release of an image: disk root, machine settings, warm snapshot, boot trace."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    image = models.ForeignKey(Image, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    recipe = models.TextField(help_text="The recipe (TOML) it was made from")
    machine = models.JSONField(help_text="The open descriptor's `machine` object")
    disk_root = models.CharField(max_length=64)
    disk_blocks = models.PositiveIntegerField()
    memory_root = models.CharField(max_length=64)
    memory_blocks = models.PositiveIntegerField()
    warm_pack = models.CharField(max_length=64)
    warm_pack_bytes = models.PositiveIntegerField(help_text="Stored bytes")
    boot_pack = models.CharField(max_length=64)
    boot_pack_bytes = models.PositiveIntegerField(help_text="Stored bytes")
    boot_trace = models.JSONField(
        default=list, help_text="Disk chunk numbers (256 KiB each) in order of first read at a cold boot"
    )
    read_trails = models.JSONField(
        default=list,
        help_text="For each rehearsed command, the disk chunk numbers that it reads first, in that order",
    )
    facts = models.JSONField(
        default=dict, help_text="Package versions, sizes, times of the publishing steps in seconds"
    )
    is_withdrawn = models.BooleanField(default=False)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    freed_at = models.DateTimeField(
        null=True,
        blank=True,
        db_index=True,
        help_text="Since when it names no data any more: its roots, packs and blobs are empty",
    )
    published_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["image", "number"], name="one_number_per_image")]
        ordering = ["image", "-number"]

    def __str__(self) -> str:
        return f"{self.image} v{self.number}"

    @property
    def disk_bytes(self) -> int:
        """The size of the machine's disk."""
        return self.disk_blocks * 4096


class PublishState(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    SUCCEEDED = "succeeded", "Published"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


LOST = (
    "The worker that ran this job is gone: it was stopped or it crashed. What it had finished is kept; "
    "publish again to go on from there."
)


class PublishJob(WorkerJob):
    """One run of the pipeline that turns a recipe into an image version."""

    recipe = models.TextField()
    slug = models.SlugField(max_length=63)
    state = models.CharField(max_length=10, choices=PublishState.choices, default=PublishState.QUEUED)
    unit = models.CharField(max_length=20, blank=True, help_text="Of `done` and `total`")
    cancel_requested = models.BooleanField(default=False)
    version = models.ForeignKey(
        ImageVersion, on_delete=models.SET_NULL, null=True, blank=True, related_name="jobs"
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    started_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.slug}: {self.state}"

    @property
    def is_lost(self) -> bool:
        """Whether it is marked as running but its worker has fallen silent: to be shown as failed, with
        `LOST`.
        """
        return self.state == PublishState.RUNNING and self.is_silent


class PublishLogLine(models.Model):
    job = models.ForeignKey(PublishJob, on_delete=models.CASCADE, related_name="log_lines")
    seq = models.PositiveIntegerField()
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "seq"], name="one_log_line_per_seq")]
        ordering = ["job", "seq"]

    def __str__(self) -> str:
        return self.text


class StagedUpload(models.Model):
    """A frame that a browser was told to put into the object store by itself, until it is taken.

    It counts against the quota from the moment its URL is signed.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=200, unique=True, help_text="In the store's upload space")
    size = models.PositiveIntegerField()
    placed_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.name
