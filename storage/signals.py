"""What follows from a change to a row, whoever makes it."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver
from django.utils import timezone

from storage.gc.barrier import take_back_public
from storage.models import ImageVersion


@receiver(post_save, sender=ImageVersion)
def take_back_public_chunks(created: bool, **_: Any) -> None:
    """A new version may name public chunks that were garbage until now."""
    if created:
        take_back_public(timezone.now())
