"""Publishing in one call, and reading what was published as a client would."""

from __future__ import annotations

from typing import Any

from storage.codec import decode_verified
from storage.images.publish import run_publish_job, start_publish
from storage.models import Chunk, Image, ImageVersion, PublishJob, PublishState
from storage.packs import MAX_PACK_BYTES
from storage.stores import get_store
from storage.walk import locate
from tests.support.publishing import RECIPE
from tests.support.saved_devices import leaf_of


def publish(recipe: str = RECIPE) -> PublishJob:
    job = start_publish(recipe, acting_user=None, in_worker=False)
    run_publish_job(job.pk)
    job.refresh_from_db()
    return job


def version_of(job: PublishJob) -> ImageVersion:
    assert job.state == PublishState.SUCCEEDED, job.error
    assert job.version is not None
    return job.version


def public(digest: str | bytes) -> bytes:
    """A public object's raw bytes, verified."""
    digest = digest if isinstance(digest, bytes) else bytes.fromhex(digest)
    return decode_verified(get_store().get(f"pub/{digest.hex()}"), digest, MAX_PACK_BYTES)


def read_device(root: str, blocks: int) -> dict[int, bytes]:
    """Its blocks that are not all zeros."""
    leaves = range((blocks + 1023) // 1024)
    located = locate(root, None, blocks, leaves)
    assert not located.urls
    found: dict[int, bytes] = {}
    for number in leaves:
        raw = leaf_of(located, root, number)
        leaf: Any = decode(raw) if raw else None
        for entry in leaf.entries if leaf else ():
            data = public(leaf.refs[entry.ref])
            for at in range(entry.count):
                part = data[(entry.offset + at) * 4096 : (entry.offset + at + 1) * 4096]
                if part.strip(b"\0"):
                    found[number * 1024 + entry.first + at] = part
    return found


def decode(raw: bytes) -> object:
    from storage.index import decode_node

    return decode_node(raw)


def nothing_is_published() -> bool:
    return not (Image.objects.exists() or ImageVersion.objects.exists() or Chunk.objects.exists())
