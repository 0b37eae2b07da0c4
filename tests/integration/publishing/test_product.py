"""What is published, and what failing leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage.codec import CHUNK_BYTES, digest_of
from storage.images.errors import MirrorUnreachable
from storage.images.publish import retry_publish, run_publish_job, start_publish
from storage.models import Chunk, ImageVersion, PublishState
from storage.packs import decode_pack
from storage.stores import get_store
from storage.walk import locate
from tests.integration.publishing.steps import (
    decode,
    nothing_is_published,
    public,
    publish,
    read_device,
    version_of,
)
from tests.support.faulty_store import FaultyChunkStore, full_after
from tests.support.publishing import LINUX_RECIPE, RECIPE, Workshop
from webvm.accounts.models import AuditEntry, User

pytestmark = pytest.mark.django_db(transaction=True)


class TestProduct:
    def test_disk_and_memory_read_back(self, tmp_path: Path) -> None:
        version = version_of(publish())
        [disk] = (tmp_path / "cache" / "booted").glob("*/out/disk.img")
        raw = disk.read_bytes()
        assert version.disk_bytes == len(raw)
        expected = {at // 4096: raw[at : at + 4096] for at in range(0, len(raw), 4096)}
        assert read_device(version.disk_root, version.disk_blocks) == {
            number: block for number, block in expected.items() if block.strip(b"\0")
        }
        assert raw[5 * 4096 : 6 * 4096] == b"c" * 4096  # what the guest wrote
        memory = read_device(version.memory_root, version.memory_blocks)
        assert sorted(memory) == [0, 3, 4, 1024, 16384, 24000]
        assert memory[1024].startswith(b"m1024;")
        assert version.memory_blocks == 64 * 256 + 8192

    def test_no_chunk_of_zeros_is_stored(self, workshop: Workshop) -> None:
        publish()
        zeros = digest_of(bytes(CHUNK_BYTES))
        assert not Chunk.objects.filter(digest=zeros).exists()
        assert not get_store().exists(f"pub/{zeros.hex()}")

    def test_every_row_has_its_object_and_says_its_size(self) -> None:
        publish()
        for chunk in Chunk.objects.all():
            stored = get_store().get(f"pub/{bytes(chunk.digest).hex()}")
            assert chunk.stored_size == len(stored)
            assert chunk.raw_size == len(public(bytes(chunk.digest)))
            assert (chunk.tenant, chunk.home) == (None, None)

    def test_the_warm_pack_holds_the_memory_and_both_indexes(self) -> None:
        version = version_of(publish())
        pack = decode_pack(public(version.warm_pack))
        disk = locate(version.disk_root, None, version.disk_blocks, range(version.disk_blocks // 1024))
        leaves = range(version.memory_blocks // 1024)
        memory = locate(version.memory_root, None, version.memory_blocks, leaves)
        assert disk.nodes.keys() | memory.nodes.keys() <= {digest.hex() for digest in pack}
        for raw in memory.nodes.values():
            node: Any = decode(raw)
            assert set(node.refs) <= pack.keys()
        assert version.warm_pack_bytes == len(get_store().get(f"pub/{version.warm_pack}"))

    def test_the_boot_pack_has_what_a_boot_reads_in_that_order(self) -> None:
        version = version_of(publish())
        chunks = list(decode_pack(public(version.boot_pack)).values())
        assert version.boot_trace == [7, 0, 3, 200, 7]
        assert [int.from_bytes(raw[:4], "little") for raw in chunks] == [7, 0, 200]

    def test_what_rehearsed_commands_read_is_kept(self) -> None:
        assert version_of(publish()).read_trails == [[0, 200], [1, 200]]

    def test_firmware_and_kernel_are_blobs(self) -> None:
        version = version_of(publish())
        assert version.machine["memory_mib"] == 64
        for name in ("kernel", "initrd", "bios", "vga_bios"):
            blob = version.machine[name]
            raw = b"".join(public(digest) for digest in blob["chunks"])
            assert raw == name.encode() * 60_000
            assert blob["size"] == len(raw)
            assert all(len(public(digest)) == CHUNK_BYTES for digest in blob["chunks"][:-1])

    def test_a_linux_machine_has_neither(self, workshop: Workshop) -> None:
        version = version_of(publish(LINUX_RECIPE))
        assert version.machine == {"kind": "linux", "memory_mib": 64, "terminals": 2}
        assert version.memory_blocks == 64 * 256 + 8192
        assert workshop.spec().keys().isdisjoint({"kernel", "initrd", "bios", "vga_bios"})
        assert workshop.spec()["machine"] == version.machine

    def test_it_is_written_down_who_published(self, admin: User, sent: list[str]) -> None:
        job = start_publish(RECIPE, acting_user=admin)
        run_publish_job(job.pk)
        entries = AuditEntry.objects.filter(acting_user=admin)
        assert set(entries.values_list("action", flat=True)) == {"start_publish", "publish_version"}

    def test_the_log_is_data(self) -> None:
        job = publish()
        lines = list(job.log_lines.values_list("text", flat=True))
        assert "   red <b>bold</b>" in lines
        assert "   Setting up bash" in lines
        assert "A note about the mirror" in lines
        assert [line.seq for line in job.log_lines.all()] == list(range(1, len(lines) + 1))


class TestAgain:
    def test_the_same_again_is_recognised_and_nothing_is_done_twice(self, workshop: Workshop) -> None:
        first, second = publish(), publish()
        assert version_of(first) == version_of(second)
        assert ImageVersion.objects.count() == 1
        assert (workshop.built, workshop.boots) == (1, 1)

    def test_what_only_the_catalogue_shows_makes_no_new_version(self, workshop: Workshop) -> None:
        first = version_of(publish())
        again = version_of(publish(RECIPE.replace('title = "Small', 'position = 7\ntitle = "Smaller')))
        assert again == first
        assert (again.image.title, again.image.position) == ("Smaller machine", 7)
        assert (workshop.built, workshop.boots) == (1, 1)

    def test_another_recipe_makes_the_next_version(self, workshop: Workshop) -> None:
        first = version_of(publish())
        workshop.chunks.append(11)
        other = RECIPE.replace("For tests", "More tests").replace('"bash"', '"bash", "less"')
        second = version_of(publish(other))
        assert (first.number, second.number) == (1, 2)
        assert second.image.description == "More tests"
        shared = Chunk.objects.count()
        assert second.facts["new_bytes"] < first.facts["new_bytes"]
        assert shared > 0

    def test_an_old_disk_is_made_anew(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        publish()
        monkeypatch.setattr("storage.images.built.FRESH_S", -1)
        publish()
        # The same packages make the same disk, so that it need not be booted again.
        assert (workshop.built, workshop.boots) == (2, 1)

    def test_a_lost_object_is_stored_again(self) -> None:
        version = version_of(publish())
        for chunk in Chunk.objects.all():
            get_store().delete(f"pub/{bytes(chunk.digest).hex()}")
        assert version_of(publish()) == version
        assert read_device(version.memory_root, version.memory_blocks)


class TestFailure:
    def test_a_failed_build_says_why(self, workshop: Workshop) -> None:
        workshop.build_error = MirrorUnreachable()
        job = publish()
        assert job.state == PublishState.FAILED
        assert job.error == MirrorUnreachable.message
        assert nothing_is_published()

    def test_a_bug_is_a_failed_job_too(self, workshop: Workshop) -> None:
        workshop.build_error = ZeroDivisionError("oops")
        job = publish()
        assert job.state == PublishState.FAILED
        assert "oops" in job.error

    @pytest.mark.parametrize(
        ("behaviour", "why"),
        [
            ({"error": "the guest panicked"}, "the guest panicked"),
            ({"crash": True}, "ended early"),
            ({"memory": [3, 1]}, "out of order"),
            ({"memory": [30_000]}, "larger than the machine"),
            ({"memory": []}, "empty"),
        ],
    )
    def test_a_machine_that_does_not_get_through(
        self, workshop: Workshop, behaviour: dict[str, Any], why: str
    ) -> None:
        workshop.behave(**behaviour)
        job = publish()
        assert job.state == PublishState.FAILED
        assert why in job.error
        assert nothing_is_published()

    def test_after_a_failure_it_goes_on_where_it_was(self, workshop: Workshop, sent: list[str]) -> None:
        workshop.behave(error="no luck")
        job = publish()
        assert job.step == "Booting the machine"
        workshop.behave()
        again = retry_publish(job, acting_user=None)
        run_publish_job(again.pk)
        again.refresh_from_db()
        assert version_of(again)
        assert (workshop.built, workshop.boots) == (1, 2)

    @pytest.mark.parametrize("puts", [0, 3, 12])
    def test_a_full_store_leaves_nothing_half_published(
        self, puts: int, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = FaultyChunkStore(get_store(), full_after(puts))
        monkeypatch.setattr("storage.images.shelf.get_store", lambda: store)
        job = publish()
        assert job.state == PublishState.FAILED
        assert "The store fails" in job.error
        assert nothing_is_published()
        store.plan = lambda call: None
        assert version_of(publish())
        assert workshop.boots == 1

    def test_a_failure_in_the_last_transaction_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("the database is gone")

        with monkeypatch.context() as patch:
            patch.setattr("storage.images.publish.ImageVersion.objects.create", fail)
            job = publish()
        assert job.state == PublishState.FAILED
        assert nothing_is_published()
