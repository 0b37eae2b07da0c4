"""Unicorn as a runner."""

from __future__ import annotations

import ctypes
import importlib
import pickle
import select
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tests.engine.reference.case import (
    CODE,
    CODE_SIZE,
    CPU,
    DATA,
    DATA_SIZE,
    FIXED,
    FIXED_SIZE,
    HLT,
    IMAGE_SIZE,
    RIP,
    TAGS,
    Case,
    Outcome,
    Runner,
    image_of,
)

# its types are unfinished
unicorn: Any = importlib.import_module("unicorn")
const: Any = importlib.import_module("unicorn.unicorn_const")
x86: Any = importlib.import_module("unicorn.x86_const")

GENERAL = "RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10 R11 R12 R13 R14 R15".split()  # noqa: SIM905 - reads better
FIELDS = [
    *((getattr(x86, f"UC_X86_REG_{name}"), 8 * i) for i, name in enumerate(GENERAL)),
    (x86.UC_X86_REG_RIP, 128),
    (x86.UC_X86_REG_EFLAGS, 136),
    (x86.UC_X86_REG_FS_BASE, 144),
    (x86.UC_X86_REG_GS_BASE, 152),
    *((x86.UC_X86_REG_XMM0 + i, 160 + 16 * i) for i in range(16)),
    (x86.UC_X86_REG_FPCW, 544),
    (x86.UC_X86_REG_FPSW, 546),
    *((x86.UC_X86_REG_FP0 + i, 416 + 16 * i) for i in range(8)),
    (x86.UC_X86_REG_FPTAG, 608),
    (x86.UC_X86_REG_MXCSR, 568),
]
"""Registers, and where they are in struct Cpu; the tag word is behind it."""
PATIENCE = 60.0
MEMORY_ERRORS = {
    const.UC_ERR_READ_UNMAPPED: "read",
    const.UC_ERR_WRITE_UNMAPPED: "write",
    const.UC_ERR_FETCH_UNMAPPED: "execute",
    const.UC_ERR_WRITE_PROT: "write",
    const.UC_ERR_READ_PROT: "read",
    const.UC_ERR_FETCH_PROT: "execute",
}
INTERRUPTS = {
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


class Unicorn(Runner):
    """In the kernel's ring, as Unicorn always is: privileged instructions are not for it."""

    name = "unicorn"

    def __init__(self) -> None:
        self._uc = unicorn.Uc(const.UC_ARCH_X86, const.UC_MODE_64)
        self._uc.ctl_set_cpu_model(x86.UC_CPU_X86_NEHALEM)
        self._uc.reg_write(x86.UC_X86_REG_CR4, 0x668)  # PAE, DE, MCE, OSFXSR, OSXMMEXCPT
        self._image = (ctypes.c_uint8 * IMAGE_SIZE)()
        self._space = (ctypes.c_uint8 * (IMAGE_SIZE + 8192))()
        start = (ctypes.addressof(self._space) + 4095) & ~4095
        self._data = start
        self._uc.mem_map(CODE, CODE_SIZE)
        self._uc.mem_write(CODE, HLT * CODE_SIZE)
        self._uc.mem_map_ptr(DATA, DATA_SIZE, const.UC_PROT_READ | const.UC_PROT_WRITE, start)
        self._uc.mem_map_ptr(FIXED, FIXED_SIZE, const.UC_PROT_READ, start + DATA_SIZE)
        self._uc.hook_add(const.UC_HOOK_INTR, self._interrupt)
        self._vector: int | None = None
        self._cpu = (ctypes.c_uint8 * (CPU.size + 8))()
        base = ctypes.addressof(self._cpu)
        self._count = ctypes.c_int(len(FIELDS))
        self._registers = (ctypes.c_int * len(FIELDS))(*(register for register, _ in FIELDS))
        self._pointers = (ctypes.c_void_p * len(FIELDS))(*(base + offset for _, offset in FIELDS))
        self._code: tuple[int, bytes] | None = None

    def _interrupt(self, uc: Any, number: int, _data: object) -> None:
        self._vector = number
        uc.emu_stop()

    def run(self, cases: Sequence[Case], image: bytes) -> list[Outcome]:
        ctypes.memmove(self._data, image, IMAGE_SIZE)
        return [self._run(case, image) for case in cases]

    def _run(self, case: Case, image: bytes) -> Outcome:
        uc = self._uc
        if self._code != (case.rip, case.code):
            if self._code is not None:
                uc.mem_write(self._code[0], HLT * len(self._code[1]))
            uc.mem_write(case.rip, case.code)
            uc.ctl_flush_tb()
            self._code = (case.rip, case.code)
        before = image_of(case, image)
        if case.patches:
            ctypes.memmove(self._data, before, DATA_SIZE)
        ctypes.memmove(self._cpu, case.packed, CPU.size)
        tags = case.state[TAGS]
        self._cpu[608] = sum((0 if tags >> i & 1 else 3) << 2 * i for i in range(4))
        self._cpu[609] = sum((0 if tags >> i & 1 else 3) << 2 * (i - 4) for i in range(4, 8))
        uc._do_reg_write_batch(self._registers, self._pointers, self._count)
        self._vector = None
        kind, access = "done", None
        try:
            uc.emu_start(case.rip, 0)
        except unicorn.UcError as error:
            access = MEMORY_ERRORS.get(error.errno)
            kind = "page fault" if access else "invalid opcode"
        if self._vector is not None:
            kind = INTERRUPTS.get(self._vector, f"vector {self._vector}")
        uc._do_reg_read_batch(self._registers, self._pointers, self._count)
        word = self._cpu[608] | self._cpu[609] << 8
        state = list(CPU.unpack(bytes(self._cpu)[: CPU.size]))
        state[TAGS] = sum(1 << i for i in range(8) if word >> 2 * i & 3 != 3)
        if kind == "done":
            state[RIP] -= 1  # behind the HLT
        after: bytes | None = ctypes.string_at(self._data, DATA_SIZE)
        if after == before[:DATA_SIZE]:
            after = None
        if after is not None or case.patches:
            ctypes.memmove(self._data, image, DATA_SIZE)
        memory = None if after is None else after + before[DATA_SIZE:]
        return Outcome(kind, state, memory, None, access)


class UnicornProcess:
    """Unicorn in a process of its own: now and then it dies, and nobody should die with it."""

    def __init__(self) -> None:
        self.deaths = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, cases: Sequence[Case], image: bytes) -> None:
        """Hands cases over; `finish` has the outcomes."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.engine.reference.emulator"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._count = len(cases)
        assert self._process.stdin is not None
        pickle.dump((cases, image), self._process.stdin)
        self._process.stdin.flush()

    def finish(self) -> list[Outcome | None]:
        """None for cases that it died of."""
        assert self._process is not None
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            self._process.kill()
        try:
            outcomes: list[Outcome | None] = pickle.load(self._process.stdout)  # noqa: S301 - our own process
        except (EOFError, pickle.UnpicklingError):
            self.deaths += 1
            self.close()
            return [None] * self._count
        return outcomes

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(10)
            self._process = None


def serve() -> None:
    runner = Unicorn()
    while True:
        try:
            cases, image = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own process
        except (EOFError, pickle.UnpicklingError):
            return
        pickle.dump(runner.run(cases, image), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
