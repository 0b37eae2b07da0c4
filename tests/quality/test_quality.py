"""What the tools have to say: style, types, imports, migrations, the client's own tests."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from webvm.up.client import Client, node_environment, npm
from webvm.up.progress import Reporter

PROJECT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sys.executable).parent
PYTHON_TOOLS = {
    "ruff check": [sys.executable, "-m", "ruff", "check", "."],
    "ruff format": [sys.executable, "-m", "ruff", "format", "--check", "."],
    "mypy": [sys.executable, "-m", "mypy", "."],
    "import-linter": [str(SCRIPTS / "lint-imports"), "--no-cache"],
    "migrations": [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"],
}
CLIENT_TOOLS = {
    "tsc": ["run", "check"],
    "prettier": ["run", "format:check"],
    "vitest": ["run", "test"],
}


def must_pass(command: list[str], cwd: Path, environ: Mapping[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)} says:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", PYTHON_TOOLS)
def test_python(name: str, tmp_path: Path) -> None:
    must_pass(PYTHON_TOOLS[name], PROJECT, {**os.environ, "WEBVM_DATA_DIR": str(tmp_path)})


@pytest.fixture(scope="module")
def client_packages() -> None:
    """A fresh clone has neither the client's tools nor the engine's core, which its tests run."""
    Client().ensure_packages(Reporter(io.StringIO()))
    build = Client().folder / "engine" / "build.py"
    must_pass([sys.executable, str(build), "--only", "wasm"], PROJECT, os.environ)


@pytest.mark.usefixtures("client_packages")
@pytest.mark.parametrize("name", CLIENT_TOOLS)
def test_client(name: str) -> None:
    must_pass(npm(*CLIENT_TOOLS[name]), Client().folder, node_environment())
