"""The JSON of an import."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from ninja import Field, Schema

from sessions.models import ImportJob, ImportState


class ImportOut(Schema):
    id: UUID
    state: ImportState
    name: str
    step: str
    done: int = Field(description="Bytes within the step")
    total: int = Field(description="0: not known")
    error: str
    error_code: str
    vm: UUID | None
    created_at: datetime
    finished_at: datetime | None

    @staticmethod
    def of(job: ImportJob) -> ImportOut:
        return ImportOut(
            id=job.pk,
            state=ImportState(job.state),
            name=job.name,
            step=job.step,
            done=job.done,
            total=job.total,
            error=job.error,
            error_code=job.error_code,
            vm=job.vm_id,
            created_at=job.created_at,
            finished_at=job.finished_at,
        )


class ImportList(Schema):
    items: list[ImportOut]
