"""Handing a machine over, and watching it: over the WebSocket."""

from __future__ import annotations

import asyncio
import struct
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from sessions import relaying
from sessions.actions.vms import create_vm
from sessions.models import VM
from tests.support.machines import (
    Closed,
    Machine,
    Refused,
    Socket,
    areload,
    make_image,
    make_token,
    make_user,
)
from webvm.accounts.models import Membership, Tenant

pytestmark = pytest.mark.django_db(transaction=True)


class World:
    """A VM of a tenant with two members."""

    def __init__(self) -> None:
        self.machine: Machine = make_image()[1]
        self.ada = make_user("ada@example.org", name="Ada")
        self.bob = make_user("bob@example.org", name="Bob")
        tenant = Tenant.objects.create(name="Lab")
        for user in (self.ada, self.bob):
            Membership.objects.create(tenant=tenant, user=user)
        self.vm = create_vm("tiny", acting_user=self.ada, tenant=tenant)
        self.tokens = {user.name: make_token(user) for user in (self.ada, self.bob)}

    def remove_bob(self) -> None:
        Membership.objects.get(user=self.bob, tenant_id=self.vm.tenant_id).delete()

    def socket(self, who: str) -> Socket:
        return Socket(self.vm.pk, token=self.tokens[who])


@pytest.fixture
def world() -> World:
    return World()


def screen(number: int, text: bytes = b"hello", whole: bool = False) -> bytes:
    return struct.pack(">BIB", 2, number, whole) + text


async def test_a_holder_that_answers_saves_first(world: World) -> None:
    ada_session, bob_session = uuid.uuid4(), uuid.uuid4()
    async with world.socket("Ada") as ada, world.socket("Bob") as bob:
        await ada.lease(ada_session)
        first = await ada.save(world.machine, "one", None)
        with pytest.raises(Refused) as held:
            await bob.lease(bob_session)
        assert held.value.error["holder"] == "Ada"
        assert held.value.error["yours"] is False
        assert (await bob.request("ask", session=str(bob_session)))["state"] == "asked"
        asked = await ada.until("asked")
        assert asked["by"] == "Bob"
        assert asked["at"]
        await ada.request("yield", epoch=ada.epoch)
        assert (await bob.request("ask", session=str(bob_session)))["state"] == "saving"
        last = await ada.save(world.machine, "two", first["id"], kind="auto")
        assert last["kind"] == "auto"
        await ada.request("release", epoch=ada.epoch)
        # It is kept for the one who asked, who need not take it by force.
        with pytest.raises(Refused) as reserved:
            await ada.lease(uuid.uuid4())
        assert reserved.value.error["holder"] == "Bob"
        assert (await bob.request("ask", session=str(bob_session)))["state"] == "free"
        lease = await bob.lease(bob_session)
        assert (lease["epoch"], lease["head"]) == (2, last["id"])
        # It was given back, so nothing depends on the autosave: it rolls on.
        await bob.save(world.machine, "three", last["id"], kind="auto")
    kinds = await sync_to_async(lambda: list(world.vm.snapshots.values_list("kind", flat=True)))()
    assert sorted(kinds) == ["auto", "save"]


async def test_a_holder_that_is_silent_is_passed_over_and_told(world: World) -> None:
    session = uuid.uuid4()
    async with world.socket("Ada") as ada, world.socket("Bob") as bob:
        await ada.lease()
        first = await ada.save(world.machine, "one", None, kind="auto")
        assert (await bob.request("ask", session=str(session)))["state"] == "asked"
        long_ago = timezone.now() - timedelta(seconds=6)
        await sync_to_async(VM.objects.filter(pk=world.vm.pk).update)(asked_at=long_ago)
        assert (await bob.request("ask", session=str(session)))["state"] == "silent"
        await bob.lease(session, take_over=True)
        told = await ada.until("taken_over")
        assert (told["holder"], told["yours"]) == ("Bob", False)
        assert told["since"]
        assert await ada.closed() == 4409
        # Ada's work builds on what she has autosaved: it stays, for her to keep her work as a fork of it.
        await bob.save(world.machine, "two", first["id"], kind="auto")
    kinds = await sync_to_async(lambda: list(world.vm.snapshots.values_list("kind", flat=True)))()
    assert sorted(kinds) == ["auto", "save"]


async def test_a_late_answer_of_the_old_holder_says_who_has_it(world: World) -> None:
    async with world.socket("Ada") as ada, world.socket("Bob") as bob:
        await ada.lease()
        await bob.lease(take_over=True)
        code = 4409
        try:
            for request in ("yield", "renew"):
                with pytest.raises(Refused) as refused:
                    await ada.request(request, epoch=ada.epoch)
                assert refused.value.code == "lease_lost"
                assert refused.value.error["holder"] == "Bob"
        except Closed as closed:
            code = closed.code  # the news was faster than the answer; nothing is answered after it
        assert code == 4409
        assert (await ada.until("taken_over"))["holder"] == "Bob"


async def test_ones_own_other_tab_is_told_apart(world: World) -> None:
    async with world.socket("Ada") as one, world.socket("Ada") as two:
        await one.lease()
        with pytest.raises(Refused) as held:
            await two.lease()
        assert held.value.error["yours"] is True


async def test_asking_again_of_the_same_session_sends_one_question(world: World) -> None:
    session = uuid.uuid4()
    async with world.socket("Ada") as ada, world.socket("Bob") as bob:
        await ada.lease()
        for _ in range(5):
            await bob.request("ask", session=str(session))
        await ada.until("asked")
        await ada.request("renew", epoch=ada.epoch)
        assert not [event for event in ada.events if event.get("type") == "asked"]


async def test_watching(world: World) -> None:
    async with world.socket("Ada") as ada, world.socket("Bob") as bob:
        await ada.lease()
        await ada.send_bytes(screen(0))  # nobody watches: it goes nowhere
        await bob.request("watch", on=True, fresh=True)
        while not (await ada.until("watched"))["fresh"]:
            pass
        await ada.send_bytes(screen(1, b"all", whole=True))
        await ada.send_bytes(screen(2))
        assert (await bob.until("frame"))["data"] == screen(1, b"all", whole=True)
        assert (await bob.until("frame"))["data"] == screen(2)
        await bob.request("watch", on=False, fresh=False)
        await ada.send_bytes(screen(3))
        await ada.request("renew", epoch=ada.epoch)
        await bob.request("watch", on=False, fresh=False)
        assert not [event for event in bob.events if event["type"] == "frame"]


async def test_who_has_watched_and_takes_over_is_not_shown_its_own_screen(world: World) -> None:
    async with world.socket("Ada") as ada, world.socket("Bob") as bob:
        await ada.lease()
        await bob.request("watch", on=True, fresh=True)
        await ada.until("watched")
        await bob.request("lease", session=str(uuid.uuid4()), take_over=True)
        bob.events.clear()
        # Somebody else watches now: so what Bob shows is relayed.
        async with world.socket("Ada") as ada_again:
            await ada_again.request("watch", on=True, fresh=True)
            await bob.until("watched")
            await bob.send_bytes(screen(0, b"all", whole=True))
            assert (await ada_again.until("frame"))["data"] == screen(0, b"all", whole=True)
            await bob.request("watch", on=False, fresh=False)
        assert not [event for event in bob.events if event["type"] == "frame"]


async def test_watchers_show_up_again_and_again(world: World) -> None:
    async with world.socket("Ada") as ada, world.socket("Bob") as bob:
        await ada.lease()
        await bob.request("watch", on=True, fresh=True)
        await ada.until("watched")
        while (await ada.until("watched"))["fresh"]:
            pass


async def test_who_does_not_hold_the_machine_shows_nothing(world: World) -> None:
    async with world.socket("Ada") as ada, world.socket("Bob") as bob:
        await bob.request("watch", on=True, fresh=True)
        await ada.send_bytes(screen(0))
        assert await ada.closed() == 4400


async def test_a_watcher_that_reads_nothing_costs_a_window(world: World) -> None:
    async with world.socket("Ada") as ada, world.socket("Bob") as bob:
        await ada.lease()
        await bob.request("watch", on=True, fresh=True)
        await ada.until("watched")
        for number in range(12):
            await ada.send_bytes(screen(number, bytes(40 << 10)))
        await ada.request("renew", epoch=ada.epoch)
        await asyncio.sleep(0.3)
        await bob.request("watch", on=True, fresh=False)
        frames = [event["data"] for event in bob.events if event["type"] == "frame"]
        assert 0 < sum(map(len, frames)) <= relaying.WINDOW
        bob.events.clear()
        # Having seen them, it is sent more: a gap in the numbers tells what it has missed.
        await bob.send_text('{"id": 99, "type": "seen", "count": 262144}')
        await ada.send_bytes(screen(99))
        assert (await bob.until("frame"))["data"] == screen(99)


async def test_a_flood_of_the_holder_is_dropped(world: World) -> None:
    async with world.socket("Ada") as ada, world.socket("Bob") as bob:
        await ada.lease()
        await bob.request("watch", on=True, fresh=True)
        await ada.until("watched")
        began = time.monotonic()
        for number in range(2000):
            await ada.send_bytes(screen(number))
        assert (await ada.request("renew", epoch=ada.epoch))["ok"]
        await bob.request("watch", on=True, fresh=False)
        frames = [event for event in bob.events if event["type"] == "frame"]
        allowed = relaying.BURST + relaying.RATE * (time.monotonic() - began)
        assert 0 < len(frames) <= min(allowed // relaying.LEAST_COST, 1999)


@pytest.mark.parametrize("data", [b"\x02", b"\x02\x00\x00\x00\x01", b"\x02" + bytes(65 << 10)])
async def test_a_broken_screen_frame_closes(world: World, data: bytes) -> None:
    async with world.socket("Ada") as ada:
        await ada.lease()
        await ada.send_bytes(data)
        assert await ada.closed() == 4400


async def test_watching_ends_with_the_membership(world: World) -> None:
    async with world.socket("Ada") as ada, world.socket("Bob") as bob:
        await ada.lease()
        await bob.request("watch", on=True, fresh=True)
        await ada.until("watched")
        await sync_to_async(world.remove_bob)()
        assert await bob.closed() == 4404
    vm: Any = await areload(world.vm)
    assert vm.epoch == 1
