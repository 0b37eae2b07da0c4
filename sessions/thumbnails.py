"""Pictures of a machine's screen: small, PNG or WebP, made by the client and so never trusted."""

from __future__ import annotations

import base64
import binascii

from webvm.errors import InvalidInput

MAX_BYTES = 64 * 1024


def decode_thumbnail(text: str | None) -> bytes | None:
    """The picture behind base64, or None. Raises `InvalidInput` for anything but PNG or WebP up to 64 KiB."""
    if text is None:
        return None
    try:
        raw = base64.b64decode(text, validate=True) if len(text) <= MAX_BYTES * 4 // 3 + 4 else b""
    except (binascii.Error, ValueError):
        raw = b""
    if not raw or len(raw) > MAX_BYTES or picture_type(raw) is None:
        raise InvalidInput("The picture must be a PNG or WebP of at most 64 KiB.", field="thumbnail")
    return raw


def picture_type(raw: bytes) -> str | None:
    """`image/png`, `image/webp`, or None."""
    if raw.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return "image/webp"
    return None
