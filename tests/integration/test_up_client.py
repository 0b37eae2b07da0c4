"""The client's toolchain, with real Node and npm on a tiny project: nothing twice, nothing half."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from webvm.up.client import Client
from webvm.up.errors import UpError
from webvm.up.progress import Reporter

BUILD = """
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
for (const folder of ["dist", "dist-node"]) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(folder + "/out.js", readFileSync("src/main.ts"));
  readFileSync("dist-engine/core.wasm");
}
"""
ENGINE = """
from pathlib import Path
Path("dist-engine").mkdir(exist_ok=True)
Path("dist-engine", "core.wasm").write_bytes(b"core")
"""


@pytest.fixture
def client(tmp_path: Path) -> Client:
    folder = tmp_path / "frontend"
    (folder / "src").mkdir(parents=True)
    package = {"name": "tiny", "version": "1.0.0", "type": "module", "scripts": {"build": "node build.js"}}
    lock = {"name": "tiny", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": package}}
    (folder / "package.json").write_text(json.dumps(package))
    (folder / "package-lock.json").write_text(json.dumps(lock))
    (folder / ".npmrc").write_text("fetch-retries=0\n")
    (folder / "build.js").write_text(BUILD)
    (folder / "src" / "main.ts").write_text("one")
    (folder / "engine").mkdir()
    (folder / "engine" / "build.py").write_text(ENGINE)
    return Client(folder, tmp_path / "work")


def up(client: Client) -> list[str]:
    """Bring the client up to date; the steps that this took."""
    out = io.StringIO()
    client.ensure_build(Reporter(out))
    return [line.split("✓ ")[1].split(" (")[0] for line in out.getvalue().splitlines() if "✓" in line]


INSTALL = "Installing the client's packages"
BUILDING = ["Building the engine", "Building the client"]


def test_nothing_is_done_twice(client: Client) -> None:
    assert up(client) == [INSTALL, *BUILDING]
    assert (client.folder / "dist" / "out.js").read_text() == "one"
    assert up(client) == []


def test_what_changed_is_done_again(client: Client) -> None:
    up(client)
    (client.folder / "src" / "main.ts").write_text("two")
    assert up(client) == BUILDING
    assert (client.folder / "dist" / "out.js").read_text() == "two"
    (client.folder / "src" / "main.test.ts").write_text("a test")
    assert up(client) == []
    (client.folder / ".npmrc").write_text("")
    assert up(client) == [INSTALL, *BUILDING]


@pytest.mark.parametrize(
    ("lost", "again"),
    [
        ("node_modules/.webvm-stamp", [INSTALL]),  # npm was killed half-way
        ("node_modules", [INSTALL]),
        ("dist/out.js", BUILDING),
        ("dist-node", BUILDING),
        ("../work/build.json", BUILDING),  # the build was killed half-way
        ("../work", BUILDING),
    ],
)
def test_what_is_missing_is_made_again(client: Client, lost: str, again: list[str]) -> None:
    up(client)
    path = client.folder / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert up(client) == again
    assert up(client) == []


def test_a_damaged_stamp_is_no_stamp(client: Client) -> None:
    up(client)
    client.build_stamp.write_text("{")
    assert up(client) == BUILDING


def test_a_failing_build_shows_its_end_and_leaves_no_stamp(client: Client) -> None:
    (client.folder / "build.js").write_text("console.error('\\x1b[31mno such thing'); process.exit(3)")
    with pytest.raises(UpError, match=r"“build” failed with status 3(?s:.*)\nno such thing"):
        up(client)
    (client.folder / "build.js").write_text(BUILD)
    assert up(client) == BUILDING


def test_no_network_is_one_sentence(client: Client) -> None:
    package = json.loads((client.folder / "package.json").read_text())
    package["dependencies"] = {"absent-from-every-cache": "1.0.0"}
    entry = {"version": "1.0.0", "integrity": "sha512-" + "A" * 86 + "=="}
    packages = {"": package, "node_modules/absent-from-every-cache": entry}
    lock = {"name": "tiny", "version": "1.0.0", "lockfileVersion": 3, "packages": packages}
    (client.folder / "package.json").write_text(json.dumps(package))
    (client.folder / "package-lock.json").write_text(json.dumps(lock))
    (client.folder / ".npmrc").write_text("registry=http://127.0.0.1:9/\nfetch-retries=0\n")
    with pytest.raises(UpError) as refusal:
        up(client)
    assert "\n" not in str(refusal.value)
    assert "npm registry cannot be reached" in str(refusal.value)
