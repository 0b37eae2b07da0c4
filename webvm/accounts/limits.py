"""Rate limits of doors that take guesses or serve strangers; `ACCOUNT_RATE_LIMITS` has the rates."""

from __future__ import annotations

from allauth.core import ratelimit
from django.http import HttpRequest

from webvm.accounts.errors import TooFast


def limit(request: HttpRequest, action: str) -> None:
    """Count one use of `action` by this address or user. Raises `TooFast` beyond the rate."""
    if not ratelimit.consume(request, action=action):
        raise TooFast
