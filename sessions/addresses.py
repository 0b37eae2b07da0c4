"""The address of a share link. The secret is in the fragment, which browsers never send to a server."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import reverse


def link_url(request: HttpRequest, secret: str) -> str:
    """What to send to somebody."""
    return f"{request.build_absolute_uri(reverse('share-open'))}#{secret}"


def secret_of(text: str) -> str:
    """The secret in what somebody pasted: the whole address, or the secret alone."""
    return text.strip().rpartition("#")[2]
