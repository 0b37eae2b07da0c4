"""What every chunk store promises, checked on each of them alike."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from storage.errors import ChunkNotFound, StoreUnavailable
from storage.stores import ChunkStore
from storage.stores.local import LocalStore
from storage.stores.s3 import S3Store
from tests.support.s3 import S3Server

PUB = "pub/" + hashlib.sha256(b"public").hexdigest()
PRIVATE = f"t/{uuid.UUID(int=7)}/" + hashlib.sha256(b"private").hexdigest()


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChunkStore]:
    if request.param == "local":
        yield LocalStore(tmp_path / "chunks")
    else:
        server: S3Server = request.getfixturevalue("s3_server")
        yield server.store(server.make_bucket())


def key_of(number: int) -> str:
    return f"pub/{number:064x}"


@pytest.mark.parametrize("key", [PUB, PRIVATE])
def test_what_was_put_is_got(store: ChunkStore, key: str) -> None:
    stored = os.urandom(70_000)
    store.put(key, stored)
    assert store.exists(key)
    assert store.get(key) == stored


def test_what_is_not_there_is_not_found(store: ChunkStore) -> None:
    assert not store.exists(PUB)
    with pytest.raises(ChunkNotFound):
        store.get(PUB)


def test_putting_twice_is_putting_once(store: ChunkStore) -> None:
    store.put(PUB, b"a frame")
    store.put(PUB, b"a frame")
    assert store.get(PUB) == b"a frame"


def test_deleting_is_idempotent(store: ChunkStore) -> None:
    store.put(PUB, b"a frame")
    store.delete(PUB)
    store.delete(PUB)
    assert not store.exists(PUB)


def test_listing_finds_what_is_there(store: ChunkStore) -> None:
    assert list(store.list_spaces()) == []
    private = PRIVATE.rpartition("/")[0]
    assert list(store.list_objects("pub")) == list(store.list_objects(private)) == []
    begun = datetime.now(UTC) - timedelta(seconds=2)  # S3 tells whole seconds
    keys = [key_of(number << 248 | number) for number in range(40)]
    for number, key in enumerate(keys):
        store.put(key, b"x" * (number + 1))
    store.put(PRIVATE, b"a frame")
    assert list(store.list_spaces()) == ["pub", private]
    found = list(store.list_objects("pub"))
    assert [(each.key, each.size) for each in found] == [(key, at + 1) for at, key in enumerate(keys)]
    assert all(begun < each.modified_at < datetime.now(UTC) + timedelta(seconds=2) for each in found)
    assert [each.key for each in store.list_objects("pub", "1")] == keys[16:32]
    assert [each.key for each in store.list_objects("pub", "1f")] == [keys[31]]
    assert [each.key for each in store.list_objects(private)] == [PRIVATE]
    store.delete(keys[31])
    assert [each.key for each in store.list_objects("pub", "1f")] == []


def test_only_key_spaces_are_listed(store: ChunkStore) -> None:
    for space, prefix in (
        ("", ""),
        ("tmp", ""),
        ("up", ""),
        ("t", ""),
        ("t/..", ""),
        ("pub", "/"),
        ("pub", "A"),
    ):
        with pytest.raises(ValueError, match="not a key space"):
            list(store.list_objects(space, prefix))


NO_KEYS = [
    "",
    "pub/",
    "pub/../../etc/passwd",
    "/etc/passwd",
    f"pub/{'0' * 63}",
    f"pub/{'0' * 63}/",
    f"pub/{'A' * 64}",
    f"pub/{'0' * 64}\n",
    f"t/../{'0' * 64}",
    f"t/{uuid.UUID(int=1)}/../pub/{'0' * 64}",
    f"{PUB}/x",
    f"x{PUB}",
]


def test_anything_that_is_no_key_is_refused(store: ChunkStore) -> None:
    for key in NO_KEYS:
        for call in (store.get, store.exists, store.delete):
            with pytest.raises(ValueError, match="not a chunk key"):
                call(key)
        with pytest.raises(ValueError, match="not a chunk key"):
            store.put(key, b"a frame")


def test_many_writers_and_readers_never_see_a_part(store: ChunkStore) -> None:
    frames = {key_of(number): bytes([number]) * 50_000 for number in range(8)}
    torn: list[str] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            for key, frame in frames.items():
                try:
                    if store.get(key) != frame:
                        torn.append(key)
                except ChunkNotFound:
                    pass

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: store.put(*item), [*frames.items()] * 4))
    over.set()
    for reader in readers:
        reader.join()
    assert not torn
    assert all(store.get(key) == frame for key, frame in frames.items())


class TestLocal:
    def test_files_lie_in_sharded_folders(self, tmp_path: Path) -> None:
        LocalStore(tmp_path).put(PUB, b"a frame")
        name = PUB.removeprefix("pub/")
        assert (tmp_path / "pub" / name[:2] / name).read_bytes() == b"a frame"

    def test_a_write_that_was_cut_off_leaves_nothing_to_see(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = LocalStore(tmp_path)

        def full(_handle: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StoreUnavailable, match="disk is full"):
                store.put(PUB, b"a frame")
        assert not store.exists(PUB)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
        store.put(PUB, b"a frame")
        assert store.get(PUB) == b"a frame"

    def test_what_a_crash_left_is_removed_a_day_later(self, tmp_path: Path) -> None:
        (tmp_path / "tmp").mkdir()
        left, fresh = tmp_path / "tmp" / "left", tmp_path / "tmp" / "fresh"
        left.write_bytes(b"half a fr")
        fresh.write_bytes(b"just being wri")
        os.utime(left, (0, 0))
        LocalStore(tmp_path).put(PUB, b"a frame")
        assert not left.exists()
        assert fresh.exists()

    def test_bytes_are_on_the_disk_before_the_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = LocalStore(tmp_path)
        store.put(key_of(1), b"makes the folders")
        order: list[str] = []
        fsync, replace = os.fsync, os.replace

        def noted_fsync(handle: int) -> None:
            order.append("sync")
            fsync(handle)

        def noted_replace(source: Path, target: Path) -> None:
            order.append("name")
            replace(source, target)

        monkeypatch.setattr(os, "fsync", noted_fsync)
        monkeypatch.setattr(os, "replace", noted_replace)
        store.put(key_of(2), b"a frame")
        assert order == ["sync", "name", "sync"]

    def test_a_file_cut_short_by_somebody_else_is_written_again(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        store.put(PUB, b"a whole frame")
        store.path(PUB).write_bytes(b"a who")
        store.put(PUB, b"a whole frame")
        assert store.get(PUB) == b"a whole frame"

    def test_a_folder_that_cannot_be_used_is_a_typed_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        store = LocalStore(tmp_path / "file")
        with pytest.raises(StoreUnavailable):
            store.put(PUB, b"a frame")
        with pytest.raises(StoreUnavailable):
            store.get(PUB)


class TestS3:
    @pytest.fixture
    def bucket(self, s3_server: S3Server) -> S3Store:
        return s3_server.store(s3_server.make_bucket())

    def test_nobody_can_replace_an_object(self, bucket: S3Store) -> None:
        bucket.put(PUB, b"the first")
        bucket.put(PUB, b"another")
        assert bucket.get(PUB) == b"the first"

    def test_a_damaged_upload_is_refused(self, bucket: S3Store) -> None:
        with pytest.raises(ClientError):
            bucket.client.put_object(
                Bucket=bucket.bucket, Key=PUB, Body=b"damaged", ChecksumSHA256="A" * 43 + "="
            )
        assert not bucket.exists(PUB)

    def test_a_server_that_is_gone_is_a_typed_error(self) -> None:
        store = S3Store("bucket", "http://127.0.0.1:9", "us-east-1", "key", "secret")
        with pytest.raises(StoreUnavailable):
            store.get(PUB)

    def test_a_bucket_that_is_gone_is_no_missing_chunk(self, s3_server: S3Server) -> None:
        store = s3_server.store("no-such-bucket")
        with pytest.raises(StoreUnavailable):
            store.put(PUB, b"a frame")
        with pytest.raises(StoreUnavailable):
            store.get(PUB)
