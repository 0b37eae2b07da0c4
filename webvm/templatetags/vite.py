"""`{% load vite %}{% vite "console" %}`: the tags that load an entry of the built client."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from django import template
from django.conf import settings
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from webvm.errors import WebVMError

register = template.Library()

Manifest = dict[str, dict[str, Any]]


class ClientNotBuilt(WebVMError):
    code = "client_not_built"
    status = 503
    message = (
        "The browser client has not been built. Run `uv run manage.py up`, or `npm run build` in frontend/."
    )


@lru_cache(maxsize=4)
def _read_manifest(path: Path, _mtime_ns: int) -> Manifest:
    manifest: Manifest = json.loads(path.read_text(encoding="utf-8"))
    return manifest


def read_manifest() -> Manifest:
    """Vite's manifest: source path → {file, name, isEntry, css, imports}; read again when rebuilt.

    Raises `ClientNotBuilt`.
    """
    path = Path(settings.CLIENT_DIR) / ".vite" / "manifest.json"
    try:
        return _read_manifest(path, path.stat().st_mtime_ns)
    except (OSError, ValueError) as error:
        raise ClientNotBuilt from error


def _find(manifest: Manifest, name: str) -> str:
    key = next((k for k, v in manifest.items() if v.get("isEntry") and v.get("name") == name), None)
    if key is None:
        raise ClientNotBuilt(f"The built client has no entry {name!r}. Run `npm run build` in frontend/.")
    return key


def _imports(manifest: Manifest, key: str) -> list[str]:
    """The entry and everything it imports statically, each file once: nothing waits for a script to ask."""
    wanted, seen = [key], {key}
    for current in wanted:
        for imported in manifest[current].get("imports", ()):
            if imported not in seen:
                seen.add(imported)
                wanted.append(imported)
    return wanted


@register.simple_tag
def vite_ahead(name: str) -> SafeString:
    """Hints to fetch what another page's entry `name` needs, workers and WebAssembly included, when there is
    nothing better to do.
    """
    manifest = read_manifest()
    wanted = [manifest[key] for key in _imports(manifest, _find(manifest, name))]
    files = dict.fromkeys(
        file for part in wanted for file in (part["file"], *part.get("css", ()), *part.get("assets", ()))
    )
    return format_html_join(
        "", '<link rel="prefetch" href="{}">', [(static(f"app/{file}"),) for file in files]
    )


@register.simple_tag
def vite(name: str, *, at_once: bool = False) -> SafeString:
    """Stylesheets, preloads and the module script of entry `name`; `at_once`: it runs as soon as it is
    there, not after the page was parsed.
    """
    manifest = read_manifest()
    key = _find(manifest, name)
    wanted = _imports(manifest, key)
    css = dict.fromkeys(file for k in wanted for file in manifest[k].get("css", ()))
    sheets = [(static(f"app/{file}"),) for file in css]
    preloads = [(static(f"app/{manifest[k]['file']}"),) for k in wanted[1:]]
    return format_html(
        '{}{}<script type="module"{} src="{}"></script>',
        format_html_join("", '<link rel="stylesheet" href="{}">', sheets),
        format_html_join("", '<link rel="modulepreload" href="{}">', preloads),
        SafeString(" async") if at_once else "",
        static(f"app/{manifest[key]['file']}"),
    )
