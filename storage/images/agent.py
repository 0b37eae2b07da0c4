"""The guest's agent (guest/agent.c), compiled here: an image need not have a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from storage.images.errors import AgentNotCompiled

SOURCE = Path(__file__).parent / "guest" / "agent.c"
# Any x86 of 32 bits, and nothing around the program: no C library, no start files, no symbols.
OPTIONS = (
    *("-target", "x86-linux-none", "-mcpu=i686", "-Os", "-s"),
    *("-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-sanitize=all"),
    *("-Wall", "-Wextra", "-Werror"),
)


def compile_agent() -> bytes:
    """The program, an ELF file of a few kilobytes. Raises `AgentNotCompiled`."""
    with tempfile.TemporaryDirectory(prefix="webvm-agent-") as folder:
        program = Path(folder) / "agent"
        done = subprocess.run(  # noqa: S603 - our own program, paths of ours
            [sys.executable, "-m", "ziglang", "cc", *OPTIONS, str(SOURCE), "-o", str(program)],
            env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AgentNotCompiled(f"The guest's agent could not be compiled: {done.stderr.strip()[-500:]}")
        return program.read_bytes()
