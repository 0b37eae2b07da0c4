"""What the engine's tests need: programs of this machine, which run natively and in the engine."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {
    "gcc": "gcc libc6-dev",
    "g++": "g++",
    "mke2fs": "e2fsprogs",
    "vim": "vim",
    "less": "less",
    "tmux": "tmux",
    "git": "git",
    "ps": "procps",
}
"""Debian's package of each; .ci/run installs them."""


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    missing = [name for name in PACKAGES if shutil.which(name, path=path) is None]
    if missing:
        packages = " ".join(PACKAGES[name] for name in missing)
        pytest.fail(
            f"The engine is compared with programs that this machine lacks: {', '.join(missing)}. "
            f"Install them, on Debian with: apt-get install {packages}",
            pytrace=False,
        )
