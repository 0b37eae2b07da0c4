"""API tokens and one-time sign-in links."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from webvm.accounts.audit import record
from webvm.accounts.errors import GuestNotAllowed, LinkNotUsable, TooMany
from webvm.accounts.models import ApiToken, SignInLink, User
from webvm.accounts.tokens import TOKEN_MARK, hash_secret, new_secret
from webvm.errors import InvalidInput, NotFound, PermissionDenied

MAX_TOKENS = 50
SIGN_IN_LINK_LIFETIME = timedelta(hours=24)


def create_token(*, name: str, acting_user: User, expires_at: datetime | None = None) -> tuple[ApiToken, str]:
    """A personal API token and its secret, which is seen only now."""
    if acting_user.is_guest:
        raise GuestNotAllowed
    name = " ".join(name.split())
    if not 1 <= len(name) <= 80:
        raise InvalidInput("A token's name has 1 to 80 characters.", field="name")
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidInput("The token's end must lie in the future.", field="expires_at")
    secret = TOKEN_MARK + new_secret()
    with transaction.atomic():
        User.objects.select_for_update().get(pk=acting_user.pk)
        # Tokens that have ended do not count, and making a new one clears them away.
        acting_user.api_tokens.filter(expires_at__lt=timezone.now()).delete()
        if acting_user.api_tokens.count() >= MAX_TOKENS:
            raise TooMany(f"You have {MAX_TOKENS} API tokens, which is the most. Revoke one first.")
        token = ApiToken.objects.create(
            user=acting_user,
            name=name,
            prefix=secret[:12],
            token_hash=hash_secret(secret),
            expires_at=expires_at,
        )
        record("create_token", acting_user=acting_user, target=token, name=name)
    return token, secret


def revoke_token(token_id: int, *, acting_user: User) -> None:
    """End one of the acting user's tokens at once. Raises `NotFound`."""
    with transaction.atomic():
        token = ApiToken.objects.filter(pk=token_id, user=acting_user).first()
        if token is None:
            raise NotFound
        record("revoke_token", acting_user=acting_user, target=token, name=token.name)
        token.delete()


def create_sign_in_link(user: User, *, acting_user: User | None) -> str:
    """The secret of a new one-time sign-in link; earlier ones end. No acting user: the command line."""
    if acting_user is not None and not acting_user.is_superuser:
        raise PermissionDenied("Only site admins make sign-in links.")
    secret = new_secret()
    with transaction.atomic():
        user.sign_in_links.filter(used_at=None).delete()
        link = SignInLink.objects.create(
            user=user, token_hash=hash_secret(secret), expires_at=timezone.now() + SIGN_IN_LINK_LIFETIME
        )
        record("create_sign_in_link", acting_user=acting_user, target=link, email=user.email)
    return secret


def use_sign_in_link(secret: str) -> User:
    """Use a link up and answer whom it signs in. Raises `LinkNotUsable`, for every cause alike."""
    now = timezone.now()
    usable = Q(token_hash=hash_secret(secret), used_at=None, expires_at__gt=now, user__is_active=True)
    with transaction.atomic():
        link = SignInLink.objects.select_related("user").filter(usable).first()
        # One UPDATE decides between two requests with the same link.
        if link is None or not SignInLink.objects.filter(pk=link.pk, used_at=None).update(used_at=now):
            raise LinkNotUsable
        record("use_sign_in_link", acting_user=link.user, target=link)
    return link.user
