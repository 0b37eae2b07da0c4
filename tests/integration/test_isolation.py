"""What is another tenant's answers as what does not exist: every address, every method, every socket."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import Client

from sessions.actions.links import make_link
from sessions.actions.snapshots import delete_snapshot
from sessions.actions.vms import create_vm, delete_vm
from sessions.models import VM, ShareLink, Snapshot
from sessions.urls import urlpatterns
from tests.support.machines import Socket, make_image, make_token, make_user, save
from tests.support.pages import browser, call
from webvm.accounts.models import AuditEntry, Membership, Tenant, User
from webvm.api import api

pytestmark = pytest.mark.django_db


class World:
    """Ada's things, living and deleted; Eve, who has a tenant and a VM of her own."""

    def __init__(self) -> None:
        machine = make_image()[1].copy()
        self.ada, self.eve = make_user("ada@example.org"), make_user("eve@example.org")
        self.vm = create_vm("tiny", acting_user=self.ada)
        gone = save(self.vm, machine, "one", self.ada)
        self.snapshot = save(self.vm, machine, "two", self.ada)
        delete_snapshot(gone.pk, acting_user=self.ada)
        self.link = make_link(self.snapshot.pk, acting_user=self.ada).link
        deleted = create_vm("tiny", acting_user=self.ada)
        delete_vm(deleted.pk, acting_user=self.ada)
        self.own = create_vm("tiny", acting_user=self.eve)
        self.ids = {
            "vm_id": [self.vm.pk, deleted.pk],
            "snapshot_id": [self.snapshot.pk, gone.pk],
            "link_id": [self.link.pk],
        }

    def facts(self) -> list[Any]:
        models = (VM, Snapshot, ShareLink)
        return [list(model.objects.order_by("pk").values()) for model in models] + [
            AuditEntry.objects.count()
        ]


@pytest.fixture
def world() -> World:
    return World()


def no_body(world: World) -> dict[str, Any]:
    return {}


# What each call needs to get as far as looking for the thing.
BODIES: dict[str, Callable[[World], dict[str, Any]]] = {
    "rename_vm": lambda _: {"name": "mine now"},
    "locate_chunks": lambda _: {"device": "disk", "leaves": [0]},
    "resume_from": lambda world: {"snapshot": str(world.snapshot.pk)},
    "name_snapshot": lambda _: {"name": "mine now"},
    "fork_snapshot": lambda _: {},
    "make_link": lambda _: {"mode": "fork"},
}


def api_calls() -> list[tuple[str, str, str]]:
    """`(method, path with {name}, operation)` of every call of this app that names a thing."""
    found = []
    for path, operations in api.get_openapi_schema()["paths"].items():
        short = path.removeprefix("/api/v1")
        if short.startswith(("/vms/", "/snapshots/", "/links/")) and "{" in short:
            for method, operation in operations.items():
                name = operation["operationId"].removeprefix("sessions_api_")
                found.append((method.upper(), short, name))
    return found


def test_every_api_call_answers_alike(world: World) -> None:
    calls = api_calls()
    assert len(calls) >= 17
    before = world.facts()
    clients = {"another": browser(world.eve), "nobody": browser()}
    for method, path, operation in calls:
        body = BODIES.get(operation, no_body)(world)
        name = path[path.index("{") + 1 : path.index("}")]
        for who, client in clients.items():
            answers = [
                call(client, method, path.replace(f"{{{name}}}", str(pk)), body if method != "GET" else None)
                for pk in (*world.ids[name], uuid.uuid4())
            ]
            assert all(answer == answers[-1] for answer in answers), (who, method, path, answers)
            assert answers[-1][0] == (404 if who == "another" else 401), (who, method, path)
    assert world.facts() == before


def test_every_page_answers_alike(world: World) -> None:
    before = world.facts()
    checked = 0
    for pattern in urlpatterns:
        converters = list(pattern.pattern.converters)
        if not converters:
            continue
        checked += 1
        for client in (browser(world.eve), browser()):
            for method in (client.get, client.post):
                answers = []
                for pk in (*world.ids[converters[0]], uuid.uuid4()):
                    url = "/" + str(pattern.pattern).replace(f"<uuid:{converters[0]}>", str(pk))
                    data = {"name": "mine now", "snapshot": str(world.snapshot.pk), "seconds": "60"}
                    response = method(url, data if method == client.post else {})
                    location = response.headers.get("Location", "").replace(str(pk), "…")
                    answers.append((response.status_code, location, plain(response.content, pk)))
                assert all(answer == answers[-1] for answer in answers), (pattern, answers)
                assert answers[-1][0] in {302, 404, 405}
                if answers[-1][0] == 302:
                    assert answers[-1][1].startswith("/accounts/login/")
    assert checked >= 13
    assert world.facts() == before


def plain(content: bytes, pk: uuid.UUID) -> str:
    return content.decode().replace(str(pk), "…")


def test_foreign_ids_in_bodies_and_queries(world: World) -> None:
    """One's own thing in the path does not open another's in the body."""
    eve = browser(world.eve)
    mine = f"/vms/{world.own.pk}"
    tenants = (world.vm.tenant_id, uuid.uuid4())
    asks: list[tuple[str, str, list[dict[str, Any]]]] = [
        ("POST", "/vms", [{"image": "tiny", "tenant": str(pk)} for pk in tenants]),
        ("POST", f"{mine}/resume_from", [{"snapshot": str(pk)} for pk in (world.snapshot.pk, uuid.uuid4())]),
        (
            "POST",
            f"{mine}/locate",
            [
                {"snapshot": str(pk), "device": "disk", "leaves": [0]}
                for pk in (world.snapshot.pk, uuid.uuid4())
            ],
        ),
    ]
    before = world.facts()
    for method, path, bodies in asks:
        foreign, missing = (call(eve, method, path, body) for body in bodies)
        assert foreign == missing
        assert foreign[0] == 404
    for query in ("open?snapshot={}", "snapshots?cursor={}"):
        foreign, missing = (
            call(eve, "GET", f"{mine}/{query.format(pk)}") for pk in (world.snapshot.pk, uuid.uuid4())
        )
        assert foreign == missing
        assert foreign[0] in {404, 422}
    foreign, missing = (call(eve, "GET", f"/vms?tenant={pk}") for pk in tenants)
    assert foreign == missing
    assert foreign[0] == 404
    assert world.facts() == before


def test_lists_hold_only_ones_own(world: World) -> None:
    eve = browser(world.eve)
    for query in ("", "?deleted=true"):
        ids = [item["id"] for item in call(eve, "GET", f"/vms{query}")[1]["items"]]
        assert ids == ([] if query else [str(world.own.pk)])
    for query in ("", "?deleted=1", f"?undo={world.vm.pk}"):
        assert str(world.vm.pk) not in eve.get(f"/machines/{query}").content.decode()


def test_leaving_a_tenant_closes_its_doors(world: World) -> None:
    tenant = Tenant.objects.get(pk=world.vm.tenant_id)
    membership = Membership.objects.create(tenant=tenant, user=world.eve)
    eve = browser(world.eve)
    assert call(eve, "GET", f"/vms/{world.vm.pk}")[0] == 200
    membership.delete()
    assert call(eve, "GET", f"/vms/{world.vm.pk}") == call(eve, "GET", f"/vms/{uuid.uuid4()}")


def test_a_user_who_may_not_sign_in_has_nothing(world: World) -> None:
    token = make_token(world.ada)
    User.objects.filter(pk=world.ada.pk).update(is_active=False)
    assert call(Client(), "GET", f"/vms/{world.vm.pk}", token=token)[0] == 401


@pytest.mark.django_db(transaction=True)
async def test_sockets_answer_alike(transactional_db: None) -> None:
    world = await sync_to_async(World)()
    eve = await sync_to_async(make_token)(world.eve)
    ends = []
    for vm_id in (*world.ids["vm_id"], uuid.uuid4()):
        for token in (eve, None):
            async with Socket(vm_id, token=token) as socket:
                code = await socket.closed()
                ends.append((token is not None, socket.accepted, socket.events, code))
    assert ends == [(True, True, [], 4404), (False, True, [], 4401)] * 3
    async with Socket("not-a-uuid", token=eve) as socket:
        assert not socket.accepted
