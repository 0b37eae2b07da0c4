"""CloudFront's signed cookies: the right to a tenant's prefix where the CDN is CloudFront.

The format is that of AWS's "Use signed cookies" with a custom policy: RSA-SHA1 over the policy's JSON, base64
with `+=/` as `-_~`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from http.cookies import Morsel
from urllib.parse import urlsplit
from uuid import UUID

from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.conf import settings
from django.http import HttpResponse

from storage.signing import LIFE_S, STEP_S, expiry_after


def set_chunk_cookies(response: HttpResponse, tenants: Iterable[UUID]) -> None:
    """Let the answer open these tenants' prefixes for `LIFE_S` to `LIFE_S + STEP_S` seconds.

    Does nothing without CloudFront. Each tenant's cookies have the tenant's own path, so that they are sent
    with its chunks only and several tenants' do not replace each other.
    """
    if settings.CHUNK_SIGNING != "cloudfront":
        return
    base = settings.CHUNK_BASE_URL
    signer = _signer(settings.CLOUDFRONT_KEY_ID, settings.CLOUDFRONT_PRIVATE_KEY)
    ends = datetime.fromtimestamp(expiry_after(LIFE_S), UTC)
    for tenant in tenants:
        policy = signer.build_policy(f"{base}t/{tenant}/*", ends).encode()
        values = {
            "CloudFront-Policy": _encoded(policy),
            "CloudFront-Signature": _encoded(signer.rsa_signer(policy)),
            "CloudFront-Key-Pair-Id": settings.CLOUDFRONT_KEY_ID,
        }
        for name, value in values.items():
            morsel: Morsel[str] = Morsel()
            morsel.set(name, value, value)
            morsel.update(
                {
                    "path": f"{urlsplit(base).path}t/{tenant}/",
                    "domain": settings.CLOUDFRONT_COOKIE_DOMAIN,
                    "max-age": str(LIFE_S + STEP_S),
                    "samesite": "Strict",
                }
            )
            dict.update(morsel, {"secure": True, "httponly": True})
            # Django keeps cookies by name alone; these differ in their paths.
            response.cookies[f"{name} {tenant}"] = morsel


@lru_cache(maxsize=2)
def _signer(key_id: str, private_key: str) -> CloudFrontSigner:
    key = load_pem_private_key(private_key.encode(), password=None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("WEBVM_CLOUDFRONT_PRIVATE_KEY must be an RSA key.")
    # CloudFront checks SHA-1; nobody else chooses what is signed, so its collisions do not matter.
    return CloudFrontSigner(key_id, lambda message: key.sign(message, padding.PKCS1v15(), SHA1()))  # noqa: S303


def _encoded(data: bytes) -> str:
    return b64encode(data).decode().translate(str.maketrans("+=/", "-_~"))
