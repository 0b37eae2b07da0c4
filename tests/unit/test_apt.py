"""Packages come from a signed archive through every digest, or not at all; a mirror may lie, be slow, or be
updating.
"""

from __future__ import annotations

import hashlib
import lzma
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pysequoia
import pytest

from storage.images.apt import KEYRING, Selection, fetch_packages
from storage.images.errors import (
    BadRecipe,
    MirrorInconsistent,
    MirrorUnreachable,
    MirrorUntrusted,
    PackagesUnresolved,
)
from storage.images.resolve import Catalogue, Package, compare_versions, parse_dependencies, resolve
from storage.images.sources import Source, find_sources


@dataclass
class Archive:
    """A Debian archive of one suite behind a real HTTP server, with faults to switch on."""

    key: pysequoia.Tsk
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, list[int | bytes]] = field(
        default_factory=dict
    )  # next answers for a path, then its file
    requests: list[str] = field(default_factory=list)

    def publish(
        self, packages: dict[str, str], *, signer: pysequoia.Tsk | None = None, extra: str = ""
    ) -> None:
        """Makes `dists/` and `pool/` for packages: name → further fields of its stanza."""
        index = ""
        for name, fields in packages.items():
            body = f"package {name}".encode() * 100
            self.files[f"/pool/{name}.deb"] = body
            index += (
                f"Package: {name}\nVersion: 1\nArchitecture: i386\n{fields}Filename: pool/{name}.deb\n"
                f"Size: {len(body)}\nSHA256: {hashlib.sha256(body).hexdigest()}\n\n"
            )
        raw = lzma.compress(index.encode())
        digest = hashlib.sha256(raw).hexdigest()
        path = "main/binary-i386/Packages.xz"
        release = (
            "Origin: Debian\nSuite: oldstable\nCodename: bookworm\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n"
            f"Acquire-By-Hash: yes\n{extra}SHA256:\n {digest} {len(raw)} {path}\n"
        )
        signed = pysequoia.sign(
            (signer or self.key).signer(), release.encode(), mode=pysequoia.SignatureMode.CLEAR
        )
        self.files["/dists/bookworm/InRelease"] = signed
        self.files[f"/dists/bookworm/{path}"] = raw
        self.files[f"/dists/bookworm/main/binary-i386/by-hash/SHA256/{digest}"] = raw


@pytest.fixture(scope="module")
def key() -> pysequoia.Tsk:
    return pysequoia.Tsk.generate("Test archive <archive@example.org>")


@pytest.fixture
def archive(key: pysequoia.Tsk) -> Iterator[Archive]:
    made = Archive(key)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.requests.append(self.path)
            queued = made.answers.get(self.path, [])
            answer = queued.pop(0) if queued else made.files.get(self.path, 404)
            body = b"" if isinstance(answer, int) else answer
            if answer == 0:  # hang up in the middle
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"half")
                self.close_connection = True
                return
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()


Fetch = Callable[..., Selection]


@pytest.fixture
def fetch(archive: Archive, tmp_path: Path, key: pysequoia.Tsk) -> Fetch:
    keyring = tmp_path / "keyring"
    keyring.write_text(str(key.extract_certificate()))

    def call(*wanted: str, sources: list[list[Source]] | None = None, **more: object) -> Selection:
        progress: list[tuple[int, int]] = []
        options: dict[str, object] = {"keyring": keyring, "pause": lambda _seconds: None, **more}
        try:
            return fetch_packages(
                sources or [[Source(archive.url, "bookworm")]],
                "i386",
                wanted,
                tmp_path / "cache",
                lambda done, total: progress.append((done, total)),
                **options,  # type: ignore[arg-type]
            )
        finally:
            assert all(0 <= done <= total for done, total in progress)

    return call


def test_it_works(archive: Archive, fetch: Fetch, tmp_path: Path) -> None:
    archive.publish(
        {
            "base": "Priority: required\n",
            "app": "Depends: lib (>= 1)\n",
            "lib": "",
            "tool": "Depends: app\n",
            "other": "",
        }
    )
    selection = fetch("app", loose=["tool"])
    assert [package.name for package in selection.packages] == ["app", "base", "lib"]
    assert [package.name for package in selection.loose] == ["tool"]
    assert set(selection.files) == {"app", "base", "lib", "tool"}
    assert selection.files["lib"].read_bytes() == archive.files["/pool/lib.deb"]
    assert selection.date.year == 2026
    assert not list((tmp_path / "cache").glob("part-*"))


def test_a_second_time_downloads_nothing_but_the_release(archive: Archive, fetch: Fetch) -> None:
    archive.publish({"app": ""})
    fetch("app")
    archive.requests.clear()
    fetch("app")
    assert archive.requests == ["/dists/bookworm/InRelease"]


def test_a_damaged_cache_is_repaired(archive: Archive, fetch: Fetch) -> None:
    archive.publish({"app": ""})
    path = fetch("app").files["app"]
    path.write_bytes(b"x" * path.stat().st_size)
    assert fetch("app").files["app"].read_bytes() == archive.files["/pool/app.deb"]


def test_another_key_is_not_trusted(archive: Archive, fetch: Fetch) -> None:
    archive.publish({"app": ""}, signer=pysequoia.Tsk.generate("Mallory <m@example.org>"))
    with pytest.raises(MirrorUntrusted, match="signature"):
        fetch("app")


def test_an_altered_or_unsigned_release_is_not_trusted(archive: Archive, fetch: Fetch) -> None:
    archive.publish({"app": ""})
    signed = archive.files["/dists/bookworm/InRelease"]
    for altered in (signed.replace(b"Origin: Debian", b"Origin: Mallory"), b"Suite: bookworm\n", b""):
        archive.files["/dists/bookworm/InRelease"] = altered
        with pytest.raises(MirrorUntrusted):
            fetch("app")


def test_only_what_is_signed_is_read(archive: Archive, fetch: Fetch) -> None:
    archive.publish({"app": ""})
    signed = archive.files["/dists/bookworm/InRelease"]
    archive.files["/dists/bookworm/InRelease"] = b"SHA256:\n 00 1 main/binary-i386/Packages.xz\n" + signed
    try:
        selection = fetch("app")
    except MirrorUntrusted:
        return
    assert selection.files["app"].read_bytes() == archive.files["/pool/app.deb"]


def test_the_signed_release_of_another_suite_is_not_taken(archive: Archive, fetch: Fetch) -> None:
    archive.publish({"app": ""})
    archive.files["/dists/trixie/InRelease"] = archive.files["/dists/bookworm/InRelease"]
    with pytest.raises(MirrorUntrusted, match="another suite"):
        fetch("app", sources=[[Source(archive.url, "trixie")]])


def test_an_expired_release_is_not_taken_unless_the_host_says_so(archive: Archive, fetch: Fetch) -> None:
    archive.publish({"app": ""}, extra="Valid-Until: Sat, 18 Jul 2020 10:16:37 UTC\n")
    with pytest.raises(MirrorUntrusted, match="valid until"):
        fetch("app")
    frozen = Source(archive.url, "bookworm", check_valid_until=False)
    assert fetch("app", sources=[[frozen]]).packages


def test_a_mirror_in_the_middle_of_an_update_is_asked_again(archive: Archive, fetch: Fetch) -> None:
    archive.publish({"app": ""})
    old = dict(archive.files)
    archive.publish({"app": "", "lib": ""})
    # The release is still the old one for once, and its index is gone already.
    archive.answers["/dists/bookworm/InRelease"] = [old["/dists/bookworm/InRelease"]]
    for path in set(old) - {"/dists/bookworm/InRelease", "/dists/bookworm/main/binary-i386/Packages.xz"}:
        if "by-hash" in path:
            del archive.files[path]
    assert [package.name for package in fetch("lib").packages] == ["lib"]


def test_a_package_that_is_gone_or_altered_for_once_is_fetched_again(archive: Archive, fetch: Fetch) -> None:
    archive.publish({"app": ""})
    body = archive.files["/pool/app.deb"]
    archive.answers["/pool/app.deb"] = [404, b"short", b"y" * len(body)]
    assert fetch("app").files["app"].read_bytes() == body


def test_a_lying_mirror_is_given_up(archive: Archive, fetch: Fetch, tmp_path: Path) -> None:
    archive.publish({"app": ""})
    archive.files["/pool/app.deb"] = b"evil" * 100
    with pytest.raises(MirrorInconsistent):
        fetch("app")
    assert b"evil" * 100 not in [path.read_bytes() for path in (tmp_path / "cache").iterdir()]


def test_trouble_of_the_server_is_waited_out(archive: Archive, fetch: Fetch) -> None:
    archive.publish({"app": ""})
    archive.answers["/dists/bookworm/InRelease"] = [503, 0]
    archive.answers["/pool/app.deb"] = [0, 500]
    assert fetch("app").files["app"].read_bytes() == archive.files["/pool/app.deb"]


def test_no_network_is_one_clear_error(fetch: Fetch) -> None:
    with pytest.raises(MirrorUnreachable, match="Check the network"):
        fetch("app", sources=[[Source("http://127.0.0.1:9", "bookworm")]])


def test_the_next_set_of_sources_is_tried_when_the_first_is_down(archive: Archive, fetch: Fetch) -> None:
    archive.publish({"app": ""})
    down = [Source("http://127.0.0.1:9", "bookworm")]
    assert fetch("app", sources=[down, [Source(archive.url, "bookworm")]]).packages


def test_an_optional_suite_may_be_missing_or_broken(archive: Archive, fetch: Fetch) -> None:
    archive.publish({"app": ""})
    notes: list[str] = []
    missing = Source(archive.url, "bookworm-updates", optional=True)
    assert fetch("app", sources=[[Source(archive.url, "bookworm"), missing]], note=notes.append).packages
    broken = Archive(archive.key)
    broken.publish({"app": "", "lib": ""})
    release = broken.files["/dists/bookworm/InRelease"]
    archive.files["/s/dists/bookworm/InRelease"] = release
    security = Source(f"{archive.url}/s", "bookworm", optional=True)
    assert fetch("app", sources=[[Source(archive.url, "bookworm"), security]], note=notes.append).packages
    assert len(notes) == 1
    assert "Going on without" in notes[0]


def test_the_shipped_keys_are_those_of_the_archive() -> None:
    fingerprints = {certificate.fingerprint for certificate in pysequoia.Cert.split_file(str(KEYRING))}
    assert fingerprints == {
        "b8b80b5b623eab6ad8775c45b7c5d7d6350947f8",  # bookworm automatic
        "05ab90340c0c5e797f44a8c8254cf3b5aec0a8f0",  # bookworm security automatic
        "4d64fec119c2029067d6e791f8d2585b8783d481",  # bookworm stable
    }


# Versions and dependencies


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("1.0", "1.1"),
        ("1.9", "1.10"),
        ("1.0~rc1", "1.0"),
        ("1.0", "1.0a"),
        ("1.0a", "1.0+"),
        ("9", "1:0"),
        ("1.0-1", "1.0-1+deb12u1"),
        ("1.0-1~bpo", "1.0-1"),
        ("1.0", "1.0-1"),
        ("2.36-9+deb12u9", "2.36-9+deb12u14"),
        ("1.0-a-1", "1.0-a-2"),
        ("6.1.0-9-686", "6.1.0-50-686"),
    ],
)
def test_versions_are_ordered_as_debian_does(lower: str, higher: str) -> None:
    assert compare_versions(lower, higher) == -1
    assert compare_versions(higher, lower) == 1
    assert compare_versions(lower, lower) == 0


def package(name: str, version: str = "1", **fields: str) -> Package:
    more = "".join(f"{key.replace('_', '-').title()}: {value}\n" for key, value in fields.items())
    return Package(f"Package: {name}\nVersion: {version}\n{more}".rstrip("\n"))


def names(catalogue: list[Package], *wanted: str) -> list[str]:
    return [chosen.name for chosen in resolve(Catalogue(catalogue), wanted)]


def test_dependencies_alternatives_and_providers_are_followed() -> None:
    mail = package("mail-a", provides="mail (= 2), post", priority="optional")
    rare = package("mail-0", provides="mail", priority="extra")
    app = package("app", pre_depends="libc:any", depends="mail | nothing, no-such | tool (>= 2)")
    rest = [package("libc"), package("tool", "2"), package("unrelated")]
    assert names([mail, rare, app, *rest], "app") == ["app", "libc", "mail-a", "tool"]
    assert names([mail, rare, app, *rest], "app", "mail-0") == ["app", "libc", "mail-0", "tool"]


def test_the_base_system_comes_along_without_recommendations() -> None:
    base = [package("a", essential="yes", recommends="r"), package("b", priority="required"), package("r")]
    assert names(base) == ["a", "b"]


def test_the_newest_version_wins_and_cycles_end() -> None:
    both = [package("a", "1", depends="b"), package("a", "2", depends="b"), package("b", depends="a (>= 2)")]
    chosen = resolve(Catalogue(both), ["a"])
    assert [(one.name, one.version) for one in chosen] == [("a", "2"), ("b", "1")]


@pytest.mark.parametrize(
    "catalogue",
    [
        [package("app", depends="missing")],
        [package("app", depends="lib (>= 2)"), package("lib", "1")],
        [package("app", depends="virtual (>= 1)"), package("p", provides="virtual")],
        [package("app", conflicts="lib", depends="lib"), package("lib")],
        [package("app", depends="b"), package("b", breaks="app (<< 2)")],
        [package("app", depends="a (>= 1")],
        [package("other")],
    ],
)
def test_what_cannot_be_resolved_is_an_error(catalogue: list[Package]) -> None:
    with pytest.raises(PackagesUnresolved):
        names(catalogue, "app")


def test_a_dependency_field_is_read() -> None:
    groups = parse_dependencies("a (>= 1:2.3-4~x) | b:any,\n c")
    assert [[one.name for one in group] for group in groups] == [["a", "b"], ["c"]]
    assert groups[0][0].accepts("1:2.3-4")
    assert not groups[0][0].accepts("1:2.3-4~w")


# Where packages come from


def test_a_given_mirror_is_the_only_one(tmp_path: Path) -> None:
    (sources,) = find_sources("http://one/debian/ https://two/debian-security", "bookworm", tmp_path)
    assert [(source.uri, source.suite, source.optional) for source in sources] == [
        ("http://one/debian", "bookworm", False),
        ("http://one/debian", "bookworm-updates", True),
        ("https://two/debian-security", "bookworm-security", False),
    ]
    for wrong in ("ftp://one/debian", "/srv/mirror", "file:///etc"):
        with pytest.raises(BadRecipe):
            find_sources(wrong, "bookworm", tmp_path)


def test_the_hosts_own_sources_come_before_the_public_mirror(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://commented/debian bookworm main\n"
        "deb [ arch=amd64 check-valid-until=no ] http://line/debian bookworm main contrib # why\n"
        "deb-src http://source/debian bookworm main\n"
        "deb http://other/apt nodistro main\n"
        "deb cdrom:[x]/ bookworm main\n"
    )
    (tmp_path / "sources.list.d" / "debian.sources").write_text(
        "Types: deb\nURIs: http://stanza/debian\n# a comment\nSuites: bookworm bookworm-updates\n"
        "Components: main\n\nTypes: deb\nEnabled: no\nURIs: http://off/debian\nSuites: bookworm\n"
        "Components: main\n"
    )
    host, public = find_sources(None, "bookworm", tmp_path)
    assert [(source.uri, source.suite, source.check_valid_until) for source in host] == [
        ("http://line/debian", "bookworm", False),
        ("http://stanza/debian", "bookworm", True),
        ("http://stanza/debian", "bookworm-updates", True),
    ]
    assert {source.uri for source in public} == {
        "http://ftp.debian.org/debian",
        "http://security.debian.org/debian-security",
    }


def test_a_host_of_another_release_lends_its_mirror_and_one_of_another_system_none(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://near/debian trixie main\n")
    host, _ = find_sources(None, "bookworm", tmp_path)
    assert [(source.uri, source.suite) for source in host] == [("http://near/debian", "bookworm")]
    (tmp_path / "sources.list").write_text("deb http://near/ubuntu noble main\n")
    assert len(find_sources(None, "bookworm", tmp_path)) == 1
    assert len(find_sources("", "bookworm", tmp_path / "no-such")) == 1
