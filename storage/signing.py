"""Short-lived signed paths to private chunks: `t/<tenant>/<key>?e=<expiry>&s=<signature>`."""

from __future__ import annotations

import hashlib
import hmac
import time
from functools import lru_cache

from django.conf import settings


@lru_cache(maxsize=4)
def _signing_key(secret: str) -> bytes:
    return hmac.digest(secret.encode(), b"webvm chunk path v1", "sha256")


def _signature(key: str, expiry: int) -> str:
    signed = hmac.digest(_signing_key(settings.SECRET_KEY), f"{key}\n{expiry}".encode(), hashlib.sha256)
    return signed.hex()


def sign_path(key: str, expires_in: int) -> str:
    """The key with a query that opens it for `expires_in` seconds."""
    expiry = int(time.time()) + expires_in
    return f"{key}?e={expiry}&s={_signature(key, expiry)}"


def is_signed(key: str, expiry: str, signature: str) -> bool:
    """Whether the signature is ours and has not expired. Takes the same time for every wrong signature."""
    if not (expiry.isascii() and expiry.isdigit() and len(expiry) <= 12 and signature.isascii()):
        return False
    return hmac.compare_digest(_signature(key, int(expiry)), signature) and int(expiry) >= time.time()
