"""Our core as a runner."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from tests.engine import native
from tests.engine.reference.case import (
    CODE,
    CODE_SIZE,
    CPU,
    DATA,
    DATA_SIZE,
    FIXED,
    FIXED_SIZE,
    HLT,
    RIP,
    Case,
    Outcome,
    Runner,
    image_of,
)

KINDS = {
    native.EXIT_PAGE_FAULT: "page fault",
    native.EXIT_INVALID_OPCODE: "invalid opcode",
    native.EXIT_DIVIDE_ERROR: "divide error",
    native.EXIT_BREAKPOINT: "breakpoint",
    native.EXIT_GENERAL_PROTECTION: "general protection",
    native.EXIT_STACK_FAULT: "stack fault",
    native.EXIT_FPU_ERROR: "fpu error",
    native.EXIT_SIMD_ERROR: "simd error",
    native.EXIT_TRAP: "trap",
    native.EXIT_UNIMPLEMENTED: "unimplemented",
}
ACCESSES = {native.READ: "read", native.WRITABLE: "write", native.EXEC: "execute"}


class Ours(Runner):
    """A process has one machine, so there is one of these at a time."""

    name = "ours"

    def __init__(self) -> None:
        self.machine = native.Machine()
        self.machine.map(CODE, CODE_SIZE, native.READ | native.EXEC)
        self.machine.map(DATA, DATA_SIZE, native.READ | native.WRITABLE)
        self.machine.map(FIXED, FIXED_SIZE, native.READ)
        self.machine.write(CODE, HLT * CODE_SIZE)
        self._cpu = ctypes.addressof(self.machine.cpu)
        self._code: tuple[int, bytes] | None = None

    def run(self, cases: Sequence[Case], image: bytes) -> list[Outcome]:
        self.machine.write(DATA, image[:DATA_SIZE])
        self.machine.write(FIXED, image[DATA_SIZE:])
        return [self._run(case, image) for case in cases]

    def _run(self, case: Case, image: bytes) -> Outcome:
        machine = self.machine
        if self._code != (case.rip, case.code):
            if self._code is not None:
                machine.write(self._code[0], HLT * len(self._code[1]))
            machine.write(case.rip, case.code)
            self._code = (case.rip, case.code)
        before = image_of(case, image)
        if case.patches:
            machine.write(DATA, before[:DATA_SIZE])
        ctypes.memmove(self._cpu, case.packed, CPU.size)
        reason = machine.run(1000)
        state = list(CPU.unpack(ctypes.string_at(self._cpu, CPU.size)))
        after: bytes | None = machine.read(DATA, DATA_SIZE)
        if after == before[:DATA_SIZE]:
            after = None
        if after is not None or case.patches:
            machine.write(DATA, image[:DATA_SIZE])
        memory = None if after is None else after + before[DATA_SIZE:]
        if reason in (native.EXIT_GENERAL_PROTECTION, native.EXIT_STACK_FAULT) and state[RIP] != case.rip:
            return Outcome("done", state, memory)
        kind = KINDS.get(reason, f"exit {reason}")
        if kind == "page fault":
            return Outcome(kind, state, memory, state[31], ACCESSES.get(state[32], "?"))
        return Outcome(kind, state, memory)
