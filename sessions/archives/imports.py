"""Importing an archive: received into a spool file, then taken in by a worker, as actions."""

from __future__ import annotations

import logging
import secrets
import shutil
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from sessions.archives.errors import ArchiveTooLarge, ImportNotPossible, UploadBrokeOff
from sessions.models import ImportJob, ImportState
from sessions.names import clean_name
from sessions.quotas import require_room_for_vm
from storage.errors import StoreUnavailable
from storage.jobs import LOST_AFTER
from storage.workers import is_gone, new_worker_name
from webvm.accounts.access import personal_tenant, require_role
from webvm.accounts.audit import record
from webvm.accounts.errors import GuestNotAllowed
from webvm.accounts.models import Tenant, User
from webvm.errors import NotFound, QuotaExceeded, WebVMError

# Where the size that a request announced is in its ASGI scope.
SIZE_KEY = "webvm.archive_bytes"
UNFINISHED = (ImportState.RECEIVING, ImportState.QUEUED, ImportState.RUNNING)
MAX_UNFINISHED = 2
# How long it is remembered how an import went.
KEPT_FOR = timedelta(days=30)
# What the disk of the spool must have left besides the archive.
FREE_BYTES = 256 * 1024 * 1024
QUEUE_UNREACHABLE = "The queue of the workers cannot be reached, so nobody would import it. Try again."
_log = logging.getLogger(__name__)


def spool_file(job: ImportJob) -> Path:
    """Where the archive is while it is received and taken in."""
    return Path(settings.SPOOL_DIR) / job.spool


def max_bytes(tenant: Tenant) -> int:
    """How large an archive for this tenant may be."""
    return int(min(settings.MAX_ARCHIVE_BYTES, tenant.quota_bytes))


def begin_import(
    *,
    acting_user: User,
    tenant: Tenant | None = None,
    name: str = "",
    key: UUID | None = None,
    size: int | None = None,
) -> ImportJob:
    """A job that waits for its archive (`RECEIVING`); the same key again answers the job it began.

    `size`: bytes that will follow, when that is known. What can be refused is refused now. Raises `NotFound`,
    `GuestNotAllowed`, `QuotaExceeded`, `VMQuotaExceeded`, `ArchiveTooLarge`, `StoreUnavailable`,
    `ImportNotPossible`.
    """
    if acting_user.is_guest:
        raise GuestNotAllowed
    tenant = tenant or personal_tenant(acting_user)
    require_role(acting_user, tenant)
    name = clean_name(name)
    end_lost_imports(acting_user)
    mine = ImportJob.objects.filter(created_by=acting_user)
    mine.filter(finished_at__lt=timezone.now() - KEPT_FOR).delete()
    before = mine.filter(idempotency_key=key).first() if key else None
    if before and before.state not in {ImportState.RECEIVING, ImportState.FAILED, ImportState.CANCELLED}:
        return before
    others = mine.filter(state__in=UNFINISHED)
    if (others.exclude(pk=before.pk) if before else others).count() >= MAX_UNFINISHED:
        raise ImportNotPossible(f"{MAX_UNFINISHED} imports are under way. Wait for one to end, or cancel it.")
    if tenant.used_bytes >= tenant.quota_bytes:
        raise QuotaExceeded(used_bytes=tenant.used_bytes, quota_bytes=tenant.quota_bytes)
    if size is not None and size > max_bytes(tenant):
        raise ArchiveTooLarge(max_bytes=max_bytes(tenant))
    Path(settings.SPOOL_DIR).mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(settings.SPOOL_DIR).free < (size or 0) + FREE_BYTES:
        raise StoreUnavailable("The server's disk has no room for the archive. Tell an admin of this site.")
    if before:
        drop_spool(before)
    key = key or uuid4()
    job = before or ImportJob(created_by=acting_user, idempotency_key=key)
    job.tenant, job.name, job.state, job.worker = tenant, name, ImportState.RECEIVING, new_worker_name()
    job.spool = f"{job.pk}.{secrets.token_hex(4)}"
    job.step, job.done, job.total, job.error, job.error_code = "Receiving", 0, size or 0, "", ""
    job.heartbeat_at, job.finished_at = timezone.now(), None
    try:
        with transaction.atomic():
            require_room_for_vm(tenant.pk)
            job.save()
            record("begin_import", acting_user=acting_user, tenant=tenant, target=job, size=size)
    except IntegrityError:  # the same request twice at once: the other one receives
        return mine.get(idempotency_key=key)
    return job


def write_progress(job: ImportJob, done: int) -> bool:
    """Says how far the receiving is; False when it is this connection's no more (cancelled, repeated)."""
    return _own(job).update(done=done, heartbeat_at=timezone.now()) > 0


def end_receiving(job: ImportJob, size: int) -> ImportJob:
    """The archive is complete: a worker's turn. Raises `NotFound` for who is no member any more, and
    `ImportNotPossible` when it was cancelled or is being received by another connection.
    """
    require_role(User.objects.get(pk=job.created_by_id), job.tenant)
    with transaction.atomic():
        changed = _own(job).update(
            state=ImportState.QUEUED, step="", done=0, total=size, heartbeat_at=timezone.now()
        )
        if not changed:
            raise ImportNotPossible("The import was cancelled, or is being sent again.")
        transaction.on_commit(lambda: send_to_worker(job.pk))
    job.refresh_from_db()
    return job


def fail_receiving(job: ImportJob, error: WebVMError) -> None:
    """Nothing more will come; what came is removed."""
    _own(job).update(
        state=ImportState.FAILED,
        error=error.text,
        error_code=error.code,
        finished_at=timezone.now(),
    )
    drop_spool(job)


def find_import(user: User, job_id: UUID) -> ImportJob:
    """One of the user's own imports. Raises `NotFound`."""
    job = ImportJob.objects.filter(pk=job_id, created_by=user).first()
    if job is None:
        raise NotFound
    return job


def latest_imports(user: User) -> models.QuerySet[ImportJob]:
    """The user's last ten."""
    return ImportJob.objects.filter(created_by=user).order_by("-created_at")[:10]


def cancel_import(job_id: UUID, *, acting_user: User) -> ImportJob:
    """Ends an import that is under way; whoever works at it stops within a second. Raises `NotFound`,
    `ImportNotPossible`.
    """
    job = find_import(acting_user, job_id)
    with transaction.atomic():
        living = ImportJob.objects.filter(pk=job.pk, state__in=UNFINISHED)
        if not living.update(state=ImportState.CANCELLED, finished_at=timezone.now()):
            raise ImportNotPossible
        record("cancel_import", acting_user=acting_user, tenant=job.tenant, target=job)
    drop_spool(job)
    job.refresh_from_db()
    return job


def drop_spool(job: ImportJob) -> None:
    with suppress(OSError):
        spool_file(job).unlink()


def end_lost_imports(user: User | None = None) -> None:
    """Imports whose connection or worker fell silent become failed ones, and their files go."""
    lost = ImportJob.objects.filter(
        state__in=[ImportState.RECEIVING, ImportState.RUNNING], heartbeat_at__lt=timezone.now() - LOST_AFTER
    )
    for job in lost.filter(created_by=user) if user else lost:
        if _own(job).update(
            state=ImportState.FAILED,
            error=UploadBrokeOff.message,
            error_code=UploadBrokeOff.code,
            finished_at=timezone.now(),
        ):
            drop_spool(job)


def send_unfinished_imports() -> None:
    """For a worker that has just started: what waits, or was being run by one that is gone, goes on."""
    for job in ImportJob.objects.filter(state__in=[ImportState.QUEUED, ImportState.RUNNING]):
        if job.state == ImportState.QUEUED or is_gone(job.worker):
            send_to_worker(job.pk)
    end_lost_imports()


def send_to_worker(job_id: UUID) -> None:
    """Queues the import for a worker. Sending it twice does no harm."""
    from sessions.tasks import import_archive

    try:
        import_archive.delay(str(job_id))
    except (OSError, OperationalError):
        _log.exception("the import %s could not be queued", job_id)
        job = ImportJob.objects.get(pk=job_id)
        if ImportJob.objects.filter(pk=job_id, state=ImportState.QUEUED).update(
            state=ImportState.FAILED, error=QUEUE_UNREACHABLE, error_code="queue", finished_at=timezone.now()
        ):
            drop_spool(job)


def _own(job: ImportJob) -> models.QuerySet[ImportJob]:
    """The row, as long as it is in the state and hands that `job` knows."""
    return ImportJob.objects.filter(pk=job.pk, state=job.state, worker=job.worker)
