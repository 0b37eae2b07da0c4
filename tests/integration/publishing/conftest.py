"""A workshop with a double of the machine, and a worker that only notes what it is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import LazySettings

from storage.tasks import publish_image
from tests.support.machines import make_user
from tests.support.publishing import Workshop, make_workshop
from webvm.accounts.models import User


@pytest.fixture(autouse=True)
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> Workshop:
    return make_workshop(tmp_path, monkeypatch, settings)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that a worker would get."""
    sent: list[str] = []
    monkeypatch.setattr(publish_image, "delay", sent.append)
    return sent


@pytest.fixture
def admin() -> User:
    return make_user("admin@example.org", is_staff=True)
