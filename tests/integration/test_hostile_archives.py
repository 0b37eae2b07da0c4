"""Archives that nobody should have made: each is a clear error, and nothing changes."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from asgiref.sync import sync_to_async
from django.conf import LazySettings

from sessions.archives.machines import STATE_FORMATS
from storage.codec import BLOCK
from tests.support.archives import (
    LINUX_STATE,
    PC_STATE,
    Members,
    World,
    info,
    job_of,
    linux_state_header,
    make_world,
    members_of,
    pack,
    post,
    rebuilt,
    state_header,
    tar_of,
)

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def world(settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(settings, tmp_path, monkeypatch)


def renamed(members: Members, old: str, new: str) -> bytes:
    for member, _ in members:
        member.name = new if member.name == old else member.name
    return pack(members)


def lying(members: Members, name: str, size: int) -> bytes:
    """A header that claims another size than what follows has."""
    raw = b""
    for member, data in members:
        member.size = size if member.name == name else member.size
        raw += member.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)
    return zstandard.ZstdCompressor(level=1).compress(raw + bytes(1024))


def flipped(members: Members, name: str) -> bytes:
    return pack((member, raw[:-1] + b"!" if member.name == name else raw) for member, raw in members)


def of_memory(members: Members, header: bytes) -> bytes:
    raw = bytearray({member.name: raw for member, raw in members}["memory.raw"])
    raw[256 * BLOCK : 257 * BLOCK] = header
    return rebuilt(members, memory=bytes(raw))


def bomb(members: Members) -> bytes:
    """A manifest of a gigabyte of spaces in a few kilobytes."""
    head = zstandard.ZstdCompressor(level=1).compress(info("manifest.json", 1 << 30).tobuf())
    return head + b"".join([zstandard.ZstdCompressor(level=1).compress(b" " * (16 << 20))] * 64)


def wide(members: Members) -> bytes:
    """A frame that wants a window of 128 MiB."""
    options = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    stream = zstandard.ZstdCompressor(compression_params=options).compressobj()
    return stream.compress(tar_of(members)) + stream.flush()


HOSTILE: dict[str, tuple[str, Callable[[Members], bytes]]] = {
    "nothing": ("bad_archive", lambda _: b""),
    "a zip": ("bad_archive", lambda _: b"PK\x03\x04" + bytes(5000)),
    "a plain tar": ("bad_archive", tar_of),
    "no tar inside": ("bad_archive", lambda _: zstandard.ZstdCompressor().compress(b"hello" * 5000)),
    "an empty tar": ("bad_archive", lambda _: pack([])),
    "cut in the middle": ("archive_damaged", lambda members: pack(members)[: len(pack(members)) // 2]),
    "without its last member": ("bad_archive", lambda members: pack(members[:-1])),
    "in another order": ("bad_archive", lambda m: pack([m[0], m[2], m[1], m[3]])),
    "with one more": ("bad_archive", lambda m: pack([*m, (info("more", 1), b"x")])),
    "with one more in between": ("bad_archive", lambda m: pack([m[0], (info("evil", 1), b"x"), *m[1:]])),
    "an absolute name": ("bad_archive", lambda m: renamed(m, "disk.raw", "/disk.raw")),
    "a name that climbs": ("bad_archive", lambda m: renamed(m, "disk.raw", "../disk.raw")),
    "a long name": ("bad_archive", lambda m: renamed(m, "disk.raw", "x" * 300 + "/disk.raw")),
    "a symbolic link": (
        "bad_archive",
        lambda m: pack([m[0], (info("disk.raw", 0, tarfile.SYMTYPE, "/etc/passwd"), b""), *m[2:]]),
    ),
    "a hard link": (
        "bad_archive",
        lambda m: pack([m[0], (info("disk.raw", 0, tarfile.LNKTYPE, "manifest.json"), b""), *m[2:]]),
    ),
    "a device": ("bad_archive", lambda m: pack([m[0], (info("disk.raw", 0, tarfile.BLKTYPE), b""), *m[2:]])),
    "a directory": ("bad_archive", lambda m: pack([(info("manifest.json", 0, tarfile.DIRTYPE), b""), *m])),
    "a disk of another size": ("bad_archive", lambda m: lying(m, "disk.raw", 1 << 40)),
    "a negative size": ("bad_archive", lambda m: lying(m, "digests.json", -5)),
    "a manifest of a gigabyte": ("bad_archive", bomb),
    "a huge window": ("archive_damaged", wide),
    "a changed disk": ("archive_damaged", lambda m: flipped(m, "disk.raw")),
    "a changed memory": ("archive_damaged", lambda m: flipped(m, "memory.raw")),
    "digests that are none": ("bad_archive", lambda m: flipped(m, "digests.json")),
    "a manifest that is no JSON": ("bad_archive", lambda m: flipped(m, "manifest.json")),
    "deep JSON": (
        "bad_archive",
        lambda m: pack([(info("manifest.json", 1 << 19), b"[" * (1 << 19)), *m[1:]]),
    ),
    "another format": ("bad_archive", lambda m: rebuilt(m, lambda man: man.update(format="ova"))),
    "a later version": ("archive_version", lambda m: rebuilt(m, lambda man: man.update(version=2))),
    "a field too many": ("bad_archive", lambda m: rebuilt(m, lambda man: man.update(tenant="x"))),
    "a name of two lines with escapes": (
        "bad_archive",
        lambda m: rebuilt(m, lambda man: man.update(name="a\x1b[2J")),
    ),
    "a picture that is none": (
        "bad_archive",
        lambda m: rebuilt(m, lambda man: man.update(thumbnail="PHN2Zz4=")),
    ),
    "an unknown machine": (
        "image_missing",
        lambda m: rebuilt(m, lambda man: man["machine"].update(cmdline="other")),
    ),
    "a disk of petabytes": (
        "image_missing",
        lambda m: rebuilt(m, lambda man: man["disk"].update(blocks=1 << 31)),
    ),
    "no device state": ("bad_memory", lambda m: of_memory(m, bytes(BLOCK))),
    "a later layout": ("bad_memory", lambda m: of_memory(m, state_header(layout=PC_STATE.layouts[-1] + 1))),
    "a memory of another size": ("bad_memory", lambda m: of_memory(m, state_header(ram_mib=64))),
    "a layout that nobody knows": (
        "bad_memory",
        lambda m: rebuilt(m, lambda man: man["memory"].update(layout=99)),
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_what_is_wrong_is_said_and_changes_nothing(world: World, what: str) -> None:
    code, make = HOSTILE[what]
    before = await sync_to_async(world.facts)()
    status, answer = await post(world.token, make(members_of(world.archive)))
    assert status == 202
    job = await job_of(answer)
    assert (job.state, job.error_code) == ("failed", code), job.error
    assert job.error.endswith(".")
    assert (await sync_to_async(world.facts)())[:4] == before[:4]
    assert not list(world.spool.glob("*"))


HOSTILE_LINUX: dict[str, bytes] = {
    "no device state": bytes(BLOCK),
    "the state of a PC": state_header(),
    "a later layout": linux_state_header(layout=LINUX_STATE.layouts[-1] + 1),
    "a memory of another size": linux_state_header(memory_mib=64),
    "no text": linux_state_header(text_bytes=0),
    "a text of gigabytes": linux_state_header(text_bytes=1 << 31),
}


@pytest.mark.parametrize("what", HOSTILE_LINUX)
async def test_the_state_of_a_linux_machine_is_looked_at(
    settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    world = await sync_to_async(make_world)(settings, tmp_path, monkeypatch, "linux")
    _, answer = await post(world.token, of_memory(members_of(world.archive), HOSTILE_LINUX[what]))
    assert answer["error_code"] == "bad_memory"
    status, _ = await post(world.token, world.archive)
    assert status == 202


async def test_an_image_that_is_missing_is_named(world: World) -> None:
    archive = rebuilt(
        members_of(world.archive),
        lambda manifest: (
            manifest["machine"].update(memory_mib=7),
            manifest["image"].update(title="<i>Other</i> Linux", slug="other", version=3),
        ),
    )
    _, answer = await post(world.token, archive)
    assert answer["error_code"] == "image_missing"
    assert "<i>Other</i> Linux, version 3 (other)" in answer["error"]


@pytest.mark.parametrize(
    ("kind", "path", "name"),
    [
        ("pc", "frontend/src/machine/pc/state.ts", "LAYOUT_VERSION"),
        ("linux", "frontend/engine/linux/state/state.ts", "LAYOUT"),
    ],
)
def test_the_layout_is_the_client_s(kind: str, path: str, name: str) -> None:
    source = ROOT.joinpath(path).read_text(encoding="utf-8")
    assert f"{name} = {STATE_FORMATS[kind].layouts[-1]};" in source


async def test_a_disk_of_many_gigabytes_has_its_size_in_a_pax_header(world: World) -> None:
    member = tarfile.TarInfo("disk.raw")
    member.size = 64 << 30
    header = member.tobuf(tarfile.PAX_FORMAT)
    assert len(header) > 512
    members = members_of(world.archive)
    raw = b"".join(
        (header if name.name == "disk.raw" else name.tobuf()) + data + bytes(-len(data) % 512)
        for name, data in members
    )
    _, answer = await post(world.token, zstandard.ZstdCompressor().compress(raw + bytes(1024)))
    assert answer["error"] == "The archive's disk.raw does not have the size that its manifest says."
