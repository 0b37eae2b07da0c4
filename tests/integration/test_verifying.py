"""`manage.py verifystorage` and `collectgarbage`: damage is found, named and mended; orphans are deleted."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from sessions.actions.snapshots import delete_snapshot, make_fork
from sessions.actions.vms import create_vm
from sessions.models import VM, Snapshot
from storage import nodes
from storage.chunks import find_missing, put_chunk, store_key
from storage.codec import digest_of, encode_frame
from storage.errors import BadChunk
from storage.gc.orphans import ORPHAN_AGE, delete_orphans, find_orphans
from storage.models import Chunk, ChunkState, Collection, PublishJob, PublishState
from storage.stores import get_store
from storage.stores.local import LocalStore
from storage.versions import retire_version
from tests.support.collecting import check_books, collect_all, contents_of, named_by, public_digests
from tests.support.machines import Machine, block, image_machine, make_image, make_user, save, upload
from webvm.accounts.access import personal_tenant
from webvm.accounts.models import Tenant, User

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_store(settings: Any, tmp_path: Path) -> None:
    """A store with nothing else in it."""
    settings.CHUNK_DIR = tmp_path / "chunks"


@pytest.fixture
def machine() -> Machine:
    version, machine = make_image()
    # Packs that are there, as a published image has them.
    for name in ("warm", "boot"):
        raw = name.encode()
        upload(None, [raw])
        setattr(version, f"{name}_pack", digest_of(raw).hex())
    version.save()
    return machine.copy()


@pytest.fixture
def ada(machine: Machine) -> User:
    return make_user("ada@example.org", name="Ada")


@pytest.fixture
def vm(ada: User) -> VM:
    return create_vm("tiny", acting_user=ada, name="Ada's machine")


@pytest.fixture
def head(vm: VM, machine: Machine, ada: User) -> Snapshot:
    return save(vm, machine, "one", ada)


def verify(*options: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the JSON answer."""
    nodes.cache.clear()
    out = StringIO()
    status = 0
    try:
        call_command("verifystorage", "--json", *options, stdout=out)
    except SystemExit as ended:
        status = int(ended.code or 0)
    return status, json.loads(out.getvalue())


def path_of(home: Any, digest: bytes) -> Path:
    store = get_store()
    assert isinstance(store, LocalStore)
    return store.path(store_key(home, digest))


def spoil(path: Path) -> None:
    """One bit in the middle, the size as it was."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


def test_it_works(head: Snapshot) -> None:
    status, answer = verify()
    assert (status, answer["damaged"], answer["damages"]) == (0, 0, [])
    assert answer["objects"] == Chunk.objects.count()
    assert answer["roots"] == 2 + 4 + 2 + 2  # the image's, its blobs and packs, the snapshot's
    out = StringIO()
    call_command("verifystorage", stdout=out)
    assert "Everything is there." in out.getvalue()


@pytest.mark.parametrize("how", ["missing", "broken"])
@pytest.mark.parametrize("which", ["chunk", "leaf", "root"])
def test_damage_is_found_and_named(
    vm: VM, head: Snapshot, machine: Machine, ada: User, how: str, which: str
) -> None:
    eve = make_user("eve@example.org")
    fork = make_fork(head, personal_tenant(eve), acting_user=eve)
    rows = Chunk.objects.filter(tenant=vm.tenant)
    digest = {
        "chunk": bytes.fromhex(machine.disk.places[7][0]),
        "leaf": bytes(rows.filter(node_level=0).order_by("pk")[0].digest),
        "root": bytes.fromhex(machine.disk.root),
    }[which]
    path = path_of(vm.tenant_id, digest)
    if how == "missing":
        path.unlink()
    else:
        spoil(path)
    save(vm, machine, "two, which does not use it", ada)
    status, answer = verify()
    assert status == 1
    (damage,) = answer["damages"]
    assert damage["digest"] == digest.hex()
    assert how in damage["what"]
    assert str(vm.tenant_id) in damage["tenant"]
    affected = [(each["snapshot"], each["device"]) for each in damage["affected"]]
    assert len(affected) == 2
    for snapshot in (head, fork.head):
        assert snapshot
        assert [device for text, device in affected if str(snapshot.pk) in text] == ["disk"]
    assert {each["tenant"].split(" (")[0] for each in damage["affected"]} == {"Ada", "eve"}
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("verifystorage", stdout=out)
    assert "Ada's machine" in out.getvalue()


def test_a_copy_elsewhere_mends_it(vm: VM, machine: Machine, head: Snapshot) -> None:
    digest = machine.disk.places[7][0]
    raw = machine.raw(digest)
    other = Tenant.objects.create(name="other")
    upload(other, [raw])
    spoil(path_of(vm.tenant_id, bytes.fromhex(digest)))
    status, answer = verify("--repair")
    assert (status, answer["damaged"], answer["repaired"]) == (0, 1, 1)
    assert verify() == (0, {**answer, "damaged": 0, "repaired": 0, "damages": []})
    contents_of(head)
    check_books()


def test_whoever_has_the_bytes_is_asked_for_them(vm: VM, machine: Machine, head: Snapshot) -> None:
    digest = bytes.fromhex(machine.disk.places[7][0])
    path_of(vm.tenant_id, digest).unlink()
    assert verify("--repair")[0] == 1
    assert find_missing(vm.tenant, [digest]) == [digest]
    # A lie changes nothing.
    with pytest.raises(BadChunk):
        put_chunk(vm.tenant, digest, encode_frame(block("something else")))
    put_chunk(vm.tenant, digest, encode_frame(machine.raw(digest.hex())))
    assert find_missing(vm.tenant, [digest]) == []
    assert verify()[0] == 0
    contents_of(head)
    check_books()


def test_a_row_that_is_lost_is_made_again(vm: VM, machine: Machine, head: Snapshot) -> None:
    for digest in (machine.disk.places[7][0], machine.disk.root):
        row = Chunk.objects.get(tenant=vm.tenant, digest=bytes.fromhex(digest))
        Tenant.objects.filter(pk=vm.tenant_id).update(used_bytes=used(vm) - row.stored_size)
        row.delete()
    status, answer = verify()
    assert status == 1
    assert all("no row" in damage["what"] for damage in answer["damages"])
    assert verify("--repair")[0] == 0
    verify("--repair")
    assert verify()[0] == 0
    contents_of(head)
    check_books()


def used(vm: VM) -> int:
    return Tenant.objects.values_list("used_bytes", flat=True).get(pk=vm.tenant_id)


def test_a_sample_finds_it_sooner_or_later(vm: VM, machine: Machine, head: Snapshot) -> None:
    path_of(vm.tenant_id, bytes.fromhex(machine.disk.root)).unlink()
    sizes = [verify("--sample", "3", "--seed", str(seed))[1] for seed in range(20)]
    assert all(answer["objects"] <= 3 for answer in sizes)
    assert any(answer["damaged"] for answer in sizes)
    assert verify("--sample", "0") == (0, {**sizes[0], "objects": 0, "bytes": 0, "damaged": 0, "damages": []})


def test_a_damaged_node_stops_the_collection_of_its_tenant_only(
    vm: VM, machine: Machine, ada: User, head: Snapshot
) -> None:
    """What it names is not known, so nothing of its tenant may go."""
    path = path_of(vm.tenant_id, bytes.fromhex(machine.disk.root))
    kept = path.read_bytes()
    save(vm, machine, "two", ada)
    gone = save(vm, machine, "three", ada)
    save(vm, machine, "four", ada)
    delete_snapshot(gone.pk, acting_user=ada)
    eve = make_user("eve@example.org")
    hers = create_vm("tiny", acting_user=eve)
    upload(hers.tenant, [block("abandoned")])
    path.unlink()
    nodes.cache.clear()
    done, now = collect_all()
    assert done.blocked == [str(vm.tenant_id)]
    assert Chunk.objects.filter(tenant=vm.tenant, state=ChunkState.LIVE).count() == 24
    assert not Chunk.objects.filter(tenant=hers.tenant).exists()
    path.write_bytes(kept)
    collect_all(now)
    assert Chunk.objects.filter(tenant=vm.tenant).count() == 18
    assert Collection.objects.get(tenant=vm.tenant).error == ""


def test_a_damaged_tenant_holds_up_only_what_it_may_name_of_the_public(
    vm: VM, machine: Machine, ada: User, head: Snapshot
) -> None:
    """Its nodes are of commits that did not write down what they name: that may be anything of before."""
    before, old = make_image("before", machine=image_machine("before"))
    Collection.objects.update_or_create(
        tenant=vm.tenant,
        defaults={"unwritten_up_to": Chunk.objects.latest("pk").pk, "garbage_since": timezone.now()},
    )
    after, new = make_image("after", machine=image_machine("after"))
    only_new = named_by(new) - named_by(old) - named_by(image_machine())
    only_old = named_by(old) - named_by(image_machine())
    path = path_of(vm.tenant_id, bytes.fromhex(machine.disk.root))
    kept = path.read_bytes()
    path.unlink()
    nodes.cache.clear()
    for version in (before, after):
        retire_version(version, acting_user=None)
    done, now = collect_all()
    assert done.blocked == [str(vm.tenant_id)]
    assert named_by(old) <= public_digests()
    assert only_new
    assert not only_new & public_digests()
    said = StringIO()
    call_command("collectgarbage", stdout=StringIO(), stderr=said)
    whose = f"Tenant {vm.tenant} ({vm.tenant_id})"
    for part in (whose, "public chunks that it may name stay", "verifystorage --repair"):
        assert part in said.getvalue()
    blocked = verify()[1]["blocked"]
    assert [(each["tenant"], each["holds_public"]) for each in blocked] == [(whose, True)]
    path.write_bytes(kept)
    collect_all(now)
    assert only_old
    assert not only_old & public_digests()
    assert contents_of(head)
    assert verify()[1]["blocked"] == []


def test_a_tenant_is_collected_again_when_what_leads_to_the_damage_has_gone(
    vm: VM, machine: Machine, ada: User, head: Snapshot
) -> None:
    path_of(vm.tenant_id, bytes.fromhex(machine.disk.root)).unlink()
    save(vm, machine, "two", ada)
    gone = save(vm, machine, "three", ada)
    last = save(vm, machine, "four", ada)
    delete_snapshot(gone.pk, acting_user=ada)
    nodes.cache.clear()
    done, now = collect_all()
    assert done.blocked == [str(vm.tenant_id)]
    delete_snapshot(head.pk, acting_user=ada)
    dry = StringIO()
    call_command("collectgarbage", "--dry-run", "--json", stdout=dry)
    assert json.loads(dry.getvalue())["blocked"] == [str(vm.tenant_id)]
    done, _ = collect_all(now)
    assert done.blocked == []
    assert Collection.objects.get(tenant=vm.tenant).error == ""
    assert contents_of(last)
    assert verify()[0] == 0
    check_books()


class TestOrphans:
    def test_what_no_row_knows_goes_when_it_is_old(self, vm: VM, head: Snapshot) -> None:
        store = get_store()
        raw = block("stored, then the server died")
        mine = store_key(vm.tenant_id, digest_of(raw))
        public = store_key(None, digest_of(raw))
        gone = "t/00000000-0000-4000-8000-000000000000/" + "0" * 64
        for key in (mine, public, gone):
            store.put(key, encode_frame(raw))
        before = contents_of(head)
        assert list(find_orphans()) == []  # it may be about to get its row
        later = timezone.now() + ORPHAN_AGE + timedelta(minutes=1)
        assert {found.key for found in find_orphans(now=later)} == {mine, public, gone}
        assert delete_orphans(acting_user=None, now=later)[0] == 3
        assert not any(store.exists(key) for key in (mine, public, gone))
        assert contents_of(head) == before
        assert verify()[0] == 0
        check_books()

    def test_a_publish_under_way_keeps_what_it_has_stored(self, vm: VM) -> None:
        public = store_key(None, digest_of(b"x"))
        get_store().put(public, encode_frame(b"x"))
        later = timezone.now() + ORPHAN_AGE + timedelta(minutes=1)
        job = PublishJob.objects.create(recipe="", slug="tiny", state=PublishState.RUNNING)
        assert delete_orphans(acting_user=None, now=later) == (0, 0)
        job.delete()
        assert delete_orphans(acting_user=None, now=later)[0] == 1

    def test_it_can_be_uploaded_and_kept(self, vm: VM) -> None:
        raw = block("came back")
        key = store_key(vm.tenant_id, digest_of(raw))
        get_store().put(key, encode_frame(raw))
        os.utime(path_of(vm.tenant_id, digest_of(raw)), (0, 0))
        upload(vm.tenant, [raw])
        assert delete_orphans(acting_user=None) == (0, 0)
        assert get_store().exists(key)


class TestCommand:
    def test_a_dry_run_says_what_a_run_does(self, vm: VM, machine: Machine, ada: User) -> None:
        gone = save(vm, machine, "one", ada)
        save(vm, machine, "two", ada)
        delete_snapshot(gone.pk, acting_user=ada)
        Snapshot.objects.filter(pk=gone.pk).update(deleted_at=timezone.now() - timedelta(days=31))
        before = [
            list(model.objects.order_by("pk").values()) for model in (Chunk, Snapshot, Collection, Tenant)
        ]
        would = run("--dry-run", "--orphans")
        after = [
            list(model.objects.order_by("pk").values()) for model in (Chunk, Snapshot, Collection, Tenant)
        ]
        assert after == before
        assert would["purged"] == {"machines": 0, "snapshots": 1}
        (freed,) = would["condemned"]["by_tenant"]
        assert freed["tenant"] == str(vm.tenant_id)
        did = run("--orphans")
        condemned = Chunk.objects.filter(state=ChunkState.CONDEMNED).values_list("digest", flat=True)
        assert sorted(freed["chunks"]) == sorted(bytes(digest).hex() for digest in condemned)
        assert did["purged"] == 1
        assert did["condemned"] == {"chunks": len(freed["chunks"]), "bytes": freed["bytes"]}

    def test_it_speaks_plainly(self, head: Snapshot) -> None:
        for options in ([], ["--dry-run"], ["--orphans"], ["--dry-run", "--orphans"]):
            out = StringIO()
            call_command("collectgarbage", *options, stdout=out)
            assert "0 chunks (0 bytes)" in out.getvalue()


def facts() -> list[Any]:
    return [list(model.objects.order_by("pk").values()) for model in (Chunk, Snapshot, Collection, Tenant)]


def run(*options: str) -> dict[str, Any]:
    out = StringIO()
    call_command("collectgarbage", "--json", *options, stdout=out)
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer
