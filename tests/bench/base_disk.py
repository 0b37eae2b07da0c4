"""The starter image as plain files, for the peer that cold-boots it: disk, kernel, initrd, firmware."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storage.codec import decode_verified
from storage.index import Interior, Leaf, decode_node

BLOCK = 4096
LEAF_BLOCKS = 1024


class ChunkFolder:
    """Reads the public chunks of a local chunk store's folder."""

    def __init__(self, folder: Path) -> None:
        self._files = {path.name: path for path in folder.rglob("*") if path.is_file()}

    def raw(self, digest: str) -> bytes:
        return decode_verified(self._files[digest].read_bytes(), bytes.fromhex(digest))

    def blob(self, blob: dict[str, Any]) -> bytes:
        return b"".join(self.raw(digest) for digest in blob["chunks"])


def write_disk(chunks: ChunkFolder, root: str, blocks: int, target: Path) -> None:
    """Write the disk that `root` names to a sparse file of `blocks` * 4096 bytes."""
    with target.open("wb") as file:
        file.truncate(blocks * BLOCK)
        pending = [(root, 0)]
        while pending:
            digest, first = pending.pop()
            node = decode_node(chunks.raw(digest))
            if isinstance(node, Interior):
                span = LEAF_BLOCKS * 256 ** (node.level - 1)
                pending += [(node.refs[entry.ref].hex(), first + entry.slot * span) for entry in node.entries]
                continue
            assert isinstance(node, Leaf)
            for entry in node.entries:
                raw = chunks.raw(node.refs[entry.ref].hex())
                file.seek((first + entry.first) * BLOCK)
                file.write(raw[entry.offset * BLOCK : (entry.offset + entry.count) * BLOCK])


def write_plain_machine(chunk_dir: Path, descriptor: dict[str, Any], folder: Path) -> None:
    """`disk.img`, `kernel`, `initrd`, `bios`, `vga_bios` of an open descriptor's image, in `folder`."""
    chunks = ChunkFolder(chunk_dir / "pub")
    for name in ("kernel", "initrd", "bios", "vga_bios"):
        (folder / name).write_bytes(chunks.blob(descriptor["machine"][name]))
    write_disk(chunks, descriptor["image"]["disk_root"], descriptor["disk"]["blocks"], folder / "disk.img")
