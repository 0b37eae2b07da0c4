"""Where the packages come from: a given mirror, else the host's apt sources, else Debian's public mirror."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from storage.images.errors import BadRecipe

PUBLIC_MIRROR = "http://ftp.debian.org/debian http://security.debian.org/debian-security"
APT_DIRECTORY = Path("/etc/apt")
DEBIAN_SUITES = (
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
)
POCKETS = ("", "-updates", "-security")


@dataclass(frozen=True)
class Source:
    """One suite of one archive. `optional`: an image can be made without it."""

    uri: str
    suite: str
    optional: bool = False
    check_valid_until: bool = True


def find_sources(mirror: str | None, suite: str, apt_directory: Path = APT_DIRECTORY) -> list[list[Source]]:
    """Sets of sources to try in order; within a set, a package is taken from whichever has its newest
    version.

    `mirror` is one or more addresses divided by spaces; one that ends in `-security` serves
    `<suite>-security`, others `<suite>` and `<suite>-updates`. A given mirror is the only set. Raises
    `BadRecipe` for what is no http(s) address.
    """
    if mirror and mirror.strip():
        return [_explicit(mirror, suite)]
    host = _host_sources(suite, apt_directory)
    public = [replace(source, optional=source.suite != suite) for source in _explicit(PUBLIC_MIRROR, suite)]
    return [host, public] if host else [public]


def _explicit(mirror: str, suite: str) -> list[Source]:
    sources: list[Source] = []
    for address in mirror.split():
        uri = address.rstrip("/")
        if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", uri):
            raise BadRecipe(f"The mirror {address!r} is not an http or https address.", key="mirror")
        if uri.endswith("-security"):
            sources.append(Source(uri, f"{suite}-security"))
        else:
            sources += [Source(uri, suite), Source(uri, f"{suite}-updates", optional=True)]
    return sources


def _host_sources(suite: str, directory: Path) -> list[Source]:
    """What the host's apt uses, where that is Debian. A host of another Debian release lends its mirrors."""
    found: dict[tuple[str, str], Source] = {}
    files = [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))]
    for path in files:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        entries = _parse_deb822(text) if path.suffix == ".sources" else _parse_lines(text)
        for uri, listed, components, check in entries:
            name, pocket = _split_pocket(listed)
            if name not in (suite, *DEBIAN_SUITES) or "main" not in components:
                continue
            if not uri.startswith(("http://", "https://")):
                continue
            source = Source(uri.rstrip("/"), f"{suite}{pocket}", bool(pocket), check)
            found.setdefault((source.uri, source.suite), source)
    sources = list(found.values())
    return sources if any(source.suite == suite for source in sources) else []


def _split_pocket(listed: str) -> tuple[str, str]:
    for pocket in POCKETS[1:]:
        if listed.endswith(pocket):
            return listed.removesuffix(pocket), pocket
    return listed, ""


Entry = tuple[str, str, list[str], bool]  # address, suite, components, whether Valid-Until counts


def _parse_lines(text: str) -> Iterator[Entry]:
    """The one-line format: `deb [options] uri suite component…`."""
    for line in text.splitlines():
        match = re.match(
            r"deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<rest>[^#]*)",
            line.strip(),
        )
        if match:
            options = (match["options"] or "").lower().replace(" ", "")
            yield match["uri"], match["suite"], match["rest"].split(), "check-valid-until=no" not in options


def _parse_deb822(text: str) -> Iterator[Entry]:
    """The stanza format of sources.list(5)."""
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[key] = f"{fields.get(key, '')} {line.strip()}"
            else:
                name, _, value = line.partition(":")
                key = name.strip().lower()
                fields[key] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in (
            "no",
            "false",
        ):
            continue
        check = fields.get("check-valid-until", "yes").lower() not in ("no", "false")
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield uri, suite, fields.get("components", "").split(), check
