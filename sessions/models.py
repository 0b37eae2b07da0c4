"""VMs, snapshots, leases and share links."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from storage.jobs import WorkerJob
from storage.models import ImageVersion
from webvm.accounts.models import Tenant


class VM(models.Model):
    """A user's machine: an image version plus a head snapshot (null: the image's own warm snapshot)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="vms")
    name = models.CharField(max_length=120)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="vms"
    )
    image_version = models.ForeignKey(ImageVersion, on_delete=models.PROTECT, related_name="vms")
    head = models.ForeignKey("Snapshot", on_delete=models.RESTRICT, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(default=timezone.now)
    deleted_at = models.DateTimeField(null=True, blank=True)
    stored_bytes = models.BigIntegerField(
        default=0, help_text="What all its saves added to the tenant's storage"
    )
    pending_bytes = models.BigIntegerField(
        default=0, help_text="Uploaded by sockets that closed, not yet in a save"
    )

    # The lease: who may write the head. `epoch` is the fencing token and only ever rises.
    epoch = models.PositiveBigIntegerField(default=0)
    lease_session = models.UUIDField(null=True, blank=True)
    lease_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    lease_since = models.DateTimeField(null=True, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    # Who asked the holder for the lease, and when the holder last said that it is saving for them.
    asked_session = models.UUIDField(null=True, blank=True)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    asked_at = models.DateTimeField(null=True, blank=True)
    yielding_at = models.DateTimeField(null=True, blank=True)

    autosave_seconds = models.PositiveIntegerField(
        default=30, help_text="How often a running machine saves by itself when it has changed; 0: never"
    )

    class Meta:
        verbose_name = "VM"
        indexes = [
            models.Index(fields=["tenant", "deleted_at", "-last_used_at", "id"]),
            models.Index(fields=["deleted_at"], condition=Q(deleted_at__isnull=False), name="vms_deleted"),
        ]

    def __str__(self) -> str:
        return self.name


class SnapshotKind(models.TextChoices):
    SAVE = "save", "Saved"
    AUTO = "auto", "Autosaved"
    FORK = "fork", "Forked"
    IMPORT = "import", "Imported"


class Snapshot(models.Model):
    """An immutable saved state with one parent. `*_home` is where the root is found (null: public)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    vm = models.ForeignKey(VM, on_delete=models.CASCADE, related_name="snapshots")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="snapshots")
    parent = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="children"
    )
    kind = models.CharField(max_length=8, choices=SnapshotKind.choices, default=SnapshotKind.SAVE)
    name = models.CharField(max_length=120, blank=True)
    message = models.CharField(max_length=500, blank=True)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="snapshots"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    disk_root = models.CharField(max_length=64, blank=True)
    disk_home = models.ForeignKey(
        Tenant, on_delete=models.RESTRICT, null=True, blank=True, related_name="+", db_index=False
    )
    memory_root = models.CharField(max_length=64, blank=True)
    memory_home = models.ForeignKey(
        Tenant, on_delete=models.RESTRICT, null=True, blank=True, related_name="+", db_index=False
    )
    stored_bytes = models.BigIntegerField(default=0, help_text="What this save added to the tenant's storage")
    thumbnail = models.BinaryField(
        null=True, blank=True, help_text="PNG or WebP of the screen, at most 64 KiB"
    )
    has_thumbnail = models.BooleanField(default=False, help_text="Known without reading the picture")
    idempotency_key = models.UUIDField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["vm", "idempotency_key"],
                condition=~Q(idempotency_key=None),
                name="one_snapshot_per_key",
            )
        ]
        indexes = [
            models.Index(fields=["vm", "-created_at", "id"]),
            # For the garbage collector: whose bytes a snapshot keeps, and what is to be purged.
            models.Index(fields=["disk_home", "id"], name="snapshots_by_disk_home"),
            models.Index(fields=["memory_home", "id"], name="snapshots_by_memory_home"),
            models.Index(
                fields=["deleted_at"], condition=Q(deleted_at__isnull=False), name="snapshots_deleted"
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def title(self) -> str:
        """What people call it: its name, else the first line of its message."""
        return self.name or self.message.partition("\n")[0] or self.get_kind_display()


class ShareMode(models.TextChoices):
    FORK = "fork", "Get a copy"


class ShareLink(models.Model):
    """A secret URL that is exchanged for a copy; only the secret's SHA-256 is kept."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="share_links")
    snapshot = models.ForeignKey(Snapshot, on_delete=models.CASCADE, related_name="share_links")
    mode = models.CharField(max_length=12, choices=ShareMode.choices, default=ShareMode.FORK)
    secret_hash = models.CharField(max_length=64, unique=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    max_uses = models.PositiveIntegerField(null=True, blank=True)
    uses = models.PositiveIntegerField(default=0)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["snapshot", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.get_mode_display()}: link {self.pk}"


class LinkUse(models.Model):
    """One exchange of a link: who got which VM. The same user exchanging again gets the same VM back."""

    link = models.ForeignKey(ShareLink, on_delete=models.CASCADE, related_name="link_uses")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    vm = models.ForeignKey(VM, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["link", "user"], name="one_use_per_user")]

    def __str__(self) -> str:
        return f"Use {self.pk} of link {self.link_id}"


class ImportState(models.TextChoices):
    RECEIVING = "receiving", "Receiving"
    QUEUED = "queued", "Waiting"
    RUNNING = "running", "Importing"
    SUCCEEDED = "succeeded", "Imported"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


class ImportJob(WorkerJob):
    """An archive on its way to becoming a VM: received into a spool file, then taken in by a worker.

    `done` and `total` are bytes, `worker` also who receives it.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="import_jobs")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="import_jobs"
    )
    idempotency_key = models.UUIDField(default=uuid.uuid4)
    name = models.CharField(max_length=120, blank=True, help_text="Wanted instead of the archive's")
    state = models.CharField(max_length=10, choices=ImportState.choices, default=ImportState.RECEIVING)
    error_code = models.CharField(max_length=40, blank=True)
    spool = models.CharField(max_length=80, blank=True, help_text="The archive's file in the spool folder")
    vm = models.ForeignKey(VM, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["created_by", "idempotency_key"], name="one_import_per_key")
        ]
        indexes = [
            models.Index(fields=["created_by", "-created_at"]),
            models.Index(
                fields=["heartbeat_at"],
                condition=Q(state__in=["receiving", "queued", "running"]),
                name="unfinished_imports",
            ),
        ]

    def __str__(self) -> str:
        return f"Import {self.pk}: {self.state}"
