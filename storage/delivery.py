"""Where a browser gets a chunk: below `WEBVM_CHUNK_BASE_URL`, which is this service or a CDN in front of it.

Public chunks need nothing; a tenant's need a right to its prefix, for a short time: in the query of the URL
as nginx checks it, or in cookies as CloudFront does (`WEBVM_CHUNK_SIGNING`). See docs/design/delivery.md.
"""

from __future__ import annotations

from django.conf import settings

from storage.signing import LIFE_S, NOBODY, sign_path
from storage.stores import check_key

# For how long what is handed out is good, at least.
URL_SECONDS = LIFE_S


def chunk_url(key: str, member: int = NOBODY) -> str:
    """The URL of an object for a plain GET, good for `URL_SECONDS` at least.

    `member`: the membership that gives the reader their right.
    """
    check_key(key)
    if key.startswith("pub/") or settings.CHUNK_SIGNING == "cloudfront":
        return f"{settings.CHUNK_BASE_URL}{key}"
    return f"{settings.CHUNK_BASE_URL}{sign_path(key, member)}"
