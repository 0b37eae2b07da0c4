"""What people may call things."""

from __future__ import annotations

import unicodedata

from webvm.errors import InvalidInput

MAX_NAME = 120
MAX_MESSAGE = 500


def clean_name(name: str, *, required: bool = False) -> str:
    """A one-line name without control characters, at most `MAX_NAME` characters. Raises `InvalidInput`."""
    name = _clean(" ".join(name.split()), MAX_NAME, "name")
    if required and not name:
        raise InvalidInput("Give it a name.", field="name")
    return name


def clean_message(message: str) -> str:
    """A save's message: lines allowed, at most `MAX_MESSAGE` characters. Raises `InvalidInput`."""
    return _clean(message.strip(), MAX_MESSAGE, "message", "\n")


def _clean(text: str, limit: int, field: str, allowed: str = "") -> str:
    if len(text) > limit:
        raise InvalidInput(f"The {field} may have at most {limit} characters.", field=field)
    # Cc: control characters; Cs: lone surrogates, which no database stores.
    if any(unicodedata.category(char) in {"Cc", "Cs"} and char not in allowed for char in text):
        raise InvalidInput(f"The {field} has characters that cannot be shown.", field=field)
    return text
