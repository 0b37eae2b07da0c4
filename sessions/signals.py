"""Revocation from outside this app: whatever ends a user's access makes the user's sockets look again at
once.
"""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.models import Session as Login
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from sessions.announce import announce, login_group, user_group
from webvm.accounts.models import ApiToken, Membership, Tenant, User


@receiver([post_save, post_delete], sender=Membership)
@receiver(post_delete, sender=ApiToken)
def user_access_changed(instance: Membership | ApiToken, **_: Any) -> None:
    announce(user_group(instance.user_id))


@receiver(post_save, sender=User)
def user_changed(instance: User, created: bool, **_: Any) -> None:
    if not created:
        announce(user_group(instance.pk))


@receiver(post_save, sender=Tenant)
def tenant_changed(instance: Tenant, created: bool, **_: Any) -> None:
    if not created and instance.deleted_at is not None:
        for user_id in instance.memberships.values_list("user_id", flat=True):
            announce(user_group(user_id))


@receiver(post_delete, sender=Login)
def signed_out(instance: Login, **_: Any) -> None:
    announce(login_group(instance.session_key))
