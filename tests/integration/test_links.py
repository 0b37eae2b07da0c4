"""Share links: made, looked at, exchanged, used up, revoked; for users and for guests."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone

from sessions.actions.links import exchange_link, exchange_link_as_guest, make_link, revoke_link
from sessions.actions.snapshots import delete_snapshot, resume_from
from sessions.actions.vms import create_vm, delete_vm, restore_vm
from sessions.errors import GuestsNotAllowed, LinkNotUsable
from sessions.models import VM, LinkUse, ShareLink, Snapshot
from tests.support.machines import make_image, make_token, make_user, save
from tests.support.pages import browser, call
from webvm.accounts.models import AuditEntry, Membership, Role, Tenant, User
from webvm.errors import PermissionDenied, WebVMError

NOT_USABLE = {
    "error": {
        "code": "link_not_usable",
        "message": "This link does not work, or does not work any more. Ask whoever sent it for a new one.",
    }
}


class World:
    """Ada has a saved machine; Bob has an account."""

    def __init__(self) -> None:
        self.machine = make_image()[1].copy()
        self.ada = make_user("ada@example.org", name="Ada")
        self.bob = make_user("bob@example.org", name="Bob")
        self.vm = create_vm("tiny", acting_user=self.ada, name="Lab")
        self.snapshot = save(self.vm, self.machine, "for the class", self.ada)

    def link(self, **options: Any) -> str:
        return make_link(self.snapshot.pk, acting_user=self.ada, **options).secret


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def world(db: None) -> World:
    return World()


def exchange(client: Client, secret: str) -> tuple[int, Any]:
    return call(client, "POST", "/links/exchange", {"secret": secret})


def test_it_works(world: World) -> None:
    ada, bob = browser(world.ada), browser(world.bob)
    body = {"mode": "fork", "expires_in": 3600, "max_uses": 2}
    status, made = call(ada, "POST", f"/snapshots/{world.snapshot.pk}/links", body)
    assert (status, made["state"], made["uses"], made["max_uses"]) == (201, "active", 0, 2)
    found = re.fullmatch(r"http://testserver/s/#([\w-]{43})", made["url"])
    assert found
    secret = found.group(1)
    status, answer = exchange(bob, secret)
    assert status == 200
    copy = VM.objects.get(pk=answer["vm"]["id"])
    assert (copy.tenant, copy.name) == (world.bob.memberships.get().tenant, "Lab")
    assert copy.head is not None
    assert copy.head.disk_root == world.snapshot.disk_root
    assert copy.head.disk_home_id == world.vm.tenant_id
    _, listed = call(ada, "GET", f"/vms/{world.vm.pk}/links")
    assert [(item["uses"], item["state"]) for item in listed["items"]] == [(1, "active")]
    assert "url" not in listed["items"][0]
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"make_link", "exchange_link", "fork_snapshot"} <= actions


def test_the_secret_is_kept_nowhere(world: World) -> None:
    secret = world.link()
    exchange_link(secret, acting_user=world.bob)
    for model in (ShareLink, LinkUse, AuditEntry, VM, Snapshot):
        for row in model.objects.values():
            assert secret not in str(row)
    link = ShareLink.objects.get()
    assert re.fullmatch("[0-9a-f]{64}", link.secret_hash)


def unusable(world: World) -> list[str]:
    """A secret for every way a link can be of no use."""
    wrong, other = "A" * 43, world.link()
    expired, used_up, revoked = world.link(), world.link(max_uses=1), world.link()
    newest = ShareLink.objects.order_by("created_at")
    rows = {secret: newest[number] for number, secret in enumerate([other, expired, used_up, revoked])}
    ShareLink.objects.filter(pk=rows[expired].pk).update(expires_at=timezone.now())
    exchange_link(used_up, acting_user=make_user())
    revoke_link(rows[revoked].pk, acting_user=world.ada)
    return [wrong, expired, used_up, revoked, other[:-1], other + "A", "", "é\x00" * 3, "x" * 200]


def test_unusable_links_answer_alike(world: World) -> None:
    secrets = unusable(world)
    clients = [browser(world.bob), browser(world.ada), browser()]
    for client in clients:
        for path in ("/links/exchange", "/links/preview"):
            for secret in secrets:
                assert call(client, "POST", path, {"secret": secret}) == (404, NOT_USABLE), (path, secret)
    assert User.objects.filter(is_guest=True).count() == 0
    pages = set()
    for secret in secrets:
        page = browser(world.bob).post("/s/", {"secret": secret})
        pages.add(
            (page.status_code, re.sub(r'value="[\w]{64}"|content="[\w]{64}"', "", page.content.decode()))
        )
    assert len(pages) == 1
    assert pages.pop()[0] == 404


def test_what_a_link_leads_to_may_go(world: World) -> None:
    secret = world.link()
    delete_vm(world.vm.pk, acting_user=world.ada)
    with pytest.raises(LinkNotUsable):
        exchange_link(secret, acting_user=world.bob)
    restore_vm(world.vm.pk, acting_user=world.ada)
    resume_from(world.vm.pk, None, acting_user=world.ada)
    delete_snapshot(world.snapshot.pk, acting_user=world.ada)
    with pytest.raises(LinkNotUsable):
        exchange_link(secret, acting_user=world.bob)
    Tenant.objects.filter(pk=world.vm.tenant_id).update(deleted_at=timezone.now())
    Snapshot.objects.update(deleted_at=None)
    with pytest.raises(LinkNotUsable):
        exchange_link(secret, acting_user=world.bob)


def test_the_same_user_gets_the_same_copy(world: World) -> None:
    secret = world.link(max_uses=1)
    first = exchange_link(secret, acting_user=world.bob)
    assert exchange_link(secret, acting_user=world.bob) == first
    assert ShareLink.objects.get().uses == 1
    with pytest.raises(LinkNotUsable):
        exchange_link(secret, acting_user=world.ada)
    # A copy that was deleted is made anew, if there is a use left.
    delete_vm(first.pk, acting_user=world.bob)
    with pytest.raises(LinkNotUsable):
        exchange_link(secret, acting_user=world.bob)
    ShareLink.objects.update(max_uses=2)
    assert exchange_link(secret, acting_user=world.bob) != first


def race(secret: str, users: list[User]) -> list[Any]:
    start = threading.Barrier(len(users))
    outcomes: list[Any] = []

    def run(user: User) -> None:
        start.wait()
        try:
            outcomes.append(exchange_link(secret, acting_user=user).pk)
        except WebVMError as error:
            outcomes.append(type(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[user]) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return outcomes


@pytest.mark.django_db(transaction=True)
def test_the_last_uses_are_not_given_twice() -> None:
    world = World()
    outcomes = race(world.link(max_uses=2), [make_user() for _ in range(6)])
    assert outcomes.count(LinkNotUsable) == 4
    assert ShareLink.objects.get().uses == LinkUse.objects.count() == 2
    assert VM.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_one_user_in_many_tabs_gets_one_copy() -> None:
    world = World()
    outcomes = race(world.link(), [world.bob] * 5)
    assert len(set(outcomes)) == 1
    assert ShareLink.objects.get().uses == 1
    assert VM.objects.filter(tenant__memberships__user=world.bob).count() == 1


@pytest.mark.parametrize(
    "body",
    [
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": 10**12},
        {"expires_in": 400 * 86400},
        {"max_uses": 0},
        {"max_uses": -1},
        {"max_uses": 10**9},
        {"mode": "collaborate"},
    ],
)
def test_bad_options(world: World, body: dict[str, Any]) -> None:
    status, answer = call(browser(world.ada), "POST", f"/snapshots/{world.snapshot.pk}/links", body)
    assert (status, answer["error"]["code"]) == (422, "invalid_input")
    assert not ShareLink.objects.exists()


def test_revoking_is_for_its_maker_and_admins(world: World) -> None:
    cleo = make_user("cleo@example.org")
    tenant = Tenant.objects.get(pk=world.vm.tenant_id)
    Membership.objects.create(tenant=tenant, user=world.bob, role=Role.MEMBER)
    Membership.objects.create(tenant=tenant, user=cleo, role=Role.ADMIN)
    first, second = (make_link(world.snapshot.pk, acting_user=world.ada).link for _ in range(2))
    with pytest.raises(PermissionDenied):
        revoke_link(first.pk, acting_user=world.bob)
    revoke_link(first.pk, acting_user=cleo)
    assert call(browser(world.ada), "DELETE", f"/links/{second.pk}") == (204, None)
    assert not ShareLink.objects.filter(revoked_at=None).exists()


def test_the_preview(world: World) -> None:
    secret = world.link()
    status, shown = call(browser(), "POST", "/links/preview", {"secret": secret})
    assert status == 200
    assert (shown["name"], shown["image"], shown["shared_by"]) == ("Lab", "Tiny Linux", "Ada")
    assert (shown["message"], shown["allow_guests"]) == ("for the class", True)
    assert shown["thumbnail"].startswith("data:image/png;base64,")
    assert ShareLink.objects.get().uses == 0
    pack = world.vm.image_version.warm_pack
    assert shown["warm_pack"] == {"digest": pack, "url": f"/chunks/pub/{pack}"}
    known = {"name", "image", "message", "shared_by", "saved_at", "allow_guests", "thumbnail", "warm_pack"}
    assert set(shown) == known


def test_a_guest_gets_an_account_and_a_copy(world: World) -> None:
    secret = world.link()
    client = browser()
    status, answer = exchange(client, secret)
    assert status == 200
    guest = User.objects.get(is_guest=True)
    copy = VM.objects.get(pk=answer["vm"]["id"])
    assert copy.tenant == guest.memberships.get().tenant
    assert call(client, "GET", f"/vms/{copy.pk}/open")[0] == 200
    assert exchange(client, secret)[1]["vm"]["id"] == str(copy.pk), "the same guest, the same copy"
    assert User.objects.filter(is_guest=True).count() == 1
    assert "Keep this by signing up" in client.get("/machines/").content.decode()
    # The copy is the guest's own: neither Ada's nor the original open to the guest.
    assert call(client, "GET", f"/vms/{world.vm.pk}")[0] == 404


def test_guests_where_they_are_not_allowed(world: World) -> None:
    secret = world.link()
    Tenant.objects.filter(pk=world.vm.tenant_id).update(allow_guests=False)
    status, answer = exchange(browser(), secret)
    assert (status, answer["error"]["code"]) == (401, "guests_not_allowed")
    with pytest.raises(GuestsNotAllowed):
        exchange_link_as_guest(secret)
    page = browser().post("/s/", {"secret": secret})
    assert (page.status_code, "does not allow guests" in page.content.decode()) == (401, True)
    assert not User.objects.filter(is_guest=True).exists()
    assert ShareLink.objects.get().uses == 0
    assert exchange(browser(world.bob), secret)[0] == 200


def test_nothing_is_left_of_a_guest_who_came_too_late(world: World) -> None:
    secret = world.link(max_uses=1)
    exchange_link(secret, acting_user=world.bob)
    users = User.objects.count()
    with pytest.raises(LinkNotUsable):
        exchange_link_as_guest(secret)
    assert User.objects.count() == users


def test_a_form_from_elsewhere_opens_nothing(world: World) -> None:
    secret = world.link()
    for client in (browser(csrf=True), browser(world.bob, csrf=True)):
        assert exchange(client, secret)[0] == 403
        assert client.post("/s/", {"secret": secret}).status_code == 403
    assert ShareLink.objects.get().uses == 0
    token = make_token(world.bob)
    answer = call(browser(csrf=True), "POST", "/links/exchange", {"secret": secret}, token=token)
    assert answer[0] == 200


def test_the_landing_page(world: World) -> None:
    secret = world.link()
    page = browser().get("/s/").content.decode()
    assert "Open a copy" in page
    assert 'href="/accounts/login/?next=/s/"' in page
    assert secret not in page
    opened = browser(world.bob).post("/s/", {"secret": f" http://testserver/s/#{secret} "})
    copy = VM.objects.get(tenant__memberships__user=world.bob)
    assert opened.headers["Location"] == f"/vms/{copy.pk}/"
    guest = browser()
    opened = guest.post("/s/", {"secret": secret})
    assert opened.status_code == 302
    assert guest.get(opened.headers["Location"]).status_code == 200


def test_guests_are_not_made_without_end(world: World) -> None:
    secret = world.link()
    statuses = [exchange(browser(), secret)[0] for _ in range(35)]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert User.objects.filter(is_guest=True).count() == statuses.count(200) <= 30


def test_the_links_page(world: World) -> None:
    client = browser(world.ada)
    form = {"snapshot": str(world.snapshot.pk), "expires_in": "3600", "max_uses": "2"}
    made = client.post(f"/vms/{world.vm.pk}/links/make/", form).content.decode()
    found = re.search(r"http://testserver/s/#([\w-]{43})", made)
    assert found
    assert exchange_link(found.group(1), acting_user=world.bob)
    page = client.get(f"/vms/{world.vm.pk}/links/").content.decode()
    assert found.group(1) not in page
    assert "1 of 2" in page
    for limit in ('name="expires_in"', 'name="max_uses"'):
        assert page.count(limit) == 1
        assert client.get(f"/vms/{world.vm.pk}/").content.decode().count(limit) == 1
    link = ShareLink.objects.get()
    assert link.expires_at is not None
    assert timedelta(minutes=59) < link.expires_at - timezone.now() <= timedelta(hours=1)
    assert "Revoked" in client.post(f"/links/{link.pk}/revoke/", follow=True).content.decode()
    for bad in ({"snapshot": "x"}, {**form, "max_uses": "many"}, {**form, "expires_in": "9" * 12}):
        back = client.post(f"/vms/{world.vm.pk}/links/make/", bad | {"next": f"/vms/{world.vm.pk}/links/"})
        assert back.headers["Location"] == f"/vms/{world.vm.pk}/links/"
    assert ShareLink.objects.count() == 1
    empty = create_vm("tiny", acting_user=world.ada)
    assert "save it first" in client.get(f"/vms/{empty.pk}/links/").content.decode()
