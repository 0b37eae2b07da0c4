"""Quotas of a tenant: bytes, machines, running ones. Checked before anything is taken, two at once too."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import close_old_connections, connection
from django.utils import timezone

from sessions.actions.leases import release_lease, renew_lease, take_lease
from sessions.actions.links import exchange_link, make_link
from sessions.actions.vms import create_vm, delete_vm, restore_vm
from sessions.errors import SessionQuotaExceeded, VMQuotaExceeded
from sessions.models import VM, ShareLink
from storage.chunks import put_chunk
from storage.codec import digest_of, encode_frame
from storage.models import Chunk
from tests.support.collecting import check_books, collect_all
from tests.support.machines import Machine, Refused, Socket, block, make_image, make_token, make_user, save
from tests.support.pages import browser, call
from webvm.accounts.access import personal_tenant
from webvm.accounts.actions import create_guest, keep_guest
from webvm.accounts.models import Tenant, User
from webvm.errors import QuotaExceeded

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine() -> Machine:
    return make_image()[1].copy()


@pytest.fixture
def ada(machine: Machine) -> User:
    return make_user("ada@example.org", name="Ada")


def limit(user: User, **limits: int) -> None:
    Tenant.objects.filter(pk=personal_tenant(user).pk).update(**limits)


class TestMachines:
    def test_one_too_many(self, ada: User) -> None:
        limit(ada, max_vms=2)
        client = browser(ada)
        made = [call(client, "POST", "/vms", {"image": "tiny"})[1] for _ in range(2)]
        status, answer = call(client, "POST", "/vms", {"image": "tiny"})
        assert status == 409
        assert answer["error"]["code"] == "vm_quota_exceeded"
        assert (answer["error"]["vms"], answer["error"]["max_vms"]) == (2, 2)
        assert "Delete one first" in answer["error"]["message"]
        assert call(client, "DELETE", f"/vms/{made[0]['id']}")[0] == 204
        assert call(client, "POST", "/vms", {"image": "tiny"})[0] == 201
        # The deleted one comes back only when there is room again.
        assert (
            call(client, "POST", f"/vms/{made[0]['id']}/restore")[1]["error"]["code"] == "vm_quota_exceeded"
        )

    def test_copies_count_and_a_link_is_not_used_up_by_a_refusal(self, ada: User, machine: Machine) -> None:
        eve = make_user("eve@example.org")
        vm = create_vm("tiny", acting_user=ada)
        secret = make_link(save(vm, machine, "one", ada).pk, acting_user=ada).secret
        limit(eve, max_vms=0)
        with pytest.raises(VMQuotaExceeded):
            exchange_link(secret, acting_user=eve)
        assert ShareLink.objects.get().uses == 0
        limit(eve, max_vms=1)
        exchange_link(secret, acting_user=eve)

    def test_guests_have_less(self, settings: Any, machine: Machine) -> None:
        settings.GUEST_MAX_VMS, settings.MAX_VMS = 1, 7
        guest = create_guest()
        create_vm("tiny", acting_user=guest)
        with pytest.raises(VMQuotaExceeded):
            create_vm("tiny", acting_user=guest)
        keep_guest(guest, email="kept@example.org", password="a long enough one", acting_user=guest)
        assert personal_tenant(guest).max_vms == 7


class TestSessions:
    def test_one_too_many(self, ada: User) -> None:
        limit(ada, max_sessions=1)
        first, second = (create_vm("tiny", acting_user=ada) for _ in range(2))
        session = uuid.uuid4()
        lease = take_lease(first.pk, session, take_over=False, acting_user=ada)
        with pytest.raises(SessionQuotaExceeded) as refused:
            take_lease(second.pk, uuid.uuid4(), take_over=False, acting_user=ada)
        assert refused.value.details == {"sessions": 1, "max_sessions": 1}
        # Another tab of the same machine takes the place of the first.
        again = take_lease(first.pk, uuid.uuid4(), take_over=True, acting_user=ada)
        assert again.epoch == lease.epoch + 1
        release_lease(first.pk, again.epoch, acting_user=ada)
        take_lease(second.pk, uuid.uuid4(), take_over=False, acting_user=ada)

    def test_which_machines_run_can_be_asked(self, ada: User) -> None:
        vms = [create_vm("tiny", acting_user=ada) for _ in range(3)]
        bob = make_user("bob@example.org", name="Bob")
        take_lease(create_vm("tiny", acting_user=bob).pk, uuid.uuid4(), take_over=False, acting_user=bob)
        client = browser(ada)
        tenant = vms[0].tenant_id

        def running() -> list[str]:
            answer = call(client, "GET", f"/vms?running=true&tenant={tenant}")[1]
            assert all(item["open_in"]["holder"] == "Ada" for item in answer["items"])
            return [item["id"] for item in answer["items"]]

        assert running() == []
        leases = [take_lease(vm.pk, uuid.uuid4(), take_over=False, acting_user=ada) for vm in vms[:2]]
        assert set(running()) == {str(vm.pk) for vm in vms[:2]}
        release_lease(vms[0].pk, leases[0].epoch, acting_user=ada)
        assert running() == [str(vms[1].pk)]
        # The holder went to sleep: the lease ran out, and came back with the next renewal.
        past = timezone.now() - timedelta(minutes=5)
        VM.objects.filter(pk=vms[1].pk).update(lease_expires_at=past, last_used_at=past)
        assert running() == []
        renew_lease(vms[1].pk, leases[1].epoch, acting_user=ada)
        assert running() == [str(vms[1].pk)]
        theirs = call(browser(bob), "GET", f"/vms?running=true&tenant={tenant}")
        assert theirs[0] == 404

    def test_a_session_that_slept_keeps_its_work(self, ada: User) -> None:
        limit(ada, max_sessions=1)
        first, second = (create_vm("tiny", acting_user=ada) for _ in range(2))
        lease = take_lease(first.pk, uuid.uuid4(), take_over=False, acting_user=ada)
        VM.objects.filter(pk=first.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
        take_lease(second.pk, uuid.uuid4(), take_over=False, acting_user=ada)
        assert renew_lease(first.pk, lease.epoch, acting_user=ada) > 0

    async def test_the_socket_says_so(self, transactional_db: None) -> None:
        def prepare() -> tuple[list[VM], str]:
            make_image()
            user = make_user()
            limit(user, max_sessions=1)
            return [create_vm("tiny", acting_user=user) for _ in range(2)], make_token(user)

        (first, second), token = await sync_to_async(prepare)()
        async with Socket(first.pk, token=token) as one, Socket(second.pk, token=token) as two:
            await one.lease()
            with pytest.raises(Refused, match="session_quota_exceeded"):
                await two.lease()
            await one.request("release", epoch=one.epoch)
            await two.lease()


class TestBytes:
    def test_a_full_quota_takes_nothing_and_keeps_what_is_there(self, ada: User, machine: Machine) -> None:
        vm = create_vm("tiny", acting_user=ada)
        save(vm, machine, "one", ada)
        used = Tenant.objects.get(pk=vm.tenant_id).used_bytes
        limit(ada, quota_bytes=used)
        before = machine.copy()
        with pytest.raises(QuotaExceeded) as refused:
            save(vm, machine, "two", ada)
        assert refused.value.details == {"used_bytes": used, "quota_bytes": used}
        assert Tenant.objects.get(pk=vm.tenant_id).used_bytes == used
        # What was deleted makes room, and the same work is saved.
        limit(ada, quota_bytes=used * 2 + 200)
        save(vm, before, "two", ada)
        check_books()

    def test_deleted_things_stop_counting_when_they_are_collected(self, ada: User, machine: Machine) -> None:
        vm = create_vm("tiny", acting_user=ada)
        save(vm, machine, "one", ada)
        delete_vm(vm.pk, acting_user=ada)
        assert Tenant.objects.get(pk=vm.tenant_id).used_bytes > 0
        collect_all()
        assert Tenant.objects.get(pk=vm.tenant_id).used_bytes == 0

    def test_what_waits_to_be_deleted_is_bounded(self, ada: User) -> None:
        """Uploading and deleting in turns does not fill the operator's disk."""
        tenant = personal_tenant(ada)
        limit(ada, quota_bytes=1000, condemned_bytes=2990)
        put_chunk(tenant, digest_of(b"small"), encode_frame(b"small"))
        limit(ada, condemned_bytes=4000)
        with pytest.raises(QuotaExceeded):
            put_chunk(tenant, digest_of(b"more"), encode_frame(b"more"))


class TestTwoAtOnce:
    """Real threads with connections of their own."""

    pytestmark = pytest.mark.django_db(transaction=True)

    def together(self, *works: Callable[[], Any]) -> list[Any]:
        def work(each: Callable[[], Any]) -> Any:
            try:
                return each()
            except Exception as error:
                return error
            finally:
                connection.close()
                close_old_connections()

        with ThreadPoolExecutor(len(works)) as pool:
            return list(pool.map(work, works))

    def test_machines(self, ada: User) -> None:
        limit(ada, max_vms=3)
        done = self.together(*[lambda: create_vm("tiny", acting_user=ada)] * 8)
        assert sum(isinstance(each, VM) for each in done) == 3
        assert sum(isinstance(each, VMQuotaExceeded) for each in done) == 5
        assert VM.objects.count() == 3

    def test_sessions(self, ada: User) -> None:
        limit(ada, max_sessions=2)
        vms = [create_vm("tiny", acting_user=ada) for _ in range(6)]

        def lease(vm: VM) -> Callable[[], Any]:
            return lambda: take_lease(vm.pk, uuid.uuid4(), take_over=False, acting_user=ada)

        done = self.together(*[lease(vm) for vm in vms])
        assert sum(isinstance(each, SessionQuotaExceeded) for each in done) == 4

    def test_restoring(self, ada: User) -> None:
        vms = [create_vm("tiny", acting_user=ada) for _ in range(4)]
        for vm in vms:
            delete_vm(vm.pk, acting_user=ada)
        limit(ada, max_vms=1)
        done = self.together(*[lambda vm=vm: restore_vm(vm.pk, acting_user=ada) for vm in vms])
        assert sum(isinstance(each, VM) for each in done) == 1

    def test_bytes(self, ada: User) -> None:
        tenant = personal_tenant(ada)
        raws = [block(f"{number:032d}") for number in range(8)]
        size = len(encode_frame(raws[0]))
        limit(ada, quota_bytes=3 * size + size // 2)

        def put(raw: bytes) -> Callable[[], Any]:
            return lambda: put_chunk(tenant, digest_of(raw), encode_frame(raw))

        done = self.together(*[put(raw) for raw in raws])
        assert sum(isinstance(each, Chunk) for each in done) == 3, done
        assert sum(isinstance(each, QuotaExceeded) for each in done) == 5
        check_books()


def test_the_page_and_the_api_say_how_much_is_used(ada: User) -> None:
    limit(ada, max_vms=4, max_sessions=1, quota_bytes=2**30, used_bytes=2**29, condemned_bytes=2**20)
    vm = create_vm("tiny", acting_user=ada)
    take_lease(vm.pk, uuid.uuid4(), take_over=False, acting_user=ada)
    client = browser(ada)
    tenant = personal_tenant(ada).pk
    wanted = {"max_vms": 4, "vms": 1, "max_sessions": 1, "sessions": 1, "condemned_bytes": 2**20}
    answer = call(client, "GET", f"/tenants/{tenant}")[1]
    assert {key: answer[key] for key in wanted} == wanted
    assert call(client, "GET", "/tenants")[1]["items"] == [answer]
    for path in ("/settings/tenants/", f"/settings/tenants/{tenant}/"):
        page = client.get(path).content.decode().replace("\xa0", " ")
        for text in ("512.0 MB of 1.0 GB", "1 of 4", "1 of 1", "Close a machine", "1.0 MB of deleted data"):
            assert text in page, (path, text)
