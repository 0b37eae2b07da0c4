"""What follows from what happens on allauth's pages."""

from __future__ import annotations

from typing import Any

from allauth.account.signals import password_changed
from django.dispatch import receiver

from webvm.accounts.actions import rotate_journal_keys
from webvm.accounts.models import User


@receiver(password_changed)
def password_was_changed(user: User, **_: Any) -> None:
    """Who changes a password that still works may fear that somebody else has used it. A *forgotten* one that
    is set anew (`password_reset`) leaves the journals alone: they may hold what its owner wants back."""
    rotate_journal_keys(user, acting_user=user)
