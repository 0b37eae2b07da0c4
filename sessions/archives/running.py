"""What a worker does with an archive: read all of it, then store what is new, then one transaction."""

from __future__ import annotations

import logging
import time
from typing import BinaryIO
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from sessions.archives.errors import ImportCancelled
from sessions.archives.imports import drop_spool, spool_file
from sessions.archives.manifest import MEMBERS
from sessions.archives.reading import ArchiveReader, Checked, check_archive
from sessions.models import VM, ImportJob, ImportState, Snapshot, SnapshotKind
from sessions.quotas import require_room_for_vm
from sessions.thumbnails import decode_thumbnail
from storage.codec import BLOCK
from storage.commits import accept_device
from storage.errors import MissingChunks
from storage.intake import DeviceTaker, KnownBlocks
from storage.versions import require_data
from storage.workers import is_gone, new_worker_name
from webvm.accounts.access import require_role
from webvm.accounts.audit import record
from webvm.accounts.models import Tenant, User
from webvm.errors import WebVMError

FLUSH_S = 0.5
# A garbage collection may take away what was stored and not yet named by a commit; then it is stored again.
TRIES = 3
_log = logging.getLogger(__name__)


def run_import(job_id: UUID) -> None:
    """Runs an import to its end. Does nothing when it is not waiting for a worker.

    Whatever goes wrong ends up in the job. A run that was killed is run again from the start: what it had
    stored is found by its digest.
    """
    job = _claim(job_id)
    if job is None:
        return
    run = _Run(job)
    try:
        with spool_file(job).open("rb") as file:
            run.work(file)
    except ImportCancelled:
        _log.info("import %s was cancelled", job_id)
    except WebVMError as error:
        run.fail(error.code, error.text)
    except OSError:
        _log.exception("import %s", job_id)
        run.fail("spool", "The archive cannot be read from the server's disk. Send it again.")
    except Exception:
        _log.exception("import %s", job_id)
        run.fail("server_error", "Something that should not happen did. The server's log has more.")
    drop_spool(job)


def _claim(job_id: UUID) -> ImportJob | None:
    """The job, now this process's; None when another has it or it has ended."""
    job = ImportJob.objects.filter(pk=job_id).select_related("tenant", "created_by").first()
    if job is None or not (
        job.state == ImportState.QUEUED or (job.state == ImportState.RUNNING and is_gone(job.worker))
    ):
        return None
    seen = ImportJob.objects.filter(pk=job_id, state=job.state, worker=job.worker)
    job.state, job.worker = ImportState.RUNNING, new_worker_name()
    claimed = seen.update(state=job.state, worker=job.worker, heartbeat_at=timezone.now())
    return job if claimed else None


class _Run:
    """One run; it writes to the job about twice a second and sees then whether somebody ended it."""

    def __init__(self, job: ImportJob) -> None:
        self.job = job
        self.user: User = job.created_by
        self.tenant: Tenant = job.tenant
        self._mine = ImportJob.objects.filter(pk=job.pk, state=ImportState.RUNNING, worker=job.worker)
        self._step, self._done, self._total = "", 0, 0
        self._flushed = 0.0

    def work(self, file: BinaryIO) -> None:
        require_role(self.user, self.tenant)
        self._begin("Checking the archive")
        checked = check_archive(file, self._tick)
        self._total = self._done
        for left in reversed(range(TRIES)):
            self._begin("Storing what is new")
            file.seek(0)
            disk_root, memory_root, stored = self._store(file, checked)
            try:
                self._commit(checked, disk_root, memory_root, stored)
                return
            except MissingChunks:
                if not left:
                    raise

    def fail(self, code: str, text: str) -> None:
        self._mine.update(state=ImportState.FAILED, error_code=code, error=text, finished_at=timezone.now())

    def _store(self, file: BinaryIO, checked: Checked) -> tuple[str, str, int]:
        reader = ArchiveReader(file, self._tick)
        reader.small(MEMBERS[0])
        version, known = checked.version, KnownBlocks()
        disk = DeviceTaker(self.tenant, version.disk_root, version.disk_blocks, known)
        memory = DeviceTaker(self.tenant, version.memory_root, version.memory_blocks, known)
        disk_root = disk.take(reader.device(MEMBERS[1], version.disk_blocks * BLOCK))
        memory_root = memory.take(reader.device(MEMBERS[2], version.memory_blocks * BLOCK))
        return disk_root, memory_root, disk.stored_bytes + memory.stored_bytes

    def _commit(self, checked: Checked, disk_root: str, memory_root: str, stored: int) -> None:
        """The machine, its snapshot and the job's end appear together."""
        manifest, version = checked.manifest, checked.version
        thumbnail = decode_thumbnail(manifest.thumbnail)  # found right when the manifest was read
        with transaction.atomic():
            # Locked and looked at again: who was removed, or cancelled, while it was stored gets no machine.
            if not self._mine.select_for_update().exists():
                raise ImportCancelled
            require_role(User.objects.get(pk=self.user.pk), self.tenant)
            require_room_for_vm(self.tenant.pk)
            vm = VM.objects.create(
                tenant=self.tenant,
                name=self.job.name or manifest.name,
                created_by=self.user,
                image_version=version,
                stored_bytes=stored,
            )
            require_data(version.pk)
            vm.head = Snapshot.objects.create(
                vm=vm,
                tenant=self.tenant,
                kind=SnapshotKind.IMPORT,
                name=manifest.snapshot.name,
                message=manifest.snapshot.message,
                author=self.user,
                disk_root=disk_root,
                disk_home_id=self._accept(disk_root, version.disk_root, version.disk_blocks),
                memory_root=memory_root,
                memory_home_id=self._accept(memory_root, version.memory_root, version.memory_blocks),
                stored_bytes=stored,
                thumbnail=thumbnail,
                has_thumbnail=thumbnail is not None,
            )
            vm.save(update_fields=["head"])
            self._mine.update(
                state=ImportState.SUCCEEDED, vm=vm, done=self._total, finished_at=timezone.now()
            )
            record(
                "import_vm",
                acting_user=self.user,
                tenant=self.tenant,
                target=vm,
                image=version.image.slug,
                stored_bytes=stored,
            )

    def _accept(self, root: str, base: str, blocks: int) -> UUID | None:
        accept_device(self.tenant, root=root, blocks=blocks, parent_root=base, parent_home=None)
        return None if root == base else self.tenant.pk

    def _begin(self, step: str) -> None:
        self._step, self._done, self._flushed = step, 0, 0.0
        self._tick(0)

    def _tick(self, size: int) -> None:
        """Raises `ImportCancelled` when the run is not wanted any more."""
        self._done += size
        now = time.monotonic()
        if now - self._flushed < FLUSH_S:
            return
        self._flushed = now
        if not self._mine.update(
            step=self._step, done=self._done, total=self._total, heartbeat_at=timezone.now()
        ):
            raise ImportCancelled
