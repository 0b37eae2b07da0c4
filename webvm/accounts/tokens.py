"""Secrets that stand for a user: API tokens, one-time links, invitations. Only SHA-256 digests are stored:
each secret has 256 random bits, so a slow hash would protect nothing."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from webvm.accounts.models import ApiToken, User

TOKEN_MARK = "wvm_"  # noqa: S105 - how our tokens begin, so that leak scanners can find them
LAST_USED_STEP = timedelta(minutes=1)


def new_secret() -> str:
    """256 random bits, URL-safe, 43 characters."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """SHA-256 of a secret as 64 hex digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def user_for_token(secret: str) -> User | None:
    """The active user an API token stands for; None when it is wrong, expired or revoked."""
    return users_for_tokens([secret]).get(secret)


def users_for_tokens(given: Collection[str]) -> dict[str, User]:
    """The active users that these API tokens stand for; without those that are wrong, expired or revoked."""
    now = timezone.now()
    by_hash = {hash_secret(secret): secret for secret in given}
    found = list(
        ApiToken.objects.select_related("user").filter(
            Q(expires_at=None) | Q(expires_at__gt=now), token_hash__in=by_hash, user__is_active=True
        )
    )
    # Not a write for every request.
    stale = [
        token.pk for token in found if token.last_used_at is None or now - token.last_used_at > LAST_USED_STEP
    ]
    if stale:
        ApiToken.objects.filter(pk__in=stale).update(last_used_at=now)
    return {by_hash[token.token_hash]: token.user for token in found}
