"""Machines: made, listed, renamed, deleted and brought back, through the API and the pages."""

from __future__ import annotations

import json
import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions.actions.leases import take_lease
from sessions.actions.links import exchange_link, make_link
from sessions.actions.snapshots import make_fork
from sessions.actions.vms import create_vm, delete_vm
from sessions.models import VM, Snapshot
from storage.models import ImageVersion
from tests.support.machines import Machine, make_image, make_user, save
from webvm.accounts.models import AuditEntry, Membership, Role, Tenant, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def image() -> tuple[ImageVersion, Machine]:
    return make_image()


@pytest.fixture
def ada(image: tuple[ImageVersion, Machine]) -> User:
    return make_user("ada@example.org", name="Ada")


@pytest.fixture
def client(ada: User) -> Client:
    client = Client()
    client.force_login(ada)
    return client


def create(client: Client, **fields: Any) -> dict[str, Any]:
    response = client.post("/api/v1/vms", {"image": "tiny", **fields}, content_type="application/json")
    assert response.status_code == 201, response.content
    made: dict[str, Any] = response.json()
    return made


def test_it_works(client: Client, ada: User) -> None:
    made = create(client, name="  My   lab ")
    assert made["name"] == "My lab"
    assert made["head"] is None
    assert made["image"] == {"slug": "tiny", "title": "Tiny Linux", "version": 1}
    assert client.get(f"/api/v1/vms/{made['id']}").json() == made
    assert client.get("/api/v1/vms").json() == {"items": [made], "next": None}
    assert AuditEntry.objects.get(action="create_vm").acting_user == ada


def test_the_open_descriptor(client: Client, image: tuple[ImageVersion, Machine]) -> None:
    version, machine = image
    vm = create(client)
    opened = client.get(f"/api/v1/vms/{vm['id']}/open").json()
    assert opened["vm"] == {
        "id": vm["id"],
        "name": "Tiny Linux",
        "tenant": vm["tenant"],
        "autosave_seconds": 30,
    }
    assert opened["snapshot"] is None
    assert opened["machine"] == version.machine
    assert opened["disk"] == {"root": machine.disk.root, "blocks": 2048, "public": True}
    assert opened["memory"] == {"root": machine.memory.root, "blocks": 1280, "public": True}
    assert opened["image"]["disk_root"] == machine.disk.root
    assert opened["image"]["warm_pack"] == "0" * 64
    assert opened["chunk_base_url"] == "/chunks/"
    assert opened["locate_url"] == f"/api/v1/vms/{vm['id']}/locate"
    assert opened["socket_url"] == f"/ws/vms/{vm['id']}/"


def test_an_image_without_a_warm_snapshot_boots(client: Client, image: tuple[ImageVersion, Machine]) -> None:
    ImageVersion.objects.update(memory_root="")
    assert client.get(f"/api/v1/vms/{create(client)['id']}/open").json()["memory"] is None


def test_locate_leads_from_the_root_to_private_chunks(
    client: Client, ada: User, image: tuple[ImageVersion, Machine]
) -> None:
    vm = VM.objects.get(pk=create(client)["id"])
    machine = image[1].copy()
    snapshot = save(vm, machine, "one", ada)
    url = f"/api/v1/vms/{vm.pk}/locate"
    body = {"snapshot": str(snapshot.pk), "device": "disk", "leaves": [0, 1]}
    found = client.post(url, body, content_type="application/json").json()
    assert machine.disk.root in found["nodes"]
    assert found["expires_in"] > 60
    changed = machine.disk.places[7][0]
    assert list(found["urls"]) == [changed], "what is the image's needs no URL"
    assert found["urls"][changed].startswith(f"/chunks/t/{vm.tenant_id}/")
    of_the_image = client.post(url, {"device": "disk", "leaves": [0]}, content_type="application/json").json()
    assert of_the_image["urls"] == {}
    assert image[1].disk.root in of_the_image["nodes"]


@pytest.mark.parametrize(
    "body",
    [
        {"device": "disk", "leaves": [2]},
        {"device": "disk", "leaves": [-1]},
        {"device": "disk", "leaves": [0] * 65},
        {"device": "tape", "leaves": [0]},
        {"device": "disk", "leaves": ["x"]},
        {},
    ],
)
def test_locate_refuses_bad_input(client: Client, body: dict[str, Any]) -> None:
    vm = create(client)
    response = client.post(f"/api/v1/vms/{vm['id']}/locate", body, content_type="application/json")
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "invalid_input"


@pytest.mark.parametrize(("slug", "withdrawn"), [("nothing", False), ("", False), ("tiny", True)])
def test_images_that_are_not_there(client: Client, slug: str, withdrawn: bool) -> None:
    ImageVersion.objects.update(is_withdrawn=withdrawn)
    response = client.post("/api/v1/vms", {"image": slug}, content_type="application/json")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "image_not_available")
    assert not VM.objects.exists()


def test_the_newest_version_is_taken(client: Client) -> None:
    make_image()
    assert create(client)["image"]["version"] == 2


@pytest.mark.parametrize("name", ["x" * 121, "bell\x07", "\ud800"])
def test_bad_names(client: Client, name: str) -> None:
    vm = create(client)
    for method, url in ((client.post, "/api/v1/vms"), (client.patch, f"/api/v1/vms/{vm['id']}")):
        response = method(url, {"image": "tiny", "name": name}, content_type="application/json")
        assert response.status_code == 422
    assert VM.objects.get().name == "Tiny Linux"


def test_renaming(client: Client) -> None:
    vm = create(client)
    url = f"/api/v1/vms/{vm['id']}"
    assert client.patch(url, {"name": "Other"}, content_type="application/json").json()["name"] == "Other"
    assert client.patch(url, {"name": " "}, content_type="application/json").status_code == 422
    assert client.get(url).json()["name"] == "Other"
    assert AuditEntry.objects.get(action="rename_vm").data == {"old": "Tiny Linux", "new": "Other"}


def test_deleting_and_undoing(client: Client) -> None:
    vm = create(client)
    url = f"/api/v1/vms/{vm['id']}"
    assert client.delete(url).status_code == 204
    assert client.get(url).status_code == client.delete(url).status_code == 404
    assert client.get(f"{url}/open").status_code == 404
    assert client.get("/api/v1/vms").json()["items"] == []
    assert [each["id"] for each in client.get("/api/v1/vms?deleted=true").json()["items"]] == [vm["id"]]
    assert client.post(f"{url}/restore").json() == vm
    assert client.post(f"{url}/restore").json() == vm, "restoring what is there changes nothing"
    assert client.get(url).json() == vm


def test_undoing_ends_after_thirty_days(client: Client) -> None:
    vm = create(client)
    client.delete(f"/api/v1/vms/{vm['id']}")
    VM.objects.update(deleted_at=timezone.now() - timedelta(days=31))
    assert client.get("/api/v1/vms?deleted=true").json()["items"] == []
    response = client.post(f"/api/v1/vms/{vm['id']}/restore")
    assert (response.status_code, response.json()["error"]["code"]) == (410, "undo_too_late")


def test_a_member_deletes_only_their_own(client: Client, ada: User) -> None:
    tenant = Tenant.objects.create(name="Lab")
    Membership.objects.create(tenant=tenant, user=ada, role=Role.MEMBER)
    bob = make_user("bob@example.org")
    Membership.objects.create(tenant=tenant, user=bob, role=Role.ADMIN)
    mine = create(client, tenant=str(tenant.pk))
    theirs = create_vm("tiny", acting_user=bob, tenant=tenant)
    response = client.delete(f"/api/v1/vms/{theirs.pk}")
    assert (response.status_code, response.json()["error"]["code"]) == (403, "permission_denied")
    assert client.delete(f"/api/v1/vms/{mine['id']}").status_code == 204
    delete_vm(theirs.pk, acting_user=bob)


def test_lists_are_paged_by_cursor_and_tenant(client: Client, ada: User) -> None:
    tenant = Tenant.objects.create(name="Lab")
    Membership.objects.create(tenant=tenant, user=ada)
    moment = timezone.now()
    made = [create_vm("tiny", acting_user=ada) for _ in range(7)]
    create_vm("tiny", acting_user=ada, tenant=tenant)
    VM.objects.filter(tenant=made[0].tenant).update(last_used_at=moment)  # one instant: ordered by id
    VM.objects.filter(pk=made[3].pk).update(last_used_at=moment + timedelta(seconds=1))
    seen: list[str] = []
    url = f"/api/v1/vms?tenant={made[0].tenant_id}&limit=3"
    cursor = None
    while True:
        page = client.get(url if cursor is None else f"{url}&cursor={cursor}").json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    expected = [made[3], *sorted((vm for vm in made if vm != made[3]), key=lambda vm: vm.pk)]
    assert seen == [str(vm.pk) for vm in expected]
    assert len(client.get("/api/v1/vms").json()["items"]) == 8
    for bad in ("x", "W10", "!!!", "eyJhIjoxfQ", "WyIyMDI2LTAxLTAxIiwgImEiXQ"):
        assert client.get(f"{url}&cursor={bad}").status_code == 422
    for bad in ("0", "101", "x"):
        assert client.get(f"/api/v1/vms?limit={bad}").status_code == 422


def queries(client: Client, url: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


def test_lists_cost_the_same_however_long(
    client: Client, ada: User, image: tuple[ImageVersion, Machine]
) -> None:
    machine = image[1].copy()
    vm = create_vm("tiny", acting_user=ada)

    def grow() -> None:
        snapshot = save(vm, machine, uuid.uuid4().hex, ada)
        for _ in range(3):
            take_lease(
                make_fork(snapshot, vm.tenant, acting_user=ada).pk,
                uuid.uuid4(),
                take_over=False,
                acting_user=ada,
            )
        make_link(snapshot.pk, acting_user=ada)

    grow()
    urls = [
        "/api/v1/vms",
        f"/api/v1/vms/{vm.pk}/snapshots",
        f"/api/v1/vms/{vm.pk}/links",
        "/machines/",
        f"/vms/{vm.pk}/history/",
        f"/vms/{vm.pk}/links/",
    ]
    before = [queries(client, url) for url in urls]
    for _ in range(4):
        grow()
    assert [queries(client, url) for url in urls] == before
    assert max(before) <= 12


def test_the_machines_page(client: Client, ada: User, image: tuple[ImageVersion, Machine]) -> None:
    empty = client.get("/machines/").content.decode()
    assert 'href="/images/"' in empty
    assert "No machines yet" in empty
    vm = create_vm("tiny", acting_user=ada, name="<b>bold</b>")
    save(vm, image[1].copy(), "one", ada)
    page = client.get("/machines/").content.decode()
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "<b>bold" not in page
    assert f'href="/vms/{vm.pk}/"' in page
    assert f"/api/v1/snapshots/{Snapshot.objects.get().pk}/thumbnail" in page


def test_creating_from_the_catalogue_leads_into_the_console(client: Client) -> None:
    response = client.post("/vms/create/", {"image": "tiny"})
    vm = VM.objects.get()
    assert (response.status_code, response.headers["Location"]) == (302, f"/vms/{vm.pk}/")
    page = client.get(f"/vms/{vm.pk}/")
    assert page.status_code == 200
    assert f"/api/v1/vms/{vm.pk}/open" in page.content.decode()


def test_the_console_page_brings_what_open_would_answer(client: Client, ada: User) -> None:
    vm = create_vm("tiny", acting_user=ada, name="</script><b>")
    text = client.get(f"/vms/{vm.pk}/").content.decode()
    block = re.search(r'<script id="descriptor" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert block is not None
    assert json.loads(block[1]) == client.get(f"/api/v1/vms/{vm.pk}/open").json()


def test_creating_in_the_tenant_that_was_switched_to(client: Client, ada: User) -> None:
    tenant = Tenant.objects.create(name="Lab")
    Membership.objects.create(tenant=tenant, user=ada)
    client.get(f"/machines/?tenant={tenant.pk}")
    client.post("/vms/create/", {"image": "tiny"})
    assert VM.objects.get().tenant == tenant


def test_pages_delete_and_undo(client: Client, ada: User) -> None:
    vm = create_vm("tiny", acting_user=ada, name="<b>box")
    page = client.post(f"/vms/{vm.pk}/delete/", follow=True).content.decode()
    assert "can be brought back" in page
    assert "Deleted “&lt;b&gt;box” by mistake?" in page
    assert f'action="/vms/{vm.pk}/restore/"' in page
    assert "Bring back" in client.get("/machines/?deleted=1").content.decode()
    assert "is back" in client.post(f"/vms/{vm.pk}/restore/", follow=True).content.decode()
    assert "Deleted machines stay here for 30 days" in client.get("/machines/?deleted=1").content.decode()
    assert client.get("/machines/?undo=nonsense").status_code == 200


def test_pages_say_what_is_wrong(client: Client, ada: User) -> None:
    vm = create_vm("tiny", acting_user=ada)
    page = client.post(f"/vms/{vm.pk}/rename/", {"name": ""}, follow=True)
    assert page.redirect_chain == [("/machines/", 302)]
    assert "Give it a name." in page.content.decode()
    # Only to pages of ours.
    away = client.post(f"/vms/{vm.pk}/rename/", {"name": "x", "next": "https://evil.example/"})
    assert away.headers["Location"] == "/machines/"
    assert client.get(f"/vms/{vm.pk}/delete/").status_code == 405


def test_pages_ask_to_sign_in(client: Client, ada: User) -> None:
    vm = create_vm("tiny", acting_user=ada)
    client.logout()
    for url in ("/machines/", f"/vms/{vm.pk}/", f"/vms/{vm.pk}/history/", f"/vms/{vm.pk}/links/"):
        response = client.get(url)
        assert response.status_code == 302
        assert response.headers["Location"] == f"/accounts/login/?next={url}"


def test_the_admin_is_usable(client: Client, ada: User, image: tuple[ImageVersion, Machine]) -> None:
    vm = create_vm("tiny", acting_user=ada)
    snapshot = save(vm, image[1].copy(), "one", ada)
    new = make_link(snapshot.pk, acting_user=ada)
    exchange_link(new.secret, acting_user=ada)
    User.objects.filter(pk=ada.pk).update(is_staff=True, is_superuser=True)
    for model, row in (
        ("vm", vm),
        ("snapshot", snapshot),
        ("sharelink", new.link),
        ("linkuse", new.link.link_uses.get()),
    ):
        for url in (f"/admin/vm_sessions/{model}/?q=tiny", f"/admin/vm_sessions/{model}/{row.pk}/change/"):
            page = client.get(url)
            assert page.status_code == 200, url
            assert new.link.secret_hash not in page.content.decode()
