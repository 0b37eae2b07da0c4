"""A small disk instead of Debian's, and a headless program that boots nothing: for tests of publishing."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings

from storage.codec import BLOCK, CHUNK_BYTES
from storage.images.build import DiskBuild, Report
from storage.images.recipe import Recipe

DISK_MIB = 64
MEMORY_MIB = 64
RECIPE = f"""
slug = "small"
title = "Small machine"
description = "For tests"
suite = "bookworm"
packages = ["bash"]
[settings]
memory_mib = {MEMORY_MIB}
disk_mib = {DISK_MIB}
[boot]
prompt = '# '
configure = ["true"]
rehearse = ["gcc --version", "vim --version"]
"""
LINUX_RECIPE = RECIPE.replace("suite =", 'machine = "linux"\nsuite =').replace(
    "[boot]", "terminals = 2\n[boot]"
)

# What node runs in the place of the machine. `behaviour.json` beside it says how.
PROGRAM = """
import { readFileSync, writeFileSync, appendFileSync, openSync, writeSync, closeSync } from "node:fs";
const here = new URL(".", import.meta.url);
const spec = JSON.parse(readFileSync(process.argv[2], "utf8"));
const behaviour = JSON.parse(readFileSync(new URL("behaviour.json", here), "utf8"));
appendFileSync(new URL("runs", here), "run\\n");
const say = (line) => process.stdout.write(JSON.stringify(line) + "\\n");
say({ type: "step", name: "boot" });
say({ type: "console", text: "Linux version 6\\r\\n\\u001b[31mred\\u001b[0m <b>bold</b>\\n" });
say({ type: "agent", text: "out " + Buffer.from("Setting up bash\\n").toString("base64") + "\\nexit 0\\n" });
say({ type: "progress", done: 1, total: 2 });
if (behaviour.hang) await new Promise((resolve) => setTimeout(resolve, 60000));
if (behaviour.error) {
  say({ type: "error", step: "configure", message: behaviour.error });
  process.exit(1);
}
if (behaviour.crash) throw new Error("crashed");
say({ type: "step", name: "configure" });
const disk = openSync(spec.disk, "r+");
writeSync(disk, Buffer.alloc(4096, "c"), 0, 4096, 5 * 4096);
closeSync(disk);
const write = (name, data) => writeFileSync(spec.out + "/" + name, data);
write("memory.numbers", new Uint8Array(new Uint32Array(behaviour.memory).buffer));
write("memory.blocks", Buffer.concat(behaviour.memory.map((n) => Buffer.alloc(4096, "m" + n + ";"))));
write("trace.json", JSON.stringify(behaviour.trace));
write("warm.json", JSON.stringify(behaviour.trace.slice(0, 1)));
write("trails.json", JSON.stringify(spec.rehearse.map((_, at) => [at, 200])));
write("result.json", JSON.stringify({ times: { boot: 5 } }));
say({ type: "done" });
"""


@dataclass
class Workshop:
    """The doubles, and what they were asked for."""

    folder: Path
    # 256 KiB chunks of the disk that are not zeros.
    chunks: list[int] = field(default_factory=lambda: [0, 1, 2, 7, 200])
    built: int = 0
    build_error: Exception | None = None

    def behave(self, **changes: Any) -> None:
        behaviour = {"memory": [0, 3, 4, 1024, 16384, 24000], "trace": [7, 0, 3, 200, 7]}
        (self.folder / "behaviour.json").write_text(json.dumps(behaviour | changes))

    def spec(self) -> dict[str, Any]:
        """What the headless program was told the last time."""
        [path] = (self.folder / "cache" / "booted").glob("*/out/spec.json")
        spec: dict[str, Any] = json.loads(path.read_text())
        return spec

    @property
    def boots(self) -> int:
        runs = self.folder / "runs"
        return len(runs.read_text().splitlines()) if runs.exists() else 0

    def build(
        self, recipe: Recipe, *, mirror: str | None, cache_dir: Path, work_dir: Path, report: Report
    ) -> DiskBuild:
        """In the place of `build_disk`."""
        self.built += 1
        report("download", 10, 10, "")
        report("download", 0, 0, "A note about the mirror")
        if self.build_error:
            raise self.build_error
        names = ("kernel", "initrd", "bios", "vga_bios") if recipe.kind == "pc" else ()
        firmware = {name: work_dir / name for name in names}
        for name, path in firmware.items():
            path.write_bytes(name.encode() * 60_000)
        disk = work_dir / "disk.img"
        with disk.open("xb") as file:
            file.truncate(recipe.settings.disk_mib << 20)
            for number in self.chunks:
                file.seek(number * CHUNK_BYTES)
                file.write(struct.pack("<I", number) * (CHUNK_BYTES // 8))
            file.seek(100 * CHUNK_BYTES)
            file.write(bytes(CHUNK_BYTES))  # zeros that are no hole
        report("write", 1, 1, "")
        return DiskBuild(disk, (recipe.settings.disk_mib << 20) // BLOCK, firmware, {"bash": "5.2"})


def make_workshop(folder: Path, monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> Workshop:
    settings.CHUNK_DIR = folder / "chunks"
    settings.CACHE_DIR = folder / "cache"
    workshop = Workshop(folder)
    workshop.behave()
    program = folder / "headless.mjs"
    program.write_text(PROGRAM)
    monkeypatch.setattr("storage.images.headless.PROGRAM", program)
    monkeypatch.setattr("storage.images.built.build_disk", workshop.build)
    return workshop
