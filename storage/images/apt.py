"""Fetching packages from a Debian archive: signed index, digests all the way down, a cache by content.

The chain of trust: the archive keys shipped here sign InRelease, which has the digest of each Packages index,
which has the digest of each package. A mirror in the middle of an update answers with files that do not fit
together; then all is asked again, a few times.
"""

from __future__ import annotations

import hashlib
import http.client
import lzma
import os
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pysequoia

from storage.images.errors import MirrorInconsistent, MirrorUnreachable, MirrorUntrusted
from storage.images.resolve import Catalogue, Package, resolve
from storage.images.sources import Source

KEYRING = Path(__file__).parent / "guest" / "debian-archive-bookworm.gpg"
ATTEMPTS = 4  # of the whole chain, while a mirror updates itself
OPTIONAL_ATTEMPTS = 2  # of a suite that the image can do without
CONNECT_ATTEMPTS = 3  # of one request
THREADS = 6
TIMEOUT_S = 30
PIECE = 1 << 18
MAX_RELEASE = 8 << 20
MAX_INDEX = 64 << 20  # bytes of a compressed Packages file
MAX_INDEX_UNPACKED = 512 << 20
MAX_PACKAGE = 1 << 30

Progress = Callable[[int, int], None]
Note = Callable[[str], None]
Result = TypeVar("Result")


class _Missing(Exception):
    """The mirror answered that it has no such file."""


class _Inconsistent(Exception):
    """The mirror's files do not fit together: it lies, or it is being updated."""


@dataclass(frozen=True)
class Release:
    """A verified InRelease file."""

    source: Source
    date: datetime
    by_hash: bool
    digests: dict[str, tuple[str, int]]  # path → SHA-256, size


@dataclass(frozen=True)
class Selection:
    """The packages of an image, and loose ones that are only fetched, each with its file in the cache by
    name.

    `date` is the newest of the archive's releases.
    """

    packages: list[Package]
    loose: list[Package]
    files: dict[str, Path]
    date: datetime


def fetch_packages(
    source_sets: Sequence[Sequence[Source]],
    architecture: str,
    wanted: Iterable[str],
    cache_dir: Path,
    report: Progress,
    *,
    note: Note = lambda _text: None,
    loose: Sequence[str] = (),
    extra: Sequence[Package] = (),
    keyring: Path = KEYRING,
    pause: Callable[[float], None] = time.sleep,
) -> Selection:
    """Resolves the wanted packages and the `extra` ones of our own, and brings all files into the cache; the
    `loose` ones come along without what they depend on.

    Tries the sets of sources in order until one can be reached. `report(done, total)` counts bytes of
    packages, `note` hears of what a person should know (a suite that was left out). Raises
    `MirrorUnreachable`, `MirrorInconsistent`, `MirrorUntrusted`, `PackagesUnresolved`.
    """
    names = list(wanted)
    for number, sources in enumerate(source_sets):
        fetcher = _Fetcher(cache_dir, keyring, pause, note)
        try:
            return fetcher.fetch(sources, architecture, names, loose, extra, report)
        except (MirrorUnreachable, MirrorInconsistent):
            if number == len(source_sets) - 1:
                raise
    raise MirrorUnreachable("No Debian mirror is known.")


class _Fetcher:
    def __init__(self, cache_dir: Path, keyring: Path, pause: Callable[[float], None], note: Note) -> None:
        self._cache = cache_dir
        self._note = note
        self._pause = pause
        self._certificates = pysequoia.Cert.split_file(str(keyring))
        cache_dir.mkdir(parents=True, exist_ok=True)

    def fetch(
        self,
        sources: Sequence[Source],
        architecture: str,
        names: list[str],
        loose: Sequence[str],
        extra: Sequence[Package],
        report: Progress,
    ) -> Selection:
        def once() -> Selection:
            indexes = [index for source in sources if (index := self._load(source, architecture)) is not None]
            packages = [package for _, found in indexes for package in found]
            catalogue = Catalogue([*packages, *extra])
            chosen = resolve(catalogue, [*names, *(package.name for package in extra)])
            alone = [catalogue.get(name) for name in loose]
            files = self._download([package for package in {*chosen, *alone} if package.uri], report)
            return Selection(chosen, alone, files, max(release.date for release, _ in indexes))

        return self._until_consistent(once, ATTEMPTS)

    def _until_consistent(self, step: Callable[[], Result], attempts: int) -> Result:
        """Does it again, from the signed index on, while the mirror's files do not fit together."""
        for attempt in range(attempts):
            if attempt:
                self._pause(2.0 ** (attempt - 1))
            try:
                return step()
            except _Inconsistent as error:
                reason = str(error)
            except _Missing as error:
                reason = f"{error} is not there"
        raise MirrorInconsistent(
            f"The Debian mirror's files do not fit together: {reason}. Set another mirror."
        )

    def _load(self, source: Source, architecture: str) -> tuple[Release, list[Package]] | None:
        """A suite's packages. One that may be missing, and stays inconsistent, is left out with a note."""

        def once() -> tuple[Release, list[Package]] | None:
            release = self._release(source)
            return None if release is None else (release, list(self._index(release, architecture)))

        try:
            return self._until_consistent(once, OPTIONAL_ATTEMPTS if source.optional else ATTEMPTS)
        except MirrorInconsistent as error:
            if not source.optional:
                raise
            self._note(f"Going on without {source.suite}. {error.text}")
            return None

    def _release(self, source: Source) -> Release | None:
        url = f"{source.uri}/dists/{source.suite}/InRelease"
        try:
            raw = self._request(url, MAX_RELEASE)
        except _Missing:
            if source.optional:
                return None
            raise MirrorUnreachable(f"{source.uri} has no suite {source.suite}.") from None
        fields = _parse_release(self._verify(raw, url))
        if source.suite not in (fields.get("codename"), fields.get("suite")):
            raise MirrorUntrusted(f"{url} is the signed index of another suite.")
        until = fields.get("valid-until")
        if until and source.check_valid_until and parsedate_to_datetime(until) < datetime.now(UTC):
            raise MirrorUntrusted(
                f"{url} was valid until {until} only: the mirror is out of date, or the clock here is wrong."
            )
        digests: dict[str, tuple[str, int]] = {}
        for line in fields.get("sha256", "").splitlines():
            parts = line.split()
            if len(parts) == 3 and parts[1].isdigit():
                digests[parts[2]] = (parts[0], int(parts[1]))
        date = parsedate_to_datetime(fields["date"])
        return Release(source, date, fields.get("acquire-by-hash") == "yes", digests)

    def _verify(self, raw: bytes, url: str) -> str:
        """The signed text, if one of the archive's keys signed it."""
        try:
            result = pysequoia.verify(bytes=raw, store=lambda _ids: self._certificates)
        except Exception as error:  # the library has no error class of its own
            raise MirrorUntrusted(f"{url} carries no valid signature of the Debian archive.") from error
        if not result.valid_sigs or result.bytes is None:
            raise MirrorUntrusted(f"{url} carries no valid signature of the Debian archive.")
        return bytes(result.bytes).decode("utf-8", "replace")

    def _index(self, release: Release, architecture: str) -> Iterable[Package]:
        path = f"main/binary-{architecture}/Packages.xz"
        if path not in release.digests:
            raise MirrorUntrusted(
                f"{release.source.uri} has no packages for {architecture} in {release.source.suite}."
            )
        digest, size = release.digests[path]
        base = f"{release.source.uri}/dists/{release.source.suite}"
        urls = [f"{base}/{path}"]
        if release.by_hash:
            urls.insert(0, f"{base}/main/binary-{architecture}/by-hash/SHA256/{digest}")
        if size > MAX_INDEX:
            raise MirrorUntrusted(f"The index {path} is larger than is allowed.")
        file = self._cached(urls, digest, size)
        decompressor = lzma.LZMADecompressor()
        try:
            text = decompressor.decompress(file.read_bytes(), MAX_INDEX_UNPACKED)
        except lzma.LZMAError as error:
            raise MirrorUntrusted(f"The index {path} is damaged.") from error
        if not decompressor.eof:
            raise MirrorUntrusted(f"The index {path} is larger than is allowed.")
        for stanza in text.decode("utf-8", "replace").split("\n\n"):
            if stanza.strip():
                yield Package(stanza.strip("\n"), release.source.uri)

    def _download(self, packages: list[Package], report: Progress) -> dict[str, Path]:
        total = sum(int(package.fields["size"]) for package in packages)
        done = 0
        lock = threading.Lock()
        stop = threading.Event()

        def count(size: int) -> None:
            nonlocal done
            with lock:
                done += size
                report(min(done, total), total)

        def bring(package: Package) -> Path:
            digest, size = package.fields["sha256"], int(package.fields["size"])
            if size > MAX_PACKAGE:
                raise MirrorUntrusted(f"The package {package.name} is larger than is allowed.")
            url = f"{package.uri}/{quote(package.fields['filename'], safe='/+~._-')}"
            return self._cached([url], digest, size, count, stop)

        with ThreadPoolExecutor(THREADS) as pool:
            # The largest first, so that the last thread does not end long after the others.
            ordered = sorted(packages, key=lambda package: -int(package.fields["size"]))
            futures = {package.name: pool.submit(bring, package) for package in ordered}
            try:
                return {name: future.result() for name, future in futures.items()}
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _cached(
        self,
        urls: list[str],
        digest: str,
        size: int,
        count: Callable[[int], None] = lambda _size: None,
        stop: threading.Event | None = None,
    ) -> Path:
        """The file with this digest, from the cache or the first address that has it."""
        path = self._cache / digest
        if path.is_file() and path.stat().st_size == size and _digest(path) == digest:
            count(size)
            return path
        for number, url in enumerate(urls):
            try:
                raw_digest, temporary = self._request_file(url, size, count, stop)
            except _Missing:
                if number == len(urls) - 1:
                    raise
                continue
            if raw_digest != digest:
                temporary.unlink()
                count(-size)
                raise _Inconsistent(f"{url} has another digest than its index says")
            os.replace(temporary, path)
            return path
        raise _Missing(urls[-1])

    def _request(self, url: str, limit: int) -> bytes:
        raw = bytearray()
        self._transfer(url, limit, raw.extend, raw.clear, None)
        return bytes(raw)

    def _request_file(
        self, url: str, size: int, count: Callable[[int], None], stop: threading.Event | None
    ) -> tuple[str, Path]:
        """Downloads to a temporary file beside the cache's; returns its digest."""
        handle, name = tempfile.mkstemp(prefix="part-", dir=self._cache)
        path = Path(name)
        hasher = hashlib.sha256()
        written = 0
        try:
            with os.fdopen(handle, "wb") as file:

                def take(piece: bytes) -> None:
                    nonlocal written
                    file.write(piece)
                    hasher.update(piece)
                    written += len(piece)
                    count(len(piece))

                def restart() -> None:
                    nonlocal hasher, written
                    file.seek(0)
                    file.truncate()
                    hasher = hashlib.sha256()
                    count(-written)
                    written = 0

                self._transfer(url, size, take, restart, stop)
            if written != size:
                count(-written)
                raise _Inconsistent(f"{url} has {written} bytes, its index says {size}")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return hasher.hexdigest(), path

    def _transfer(
        self,
        url: str,
        limit: int,
        take: Callable[[bytes], object],
        restart: Callable[[], None],
        stop: threading.Event | None,
    ) -> None:
        """One GET, asked again with growing pauses when the connection fails or the server has trouble."""
        reason = ""
        for attempt in range(CONNECT_ATTEMPTS):
            if attempt:
                self._pause(1.0 * attempt)
                restart()
            try:
                request = urllib.request.Request(url, headers={"User-Agent": "webvm"})  # noqa: S310 - http(s) by find_sources
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                    size = 0
                    while piece := answer.read(PIECE):
                        size += len(piece)
                        if size > limit:
                            raise _Inconsistent(f"{url} is longer than {limit} bytes")
                        take(piece)
                        if stop is not None and stop.is_set():
                            raise MirrorUnreachable("The download was stopped.")
                    if answer.length:
                        raise ConnectionError("the connection ended early")
                    return
            except urllib.error.HTTPError as error:
                error.close()
                if error.code in (404, 410):
                    raise _Missing(url) from error
                reason = f"it answered {error.code}"
                if error.code < 500 and error.code != 429:
                    break
            except urllib.error.URLError as error:
                reason = str(error.reason)
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
        raise MirrorUnreachable(
            f"{url} could not be fetched ({reason}). Check the network, or set another Debian mirror.",
            url=url,
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse_release(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    key = ""
    for line in text.splitlines():
        if line.startswith(" "):
            fields[key] += "\n" + line
        else:
            name, _, value = line.partition(":")
            key = name.lower()
            fields[key] = value.strip()
    return fields
