"""From a built disk to an image version: boot, cut, pack, store (docs/design/publishing.md)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from storage.codec import CHUNK_BYTES, digest_of
from storage.errors import PublishFailed
from storage.images import headless
from storage.images.built import BuiltDisk
from storage.images.cut import Device, cut_disk, cut_memory
from storage.images.recipe import Recipe
from storage.images.report import Report
from storage.images.shelf import Shelf, in_threads
from storage.images.work import cache_dir, copy_sparse, locked, once, prune
from storage.packs import compress_pack, encode_pack

# Blocks behind the RAM pages that hold the machine's device state (docs/design/formats.md).
STATE_BLOCKS = 8192
PAGES_PER_MIB = 256
# Every descriptor of a machine carries the trails: 2048 chunks are half a gigabyte read by one command.
MOST_IN_TRAIL = 2048


@dataclass(frozen=True)
class Booted:
    """A folder with the finished disk and the headless program's outputs."""

    folder: Path
    machine: dict[str, Any]

    @property
    def disk(self) -> Path:
        return self.folder / "disk.img"

    def trace(self) -> list[int]:
        return _numbers(json.loads((self.folder / "trace.json").read_bytes()))

    def warm(self) -> list[int]:
        """Chunks of the disk that the resumed prompt reads before it answers."""
        return _numbers(json.loads((self.folder / "warm.json").read_bytes()))

    def trails(self) -> list[list[int]]:
        trails = json.loads((self.folder / "trails.json").read_bytes())
        return [_numbers(trail)[:MOST_IN_TRAIL] for trail in trails]

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / "result.json").read_bytes())
        return facts


def _numbers(value: object) -> list[int]:
    if not isinstance(value, list) or not all(isinstance(number, int) for number in value):
        raise PublishFailed("A trace of the boot is not a list of numbers.")
    return value


@dataclass(frozen=True)
class Product:
    """Everything an `ImageVersion` says, with all its bytes in the store and its chunks on the shelf."""

    fields: dict[str, Any]
    facts: dict[str, Any]
    shelf: Shelf


def boot(recipe: Recipe, built: BuiltDisk, report: Report) -> Booted:
    """Boots and configures a copy of the disk headless; done already for the same disk and program, it is not
    again.
    """
    machine = recipe.machine()
    spec: dict[str, Any] = {
        "machine": machine,
        "prompt": recipe.prompt,
        "configure": recipe.commands(),
        "settle": list(recipe.settle),
        "rehearse": list(recipe.rehearse),
        "timeout_s": recipe.timeout_s,
    }
    program = hashlib.sha256(headless.PROGRAM.read_bytes()).hexdigest() if headless.PROGRAM.exists() else ""
    key = hashlib.sha256(json.dumps([built.identity, spec, program]).encode()).hexdigest()
    parent = cache_dir() / "booted"
    folder = parent / f"{recipe.slug}-{key[:24]}"

    def make(out: Path) -> None:
        report.step("Copying the disk")
        copy_sparse(built.disk, out / "disk.img", report)
        places = {name: str(path) for name, path in built.firmware.items()}
        headless.run_headless({**spec, **places, "disk": str(out / "disk.img"), "out": str(out)}, out, report)

    with locked(folder, report):
        if not once(folder / "out", make):
            report.log("The machine was booted and captured before; its state is taken from the cache.")
    prune(parent, keep=folder)
    return Booted(folder / "out", machine)


def shelve(built: BuiltDisk, booted: Booted, report: Report) -> Product:
    """Cuts, packs and stores a booted disk and its memory. The database is not changed."""
    report.step("Cutting the disk")
    disk = cut_disk(booted.disk, report)
    memory_blocks = booted.machine["memory_mib"] * PAGES_PER_MIB + STATE_BLOCKS
    memory = cut_memory(booted.folder / "memory.numbers", booted.folder / "memory.blocks", memory_blocks)

    shelf = Shelf(report)
    report.step("Storing the chunks")
    nodes = {**disk.nodes, **memory.nodes}
    levels = {**disk.node_levels(), **memory.node_levels()}
    shelf.put_all({digest: partial(bytes, raw) for digest, raw in nodes.items()}, levels)
    shelf.put_all({**disk.chunks, **memory.chunks})
    blobs = {name: shelf.put_blob(path.read_bytes(), CHUNK_BYTES) for name, path in built.firmware.items()}

    report.step("Packing what a start reads")
    trace = booted.trace()
    read = dict.fromkeys(disk.by_number[number] for number in booted.warm() if number in disk.by_number)
    chunks = {**memory.chunks, **{digest: disk.chunks[digest] for digest in read}}
    warm = [*disk.nodes.values(), *memory.nodes.values(), *(load() for load in chunks.values())]
    warm_pack, warm_bytes = _put_pack(shelf, warm, booted.folder, report)
    boot_chunks = dict.fromkeys(disk.by_number[number] for number in trace if number in disk.by_number)
    boot = (disk.chunks[digest]() for digest in boot_chunks)
    boot_pack, boot_bytes = _put_pack(shelf, boot, booted.folder, report)

    fields = {
        "machine": {**booted.machine, **blobs},
        "disk_root": disk.root,
        "disk_blocks": disk.blocks,
        "memory_root": memory.root,
        "memory_blocks": memory.blocks,
        "warm_pack": warm_pack,
        "warm_pack_bytes": warm_bytes,
        "boot_pack": boot_pack,
        "boot_pack_bytes": boot_bytes,
        "boot_trace": trace,
        "read_trails": booted.trails(),
    }
    facts = {
        "packages": built.packages,
        "headless": booted.facts(),
        "disk": _sizes(disk, shelf),
        "memory": _sizes(memory, shelf),
        "new_bytes": shelf.new_bytes,
    }
    return Product(fields, facts, shelf)


def _put_pack(shelf: Shelf, chunks: Iterable[bytes], folder: Path, report: Report) -> tuple[str, int]:
    """Stores a pack; returns its digest and how many bytes it takes in the store.

    Compressing it takes a while, so its frame is kept in `folder`, beside what it was made from.
    """
    raw = encode_pack(list(chunks))
    report.tick()
    digest = digest_of(raw)

    def make(out: Path) -> None:
        made = in_threads(partial(compress_pack, raw), [os.cpu_count() or 1], report.tick)
        (out / "frame").write_bytes(next(iter(made)))

    kept = folder / f"pack-{digest.hex()[:24]}"
    with locked(folder.parent, report):
        once(kept, make)
    frame = (kept / "frame").read_bytes()
    shelf.put_frame(digest, len(raw), frame)
    return digest.hex(), len(frame)


def _sizes(device: Device, shelf: Shelf) -> dict[str, int]:
    digests = [*device.chunks, *device.nodes]
    return {
        "chunks": len(device.chunks),
        "nodes": len(device.nodes),
        "raw_bytes": sum(shelf.stored[digest].raw_size for digest in digests),
        "stored_bytes": sum(shelf.stored[digest].stored_size for digest in digests),
    }
