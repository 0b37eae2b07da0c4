"""Collecting public chunks while others publish, commit and die: nothing that is named is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from sessions.actions.vms import create_vm, delete_vm
from storage.chunks import find_missing, put_chunk
from storage.codec import digest_of, encode_frame
from storage.commits import accept_device
from storage.gc import mark, sweep
from storage.gc.collect import collect_garbage
from storage.gc.sweep import grace_time
from storage.gc.versions import free_versions
from storage.models import (
    Chunk,
    ChunkState,
    CollectionPhase,
    ImageVersion,
    PublicCollection,
    PublishJob,
    PublishState,
)
from storage.states import CLAIM_LASTS
from storage.versions import retire_version
from tests.support.collecting import (
    after_undo,
    check_books,
    collect_all,
    contents_of,
    loaded,
    named_by,
    public_digests,
    public_states,
)
from tests.support.killing import Killed, Killer
from tests.support.machines import Machine, image_machine, make_image, make_user, save
from webvm.accounts.access import personal_tenant
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return make_user("ada@example.org", name="Ada")


@pytest.fixture
def old() -> tuple[ImageVersion, Machine]:
    """The version that is withdrawn in these tests."""
    return make_image()


class TestCondemned:
    @pytest.fixture
    def now(self, old: tuple[ImageVersion, Machine]) -> datetime:
        """When all of the version has just been condemned."""
        retire_version(old[0], acting_user=None)
        now = after_undo()
        assert collect_garbage(acting_user=None, now=now).condemned.chunks > 0
        assert set(public_states()) == {ChunkState.CONDEMNED}
        return now

    def test_publishing_takes_it_back(
        self, now: datetime, old: tuple[ImageVersion, Machine], ada: User
    ) -> None:
        version, machine = make_image()
        assert version.pk != old[0].pk
        collect_garbage(acting_user=None, now=now + grace_time() * 2)
        assert public_digests() == named_by(machine) | {digest_of(b"kernel of tiny").hex()}
        assert set(public_states()) == {ChunkState.LIVE}
        vm = create_vm("tiny", acting_user=ada)
        contents_of(loaded(save(vm, machine, "works", ada)))

    def test_it_is_there_for_nobody_new(self, now: datetime, ada: User) -> None:
        """A client that has the bytes is asked for them, and its tenant gets a copy of its own."""
        machine, tenant = image_machine(), personal_tenant(ada)
        raws = {bytes.fromhex(d): raw for d, raw in machine.disk.chunks.items() if d in named_by(machine)}
        assert set(find_missing(tenant, raws)) == set(raws)
        for digest, raw in raws.items():
            assert put_chunk(tenant, digest, encode_frame(raw)).home_id == tenant.pk
        collect_garbage(acting_user=None, now=now + grace_time() * 2)
        assert not public_states()
        check_books()

    def test_it_stays_while_something_is_published(self, now: datetime) -> None:
        later = now + grace_time() * 2
        job = PublishJob.objects.create(recipe="", slug="tiny", state=PublishState.QUEUED)
        collect_garbage(acting_user=None, now=later)
        assert set(public_states()) == {ChunkState.CONDEMNED}
        job.delete()
        collect_garbage(acting_user=None, now=later)
        assert not public_states()

    def test_a_job_that_began_after_the_look_is_seen(
        self, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = iter([False, True])
        monkeypatch.setattr(sweep, "is_publishing", lambda: next(answers))
        collect_garbage(acting_user=None, now=now + grace_time() * 2)
        assert set(public_states()) == {ChunkState.CONDEMNED}
        check_books()


def test_a_version_that_is_published_during_a_run_stays(
    old: tuple[ImageVersion, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has found its roots; then the same content is published, which it would not find."""
    monkeypatch.setattr(mark, "CONDEMN_STEP", 2)
    retire_version(old[0], acting_user=None)
    now = after_undo()
    assert free_versions(now) == 1
    run = mark.begin(None, now)
    while not public_states().get(ChunkState.CONDEMNED):
        assert mark.make_step(None, run, now) is not None
    _, machine = make_image()
    assert set(public_states()) == {ChunkState.LIVE}
    assert mark.make_step(None, run, now) is None
    collect_garbage(acting_user=None, now=now)
    collect_garbage(acting_user=None, now=now + grace_time() * 2)
    assert public_digests() == named_by(machine) | {digest_of(b"kernel of tiny").hex()}
    check_books()


def test_a_run_that_is_cut_off_anywhere_goes_on(ada: User) -> None:
    """Killed before every single statement that changes something, one version after the other."""
    now = timezone.now()
    for number in range(1, 100):
        version, _ = make_image(f"doomed-{number}", machine=image_machine(f"doomed-{number}"))
        kept, other = make_image(f"kept-{number}", machine=image_machine(f"kept-{number}"))
        vm = create_vm(kept.image.slug, acting_user=ada)
        saved = save(vm, other, "kept", ada)
        before = contents_of(loaded(saved))
        retire_version(version, acting_user=None)
        killer = Killer(number)
        with connection.execute_wrapper(killer):
            for _ in range(2):
                now += undo_time() * 2
                try:
                    collect_garbage(acting_user=None, now=now)
                except Killed:
                    check_books()
                    assert contents_of(loaded(saved)) == before
                    break
        collect_garbage(acting_user=None, now=now + undo_time())
        now += undo_time() * 2
        collect_garbage(acting_user=None, now=now)
        check_books()
        assert contents_of(loaded(saved)) == before
        assert public_digests() == named_by(image_machine(kept.image.slug)) | {
            digest_of(b"kernel of " + kept.image.slug.encode()).hex()
        }
        delete_vm(vm.pk, acting_user=ada)
        retire_version(kept, acting_user=None)
        now = collect_all(now)[1]
        assert not Chunk.objects.exists()
        if not killer.has_killed:
            break
    assert 15 < number < 99


def test_a_deletion_that_was_cut_off_is_finished_later(
    old: tuple[ImageVersion, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> Any:
        raise Killed

    retire_version(old[0], acting_user=None)
    now = after_undo()
    collect_garbage(acting_user=None, now=now)
    now += grace_time() * 2
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "delete_claimed", killed)
        with pytest.raises(Killed):
            collect_garbage(acting_user=None, now=now)
    assert set(public_states()) == {ChunkState.DELETED}
    collect_garbage(acting_user=None, now=now + CLAIM_LASTS * 2)
    assert not public_states()


@pytest.mark.django_db(transaction=True)
def test_a_collector_waits_for_a_commit_that_has_looked(old: tuple[ImageVersion, Machine], ada: User) -> None:
    """The commit has seen a public chunk that is about to be condemned; the step that would do it comes after
    the commit, and finds who names it."""
    other, _ = make_image("other", machine=image_machine("other"))
    tenant = personal_tenant(ada)
    retire_version(old[0], acting_user=None)
    now = after_undo()
    assert free_versions(now) == 1
    run = mark.begin(None, now)
    while PublicCollection.objects.get().phase != CollectionPhase.CONDEMN:
        mark.make_step(None, run, now)
    looked, may_end = threading.Event(), threading.Event()
    errors: list[Exception] = []

    def in_thread(work: Callable[[], object]) -> threading.Thread:
        def run_it() -> None:
            try:
                work()
            except Exception as error:
                errors.append(error)
            finally:
                connection.close()

        thread = threading.Thread(target=run_it)
        thread.start()
        return thread

    def commit() -> None:
        with transaction.atomic():
            accept_device(
                tenant,
                root=old[0].disk_root,
                blocks=old[0].disk_blocks,
                parent_root=other.disk_root,
                parent_home=None,
            )
            looked.set()
            assert may_end.wait(60)

    def condemn() -> None:
        while mark.make_step(None, run, now) is not None:
            pass

    committing = in_thread(commit)
    assert looked.wait(60)
    collecting = in_thread(condemn)
    collecting.join(0.5)
    assert collecting.is_alive()
    may_end.set()
    committing.join()
    collecting.join()
    assert not errors
    states = {bytes(row.digest).hex(): row.state for row in Chunk.objects.filter(tenant=None)}
    assert {states[digest] for digest in old[1].disk.named()} == {ChunkState.LIVE}
    assert {states[digest] for digest in old[1].memory.named()} == {ChunkState.CONDEMNED}
