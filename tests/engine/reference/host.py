"""This machine's own processor as a reference: host.c in a process of its own."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import platform
import select
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from frontend.engine.build import OUTPUT
from tests.engine.reference.case import CPU, IMAGE_SIZE, RIP, Case, Outcome, Runner, image_of

SOURCE = Path(__file__).with_name("host.c")
MOST_CASES, MOST_LINES, LINE = 512, 12, 64
PATIENCE = 60.0
VECTORS = {
    0: "divide error",
    1: "trap",
    3: "breakpoint",
    6: "invalid opcode",
    12: "stack fault",
    13: "general protection",
    14: "page fault",
    16: "fpu error",
    19: "simd error",
}


class Patch(ctypes.Structure):
    _fields_ = [("offset", ctypes.c_uint32), ("size", ctypes.c_uint32), ("bytes", ctypes.c_uint8 * 64)]


class HostCase(ctypes.Structure):
    _fields_ = [
        ("cpu", ctypes.c_uint8 * CPU.size),
        ("code", ctypes.c_uint8 * 16),
        ("code_size", ctypes.c_uint32),
        ("patches", ctypes.c_uint32),
        ("patch", Patch * 3),
    ]


class Line(ctypes.Structure):
    _fields_ = [("offset", ctypes.c_uint32), ("bytes", ctypes.c_uint8 * LINE)]


class HostResult(ctypes.Structure):
    _fields_ = [
        ("cpu", ctypes.c_uint8 * CPU.size),
        ("lines", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("line", Line * MOST_LINES),
    ]


class Shared(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_uint32),
        ("done", ctypes.c_uint32),
        ("image", ctypes.c_uint8 * IMAGE_SIZE),
        ("cases", HostCase * MOST_CASES),
        ("results", HostResult * MOST_CASES),
    ]


def available() -> bool:
    return sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64")


@cache
def build() -> Path:
    """Compiles host.c, once for its content."""
    target = OUTPUT / f"host-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}")
        flags = [
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fno-stack-protector",
            "-ffreestanding",
            "-fno-builtin",
        ]
        flags.append("-fno-sanitize=all")
        link = ["-target", "x86_64-linux-musl", "-nostdlib", "-static", "-fPIE", "-pie"]
        compiler = [sys.executable, "-m", "ziglang", "cc"]
        subprocess.run([*compiler, *link, *flags, "-o", str(partial), str(SOURCE)], check=True)
        partial.replace(target)
    return target


class Host(Runner):
    """The process lives as long as this object."""

    name = "host"

    def __init__(self) -> None:
        descriptor = os.memfd_create("reference")
        os.truncate(descriptor, ctypes.sizeof(Shared))
        self._memory = mmap.mmap(descriptor, ctypes.sizeof(Shared))
        self._shared = Shared.from_buffer(self._memory)

        def third() -> None:
            os.dup2(descriptor, 3)
            os.set_inheritable(3, True)

        self._process = subprocess.Popen(
            [str(build())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(3,),
            preexec_fn=third,
        )
        os.close(descriptor)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(5)

    def run(self, cases: Sequence[Case], image: bytes) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for start in range(0, len(cases), MOST_CASES):
            outcomes += self._run(cases[start : start + MOST_CASES], image)
        return outcomes

    def _run(self, cases: Sequence[Case], image: bytes) -> list[Outcome]:
        shared = self._shared
        ctypes.memmove(shared.image, image, IMAGE_SIZE)
        shared.count, shared.done = len(cases), 0
        for slot, case in zip(shared.cases, cases, strict=False):
            ctypes.memmove(slot.cpu, case.packed, CPU.size)
            ctypes.memmove(slot.code, case.code, len(case.code))
            slot.code_size, slot.patches = len(case.code), len(case.patches)
            for patch, (offset, data) in zip(slot.patch, case.patches, strict=False):
                patch.offset, patch.size = offset, len(data)
                ctypes.memmove(patch.bytes, data, len(data))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"g")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        if not ready:
            self._process.kill()
        if not ready or not self._process.stdout.read(1):
            raise RuntimeError(f"the host's runner died of, or hangs in, {cases[shared.done].to_json()}")
        return [
            self._outcome(case, result, image) for case, result in zip(cases, shared.results, strict=False)
        ]

    def _outcome(self, case: Case, result: HostResult, image: bytes) -> Outcome:
        state = list(CPU.unpack(bytes(result.cpu)))
        vector, address, access = state[30], state[31], state[32]
        memory: bytes | None = None
        if result.lines:
            after = bytearray(image_of(case, image))
            for line in result.line[: result.lines]:
                after[line.offset : line.offset + LINE] = bytes(line.bytes)
            memory = bytes(after)
        if vector in (12, 13) and state[RIP] != case.rip:
            return Outcome("done", state, memory)  # an HLT behind it, as the others say it
        kind = VECTORS.get(vector, f"vector {vector}")
        if kind == "page fault":
            how = "execute" if access & 16 else "write" if access & 2 else "read"
            return Outcome(kind, state, memory, address, how)
        return Outcome(kind, state, memory)
