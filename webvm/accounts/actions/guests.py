"""Guests: accounts made by opening a share link, kept by signing up, removed when they expire."""

from __future__ import annotations

import secrets
from datetime import timedelta

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone

from webvm.accounts.access import personal_tenant
from webvm.accounts.actions.users import remove_user
from webvm.accounts.audit import record
from webvm.accounts.errors import EmailTaken
from webvm.accounts.models import Tenant, User
from webvm.errors import InvalidInput, PermissionDenied

GUEST_LIFETIME = timedelta(days=7)
GUEST_DOMAIN = "guest.invalid"  # RFC 2606: no mail can ever reach it


def create_guest(*, acting_user: User | None = None) -> User:
    """A temporary user with a made-up address, no password, a small quota and an end in `GUEST_LIFETIME`.

    The caller has checked that the tenant that shares allows guests. Sign the guest in with `signin.sign_in`.
    """
    with transaction.atomic():
        guest = User.objects.create_user(
            f"guest-{secrets.token_hex(8)}@{GUEST_DOMAIN}",
            is_guest=True,
            guest_expires_at=timezone.now() + GUEST_LIFETIME,
        )
        record("create_guest", acting_user=acting_user or guest, tenant=personal_tenant(guest), target=guest)
    return guest


def keep_guest(guest: User, *, email: str, password: str, acting_user: User) -> User:
    """Turn a guest into a full user: same machines, own address and password, the full quota.

    Raises `PermissionDenied` for another's account or no guest's, `EmailTaken`, `InvalidInput`.
    """
    if acting_user.pk != guest.pk or not guest.is_guest:
        raise PermissionDenied("Only a guest can keep their own guest account.")
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise InvalidInput("Enter an email address such as ada@example.org.", field="email") from None
    try:
        validate_password(password, User(email=email))
    except ValidationError as error:
        raise InvalidInput(" ".join(error.messages), field="password") from None
    with transaction.atomic():
        user = User.objects.select_for_update().get(pk=guest.pk)
        if User.objects.filter(email=email).exists() or EmailAddress.objects.filter(email=email).exists():
            raise EmailTaken(field="email")
        user.email = email
        user.is_guest = False
        user.guest_expires_at = None
        user.set_password(password)
        try:
            with transaction.atomic():
                user.save()
                EmailAddress.objects.create(user=user, email=email, primary=True, verified=False)
        except IntegrityError:  # somebody took it since we looked
            raise EmailTaken(field="email") from None
        tenant = personal_tenant(user)
        Tenant.objects.filter(pk=tenant.pk).update(
            name=email.split("@")[0][:120],
            quota_bytes=Greatest(F("quota_bytes"), settings.QUOTA_BYTES),
            max_vms=Greatest(F("max_vms"), settings.MAX_VMS),
            max_sessions=Greatest(F("max_sessions"), settings.MAX_SESSIONS),
        )
        record("keep_guest", acting_user=user, tenant=tenant, target=user)
    return user


def expire_guests(*, acting_user: User | None = None, limit: int = 500) -> int:
    """Remove guests whose time is over, at most `limit` in one call; answers how many went."""
    expired = User.objects.filter(is_guest=True, guest_expires_at__lt=timezone.now()).order_by("pk")[:limit]
    removed = 0
    for guest in expired:
        with transaction.atomic():
            # Looked at again under the lock: the guest may have signed up in between.
            locked = User.objects.select_for_update().filter(pk=guest.pk, is_guest=True).first()
            if locked is None:
                continue
            remove_user(locked, acting_user=acting_user, action="expire_guest")
            removed += 1
    return removed
