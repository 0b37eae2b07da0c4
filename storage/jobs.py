"""Long work that a worker does step by step: how far it is, and whether anybody still does it."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.db import models
from django.utils import timezone

# A worker writes to its job at least every few seconds; after this long without, it is gone.
LOST_AFTER = timedelta(seconds=90)


class WorkerJob(models.Model):
    """What every such job has; its states, and whose it is, are its own matter."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    step = models.CharField(max_length=60, blank=True)
    done = models.BigIntegerField(default=0, help_text="Progress within the step")
    total = models.BigIntegerField(default=0)
    error = models.TextField(blank=True)
    worker = models.CharField(
        max_length=200,
        blank=True,
        help_text="Who works on it: host:pid:token. Only the run that this names may write",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField(
        default=timezone.now, help_text="Worked on, but an old heartbeat: it has lost its worker"
    )
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True

    @property
    def is_silent(self) -> bool:
        """Whether nobody has written to it for `LOST_AFTER`."""
        return self.heartbeat_at < timezone.now() - LOST_AFTER
