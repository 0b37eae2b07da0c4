"""Headers that keep pages and secrets apart from others, and the page frame's behaviour without a built
client."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from tests.support.pages import PASSWORD, browser
from webvm.accounts.models import User

pytestmark = pytest.mark.django_db


def policy(path: str = "/") -> dict[str, list[str]]:
    header = browser().get(path).headers["Content-Security-Policy"]
    return {words[0]: words[1:] for words in (part.split() for part in header.split(";"))}


@pytest.mark.parametrize(
    "path", ["/", "/accounts/login/", "/nothing-here", "/api/v1/me", "/api/v1/docs", "/admin/"]
)
def test_every_answer_has_the_headers(path: str) -> None:
    response = browser().get(path)
    assert "script-src 'self' 'wasm-unsafe-eval';" in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Referrer-Policy"] == "same-origin"


def test_the_policy_lets_in_only_what_the_client_needs(settings: Settings) -> None:
    assert policy()["script-src"] == ["'self'", "'wasm-unsafe-eval'"]
    assert policy()["worker-src"] == ["'self'", "blob:"]
    assert policy()["connect-src"] == ["'self'"]
    assert policy()["frame-ancestors"] == ["'none'"]
    settings.CHUNK_BASE_URL = "https://cdn.example.org/chunks/"
    assert policy()["connect-src"] == ["'self'", "https://cdn.example.org"]
    # Where the client uploads by itself, and nowhere else.
    settings.CHUNK_STORE, settings.S3_BUCKET = "s3", "chunks"
    settings.S3_ACCESS_KEY = settings.S3_SECRET_KEY = "test"
    for endpoint, public, origin in (
        ("http://s3.example.org:9000", None, "http://s3.example.org:9000"),
        ("http://10.0.0.1:9000", "https://s3.example.org", "https://s3.example.org"),
        (None, None, "https://chunks.s3.amazonaws.com"),
    ):
        settings.S3_ENDPOINT_URL, settings.S3_PUBLIC_URL = endpoint, public
        assert policy()["connect-src"] == ["'self'", "https://cdn.example.org", origin]
    settings.S3_DIRECT_UPLOADS = False
    assert policy()["connect-src"] == ["'self'", "https://cdn.example.org"]


def test_our_pages_have_no_inline_scripts_or_handlers() -> None:
    client = browser(User.objects.create_superuser("ada@example.org", PASSWORD))
    for path in (
        "/settings/",
        "/settings/tokens/",
        "/settings/tenants/",
        "/machines/",
        "/keep/",
        "/sign-in-link/",
    ):
        page = client.get(path, follow=True).content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)", page), path
        assert not re.search(r"<[^>]+\son\w+=", page), path


def test_an_error_page_has_its_status_and_sentence() -> None:
    page = browser(User.objects.create_user("ada@example.org")).get(
        "/settings/tenants/00000000-0000-0000-0000-000000000000/"
    )
    assert page.status_code == 404
    assert b"it is not yours" in page.content


def test_without_a_built_client_the_page_says_how_to_build_it(settings: Settings, tmp_path: Path) -> None:
    settings.CLIENT_DIR = tmp_path / "nothing"
    page = browser().get("/")
    assert page.status_code == 503
    assert b"manage.py up" in page.content


def test_the_client_is_loaded_with_its_styles_and_all_it_imports(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "built"
    (folder / ".vite").mkdir(parents=True)
    manifest = {
        "src/pages/main.ts": {
            "file": "assets/pages-1.js",
            "name": "pages",
            "isEntry": True,
            "imports": ["_a.js"],
            "css": ["assets/p.css"],
        },
        "_a.js": {"file": "assets/a-1.js", "imports": ["_b.js"], "css": ["assets/a.css"]},
        "_b.js": {"file": "assets/b-1.js", "imports": ["_a.js"]},
    }
    (folder / ".vite" / "manifest.json").write_text(json.dumps(manifest))
    settings.CLIENT_DIR = folder
    page = browser().get("/").content.decode()
    assert re.findall(r'(?:href|src)="/static/app/([^"]+)"', page) == [
        "assets/p.css",
        "assets/a.css",
        "assets/a-1.js",
        "assets/b-1.js",
        "assets/pages-1.js",
    ]


def test_the_chosen_theme_is_in_the_page_and_nothing_else_is() -> None:
    client = browser()
    client.cookies["theme"] = "dark"
    assert b'data-theme="dark"' in client.get("/").content
    client.cookies["theme"] = 'x" onload="alert(1)'
    assert b"onload" not in client.get("/").content
