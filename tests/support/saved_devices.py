"""Devices that tenants save and read without sessions, beside what a naive model says their blocks are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction

from storage.chunks import HomeId, find_missing
from storage.codec import decode_verified
from storage.commits import accept_device
from storage.index import (
    LEAF_BLOCKS,
    Extent,
    Interior,
    build_index,
    decode_node,
)
from storage.signing import signed_member
from storage.stores import get_store
from storage.walk import Located, locate
from tests.support.machines import Device, block, upload
from webvm.accounts.models import Tenant

# Two levels of interior nodes over few leaves.
BLOCKS = 600_000
PLACES = [0, 1, 2, 63, 64, 1023, 1024, 2047, 262_143, 262_144, 262_145, 500_000, 599_999]


@dataclass
class Saved:
    """A device as a snapshot has it, and what a naive model says its blocks are."""

    home: HomeId
    device: Device
    model: dict[int, bytes]


def new_tenant(**extra: Any) -> Tenant:
    return Tenant.objects.create(name="tenant", **extra)


def nodes_of(device: Device) -> dict[str, bytes]:
    extents = [Extent(number, 1, bytes.fromhex(digest), at) for number, (digest, at) in device.places.items()]
    return build_index(extents, device.blocks)[1]


def change(parent: Saved, changes: dict[int, bytes | None]) -> tuple[Saved, set[str]]:
    """The device after `changes` (None: zeros), and the digests of what is new in it."""
    device = parent.device.copy()
    written = {number: raw for number, raw in changes.items() if raw is not None}
    for number in changes.keys() - written.keys():
        device.places.pop(number, None)
    named = device.write(written)
    model = {**parent.model, **written}
    for number in changes.keys() - written.keys():
        model.pop(number, None)
    return Saved(parent.home, device, model), set(named) - set(nodes_of(parent.device))


def commit(tenant: Tenant, new: Saved, parent: Saved) -> Saved:
    with transaction.atomic():
        accept_device(
            tenant,
            root=new.device.root,
            blocks=new.device.blocks,
            parent_root=parent.device.root,
            parent_home=parent.home,
        )
    if new.device.root != parent.device.root:
        new.home = tenant.pk
    return new


def save(tenant: Tenant, parent: Saved, changes: dict[int, bytes | None]) -> Saved:
    new, named = change(parent, changes)
    missing = find_missing(tenant, [bytes.fromhex(digest) for digest in sorted(named)])
    upload(tenant, [new.device.chunks[digest.hex()] for digest in missing])
    return commit(tenant, new, parent)


def publish(blocks: int = BLOCKS, places: list[int] = PLACES) -> Saved:
    """A public device with something in it."""
    saved, named = change(
        Saved(None, Device(blocks), {}), {number: block(f"image {number}") for number in places}
    )
    upload(None, [saved.device.chunks[digest] for digest in named])
    return saved


def fetch(url: str) -> bytes:
    """What a browser would get: the signature is checked as the chunk application does."""
    parts = urlsplit(url)
    key = parts.path.removeprefix("/chunks/")
    assert signed_member(key, parts.query) == 0
    return get_store().get(key)


def read(saved: Saved, leaves: list[int] | None = None) -> dict[int, bytes]:
    """All blocks, as a client reads them that has nothing but the granted root."""
    wanted = leaves if leaves is not None else sorted({place // LEAF_BLOCKS for place in PLACES})
    located = locate(saved.device.root, saved.home, saved.device.blocks, wanted)
    found: dict[int, bytes] = {}
    for number in wanted:
        raw = leaf_of(located, saved.device.root, number)
        if raw is None:
            continue
        leaf = decode_node(raw)
        assert not isinstance(leaf, Interior)
        for entry in leaf.entries:
            digest = leaf.refs[entry.ref]
            url = located.urls.get(digest.hex())
            stored = fetch(url) if url else get_store().get(f"pub/{digest.hex()}")
            data = decode_verified(stored, digest)
            for at in range(entry.count):
                start = (entry.offset + at) * 4096
                found[number * LEAF_BLOCKS + entry.first + at] = data[start : start + 4096]
    return found


def leaf_of(located: Located, root: str, number: int) -> bytes | None:
    if not root:
        return None
    raw = located.nodes[root]
    while isinstance(node := decode_node(raw), Interior):
        child = node.child(number // 256 ** (node.level - 1) % 256)
        if child is None:
            return None
        raw = located.nodes[child.hex()]
    return raw
