"""Packages are read whole or refused: nothing of a hostile archive reaches outside the tree."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from storage.images import deb as deb_module
from storage.images.deb import read_deb
from storage.images.errors import BadPackage
from storage.images.tree import Spool

CONTROL = b"Package: hello\nVersion: 1\nArchitecture: all\n"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path / "spool") as opened:
        yield opened


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, body in members:
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return raw.getvalue()


def ar(*members: tuple[str, bytes]) -> bytes:
    raw = b"!<arch>\n"
    for name, body in members:
        raw += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode()
            + body
            + b"\n" * (len(body) % 2)
        )
    return raw


def package(path: Path, data: bytes, name: str = "data.tar", control: bytes | None = None) -> Path:
    control = (
        tar((member("./control"), CONTROL), (member("./postinst"), b"#!/bin/sh\n"))
        if control is None
        else control
    )
    path.write_bytes(
        ar(("debian-binary", b"2.0\n"), ("control.tar.gz", gzip.compress(control)), (name, data))
    )
    return path


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("data.tar", bytes),
        ("data.tar.gz", gzip.compress),
        ("data.tar.xz", lzma.compress),
        ("data.tar.zst", lambda raw: zstandard.ZstdCompressor().compress(raw)),
    ],
)
def test_it_works(tmp_path: Path, spool: Spool, name: str, compress: object) -> None:
    assert callable(compress)
    long = "./usr/share/" + "x" * 120
    data = tar(
        (member("./", tarfile.DIRTYPE, mode=0o755), b""),
        (member("./usr/bin/hello", mode=0o4755, uid=0, gid=42, mtime=77), b"program"),
        (member("./usr/bin/hi", tarfile.LNKTYPE, linkname="./usr/bin/hello"), b""),
        (member("./usr/bin/hey", tarfile.SYMTYPE, linkname="/etc/alternatives/hey"), b""),
        (member(long), b"long name"),
    )
    deb = read_deb(package(tmp_path / "hello.deb", compress(data), name), spool)
    assert deb.control["control"] == CONTROL
    assert set(deb.control) == {"control", "postinst"}
    root, program, hard, soft, longest = deb.entries
    assert root.path == "/"
    assert root.node is not None
    assert root.node.kind == "directory"
    assert program.node is not None
    assert (program.path, program.node.mode, program.node.gid, program.node.mtime) == (
        "/usr/bin/hello",
        0o4755,
        42,
        77,
    )
    assert program.node.content is not None
    assert program.node.content.read() == b"program"
    assert (hard.path, hard.node, hard.hardlink) == ("/usr/bin/hi", None, "/usr/bin/hello")
    assert soft.node is not None
    assert soft.node.target == "/etc/alternatives/hey"
    assert longest.path == long[1:]


def test_only_wanted_contents_are_kept(tmp_path: Path, spool: Spool) -> None:
    data = tar((member("./a"), b"aaaa"), (member("./b"), b"bbbb"))
    deb = read_deb(package(tmp_path / "x.deb", data), spool, lambda path: path == "/b")
    contents = [entry.node.content.read() for entry in deb.entries if entry.node and entry.node.content]
    assert contents == [b"", b"bbbb"]


@pytest.mark.parametrize(
    "hostile",
    [
        member("../etc/passwd"),
        member("./usr/../../etc/passwd"),
        member("/etc/passwd"),
        member("./dev/sda", tarfile.BLKTYPE, devmajor=8),
        member("./dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("./pipe", tarfile.FIFOTYPE),
        member("./link", tarfile.LNKTYPE, linkname="../../etc/shadow"),
        member("./soft", tarfile.SYMTYPE, linkname=""),
    ],
    ids=lambda info: f"{info.name} {info.type!r}",
)
def test_hostile_members_are_refused(tmp_path: Path, spool: Spool, hostile: tarfile.TarInfo) -> None:
    with pytest.raises(BadPackage):
        read_deb(package(tmp_path / "bad.deb", tar((hostile, b""))), spool)


def test_a_bomb_is_refused(tmp_path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb_module, "MAX_UNPACKED", 1 << 20)
    data = tar((member("./zeros"), bytes(2 << 20)))
    with pytest.raises(BadPackage, match="more than is allowed"):
        read_deb(package(tmp_path / "bomb.deb", lzma.compress(data), "data.tar.xz"), spool)


def test_too_many_files_are_refused(tmp_path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb_module, "MAX_MEMBERS", 3)
    data = tar(*((member(f"./{number}"), b"") for number in range(4)))
    with pytest.raises(BadPackage, match="more files"):
        read_deb(package(tmp_path / "many.deb", data), spool)


def damage(raw: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "no archive": b"PK\3\4" + raw,
        "cut in the header": raw[:30],
        "cut in the data": raw[:-100],
        "size is not a number": raw.replace(b"4         `\n2.0", b"-4        `\n2.0"),
        "size beyond the end": raw.replace(b"4         `\n2.0", b"999999999 `\n2.0"),
        "other version": raw.replace(b"`\n2.0", b"`\n9.0"),
        "damaged xz": raw[:-60] + b"\xff" * 40 + raw[-20:],
    }


@pytest.mark.parametrize("how", damage(b""))
def test_damaged_packages_are_refused(tmp_path: Path, spool: Spool, how: str) -> None:
    data = lzma.compress(tar((member("./a"), bytes(range(256)) * 64)))
    path = package(tmp_path / "x.deb", data, "data.tar.xz")
    path.write_bytes(damage(path.read_bytes())[how])
    with pytest.raises(BadPackage):
        read_deb(path, spool)


def test_a_package_without_control_or_of_unknown_compression_is_refused(tmp_path: Path, spool: Spool) -> None:
    with pytest.raises(BadPackage, match="no control file"):
        read_deb(package(tmp_path / "x.deb", tar(), control=tar((member("./md5sums"), b""))), spool)
    with pytest.raises(BadPackage, match="unknown compression"):
        read_deb(package(tmp_path / "y.deb", b"", "data.tar.rot13"), spool)
    with pytest.raises(BadPackage, match="control archive holds"):
        read_deb(package(tmp_path / "z.deb", tar(), control=tar((member("./a/control"), b""))), spool)
