"""The core's native library: a processor and its memory for tests.

A process has one machine; `Machine()` resets it.

Built on first use (frontend/engine/build.py). WEBVM_CORE names another library, such as one with sanitizers.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

ENGINE = Path(__file__).resolve().parents[2] / "frontend" / "engine"
LIBRARY = ENGINE.parent / "dist-engine" / "libcore.so"

GUEST_BASE = 32 << 20
MEMORY_SIZE = 1 << 32
GUEST_END = MEMORY_SIZE - GUEST_BASE
PAGE = 4096

READ, WRITE, EXEC, WRITABLE, CODE, DIRTY = 1, 2, 4, 8, 16, 32
RWX = READ | WRITABLE | EXEC

(
    EXIT_NONE,
    EXIT_BUDGET,
    EXIT_SYSCALL,
    EXIT_PAGE_FAULT,
    EXIT_INVALID_OPCODE,
    EXIT_DIVIDE_ERROR,
    EXIT_BREAKPOINT,
    EXIT_GENERAL_PROTECTION,
    EXIT_FPU_ERROR,
    EXIT_SIMD_ERROR,
    EXIT_TRAP,
    EXIT_INT80,
    EXIT_UNIMPLEMENTED,
    EXIT_INTERNAL,
    EXIT_STACK_FAULT,
) = range(15)

REGISTERS = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()  # noqa: SIM905 - reads better


class Cpu(ctypes.Structure):
    """`struct Cpu` of core/abi.h."""

    _fields_ = [
        ("gpr", ctypes.c_uint64 * 16),
        ("rip", ctypes.c_uint64),
        ("rflags", ctypes.c_uint64),
        ("fs_base", ctypes.c_uint64),
        ("gs_base", ctypes.c_uint64),
        ("xmm", (ctypes.c_uint8 * 16) * 16),
        ("st", (ctypes.c_uint8 * 16) * 8),
        ("fpu_control", ctypes.c_uint16),
        ("fpu_status", ctypes.c_uint16),
        ("fpu_tags", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8),
        ("fpu_opcode", ctypes.c_uint16),
        ("fpu_ip", ctypes.c_uint64),
        ("fpu_dp", ctypes.c_uint64),
        ("mxcsr", ctypes.c_uint32),
        ("exit_reason", ctypes.c_uint32),
        ("exit_address", ctypes.c_uint64),
        ("exit_access", ctypes.c_uint32),
        ("reserved2", ctypes.c_uint32),
        ("instructions", ctypes.c_uint64),
        ("selectors", ctypes.c_uint16 * 4),
    ]


assert ctypes.sizeof(Cpu) == 608


@cache
def load_library() -> ctypes.CDLL:
    """The library, built anew when a source has changed; its memory is mapped once."""
    path = Path(os.environ.get("WEBVM_CORE", LIBRARY))
    if path == LIBRARY:
        command = [sys.executable, str(ENGINE / "build.py"), "--only", "native"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr or done.stdout)
    library = ctypes.CDLL(str(path))
    library.core_memory.argtypes = [ctypes.c_void_p]
    library.core_cpu.restype = ctypes.POINTER(Cpu)
    library.core_pages.restype = ctypes.c_void_p
    library.core_run.argtypes = [ctypes.c_uint32]
    library.core_setPages.argtypes = [ctypes.c_uint32] * 3
    library.core_wrote.argtypes = [ctypes.c_uint32] * 2
    library.core_clean.argtypes = [ctypes.c_uint32] * 2
    library.core_saveFpu.argtypes = [ctypes.c_void_p]
    library.core_loadFpu.argtypes = [ctypes.c_void_p]
    return library


@cache
def reserve_memory() -> mmap.mmap:
    """4 GiB that cost nothing until they are touched."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    return mmap.mmap(-1, MEMORY_SIZE, flags=flags)


class Machine:
    """A processor just initialised and empty memory. Addresses are the guest's."""

    def __init__(self) -> None:
        self.library = load_library()
        memory = reserve_memory()
        memory.madvise(mmap.MADV_DONTNEED)
        self._memory = memory
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.library.core_memory(self._start)
        self.library.core_initialize()
        self.cpu: Cpu = self.library.core_cpu().contents

    def map(self, address: int, size: int, bits: int = RWX) -> None:
        """Makes whole pages there, or sets their bits; their content stays."""
        first = address // PAGE
        self.set_pages(first, (address + size + PAGE - 1) // PAGE - first, bits)

    def set_pages(self, first: int, count: int, bits: int) -> None:
        self.library.core_setPages(first, count, bits)

    def page_bits(self, address: int) -> int:
        table: int = self.library.core_pages()
        return ctypes.c_uint8.from_address(table + address // PAGE).value

    def read(self, address: int, size: int) -> bytes:
        start = GUEST_BASE + address
        return self._memory[start : start + size]

    def write(self, address: int, data: bytes) -> None:
        """As Linux writes: pages become dirty, code decoded from them is dropped. Bits are not looked at."""
        start = GUEST_BASE + address
        self._memory[start : start + len(data)] = data
        self.library.core_wrote(address, len(data))

    def run(self, budget: int = 1_000_000) -> int:
        """An EXIT_*."""
        reason: int = self.library.core_run(budget)
        return reason

    def clean(self, first: int, count: int) -> None:
        self.library.core_clean(first, count)

    def flush(self) -> None:
        self.library.core_flush()

    def save_fpu(self) -> bytes:
        area = ctypes.create_string_buffer(512)
        self.library.core_saveFpu(ctypes.addressof(area))
        return area.raw

    def load_fpu(self, area: bytes) -> None:
        assert len(area) == 512
        self.library.core_loadFpu(ctypes.addressof(ctypes.create_string_buffer(area, 512)))

    def get(self, register: str) -> int:
        """A general register, or a field of `Cpu`, by name."""
        if register in REGISTERS:
            return int(self.cpu.gpr[REGISTERS.index(register)])
        return int(getattr(self.cpu, register))

    def set(self, **registers: int) -> None:
        for name, value in registers.items():
            if name in REGISTERS:
                self.cpu.gpr[REGISTERS.index(name)] = value & (2**64 - 1)
            else:
                setattr(self.cpu, name, value)

    def xmm(self, number: int) -> bytes:
        return bytes(self.cpu.xmm[number])

    def set_xmm(self, number: int, value: bytes) -> None:
        self.cpu.xmm[number] = (ctypes.c_uint8 * 16)(*value)

    def st(self, number: int) -> bytes:
        """Physical register R`number`: ten bytes as in memory."""
        return bytes(self.cpu.st[number])[:10]

    def set_st(self, number: int, value: bytes) -> None:
        self.cpu.st[number] = (ctypes.c_uint8 * 16)(*value)

    def read_u64(self, address: int) -> int:
        (value,) = struct.unpack("<Q", self.read(address, 8))
        return int(value)
