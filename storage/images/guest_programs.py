"""The guest's own programs (guest/*.c), compiled here: an image need not have a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from storage.images.errors import ProgramNotCompiled

HERE = Path(__file__).parent / "guest"
# Nothing around a program: no C library, no start files, no symbols.
OPTIONS = (
    *("-Os", "-s", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-sanitize=all"),
    *("-Wall", "-Wextra", "-Werror"),
)
# Any processor of the architecture.
TARGETS = {
    "i386": ("-target", "x86-linux-none", "-mcpu=i686"),
    "amd64": ("-target", "x86_64-linux-none", "-mcpu=x86_64"),
}


def compile_program(source: Path, architecture: str) -> bytes:
    """The program, an ELF file of a few kilobytes; the architecture is Debian's name of it. Raises
    `ProgramNotCompiled`.
    """
    with tempfile.TemporaryDirectory(prefix="webvm-guest-") as folder:
        program = Path(folder) / source.stem
        command = [*OPTIONS, *TARGETS[architecture], str(source), "-o", str(program)]
        done = subprocess.run(  # noqa: S603 - our own program, paths of ours
            [sys.executable, "-m", "ziglang", "cc", *command],
            env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ProgramNotCompiled(
                f"The guest's program {source.name} could not be compiled: {done.stderr.strip()[-500:]}"
            )
        return program.read_bytes()
