"""Settings from the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from webvm.settings import BASE_DIR, mail

SHOW = """
import json, webvm.settings as s
names = ["SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_HSTS_SECONDS"]
names += ["SECURE_SSL_REDIRECT", "ACCOUNT_DEFAULT_HTTP_PROTOCOL"]
print(json.dumps([getattr(s, name) for name in names]))
"""


def settings_with(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=BASE_DIR,
        env={**os.environ, "WEBVM_DATA_DIR": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_https_makes_cookies_secure_and_sets_hsts(tmp_path: Path) -> None:
    assert json.loads(settings_with(tmp_path).stdout) == [False, False, 0, False, "http"]
    assert json.loads(settings_with(tmp_path, WEBVM_HTTPS="1").stdout) == [
        True,
        True,
        31536000,
        True,
        "https",
    ]


def test_a_value_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    assert "WEBVM_HTTPS must be 0 or 1" in settings_with(tmp_path, WEBVM_HTTPS="maybe").stderr
    assert (
        "WEBVM_TRUSTED_PROXIES must be a number"
        in settings_with(tmp_path, WEBVM_TRUSTED_PROXIES="all").stderr
    )


def test_mail_goes_to_the_log_without_a_server() -> None:
    assert mail("") == {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}


@pytest.mark.parametrize(
    ("url", "host", "port", "user", "password", "ssl", "tls"),
    [
        ("smtp://mail.example", "mail.example", 587, "", "", False, True),
        ("smtp://me%40x:p%2Fw@mail.example:25?tls=0", "mail.example", 25, "me@x", "p/w", False, False),
        ("smtps://me:pw@mail.example", "mail.example", 465, "me", "pw", True, False),
    ],
)
def test_mail_by_smtp(url: str, host: str, port: int, user: str, password: str, ssl: bool, tls: bool) -> None:
    made = mail(url)
    names = ("HOST", "PORT", "HOST_USER", "HOST_PASSWORD", "USE_SSL", "USE_TLS")
    assert [made[f"EMAIL_{name}"] for name in names] == [host, port, user, password, ssl, tls]


def test_a_mail_address_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="WEBVM_EMAIL_URL"):
        mail("http://mail.example")
