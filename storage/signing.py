"""Short-lived signatures that open a tenant's chunks: `t/<tenant>/<key>?e=<expiry>&m=<member>&s=<signature>`.

One signature opens all of a tenant's prefix, since what is below it can only be named by who was told its
name. It is the one that nginx's `secure_link_md5` checks (deploy/nginx.conf), so a CDN can refuse by itself;
docs/design/delivery.md says how strong that is.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from functools import lru_cache
from urllib.parse import parse_qsl

from django.conf import settings

# A signature is good for 10 to 15 minutes: whoever asks within the same five gets the same URL, which the
# browser's own cache can therefore know.
LIFE_S = 10 * 60
STEP_S = 5 * 60
# For a reader whose right is no membership.
NOBODY = 0


@lru_cache(maxsize=4)
def _derived_key(secret: str) -> str:
    return hmac.digest(secret.encode(), b"webvm chunk signatures v2", "sha256").hex()


def signing_key() -> str:
    """What the service and its CDN share: the setting, or the installation's own secret derived."""
    return settings.CHUNK_SIGNING_KEY or _derived_key(settings.SECRET_KEY)


def _signature(space: str, expiry: int, member: int) -> str:
    key = signing_key()
    # The key on both sides of what is signed: neither longer texts nor MD5's collisions lead to another.
    text = f"{key} {expiry} {member} /{space}/ {key}".encode()
    signed = hashlib.md5(text, usedforsecurity=False).digest()
    return urlsafe_b64encode(signed).decode().rstrip("=")


def sign_until(key: str, expiry: int, member: int = NOBODY) -> str:
    """The key with a query that opens all below its prefix until `expiry` (seconds since 1970)."""
    space = key.rpartition("/")[0]
    return f"{key}?e={expiry}&m={member}&s={_signature(space, expiry, member)}"


def expiry_after(seconds: int) -> int:
    """The next full step that is at least so many seconds away."""
    return -(-int(time.time() + seconds) // STEP_S) * STEP_S


def sign_path(key: str, member: int = NOBODY) -> str:
    """The key with a query that opens it for `LIFE_S` seconds at least and `LIFE_S + STEP_S` at most.

    `member` is the membership that gives the reader their right: the service asks whether it still stands.
    """
    return sign_until(key, expiry_after(LIFE_S), member)


def signed_member(key: str, query: str) -> int | None:
    """The membership that the query was signed for; None when it is not ours, for another prefix, or over.

    Takes the same time for every wrong signature.
    """
    given = dict(parse_qsl(query))
    expiry, member, signature = given.get("e", ""), given.get("m", ""), given.get("s", "")
    if not (_is_number(expiry) and _is_number(member) and signature.isascii()):
        return None
    right = _signature(key.rpartition("/")[0], int(expiry), int(member))
    if not hmac.compare_digest(right, signature) or int(expiry) < time.time():
        return None
    return int(member)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18 and str(int(text)) == text
