"""What the settings pages have in common: run an action, say how it went."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest

from webvm.errors import NotFound, WebVMError


def attempt(request: HttpRequest, action: Callable[[], object], done: str) -> bool:
    """Run `action`; tell the person `done`, or the error's sentence. What does not exist stays a 404 page."""
    try:
        action()
    except NotFound as error:
        if error.text == NotFound.message:
            raise
        messages.error(request, error.text)
    except WebVMError as error:
        messages.error(request, error.text)
    else:
        messages.success(request, done)
        return True
    return False
