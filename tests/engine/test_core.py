"""The interpreter's own promises: precise faults, code that changes, pages, chains and budgets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.engine import native
from tests.engine.native import EXEC, READ, RWX, WRITABLE, Machine

ENGINE = Path(__file__).resolve().parents[2] / "frontend" / "engine"
CODE, DATA, STACK = 0x40_0000, 0x60_0000, 0x7000_0000
SYSCALL = b"\x0f\x05"


def prepared(code: bytes, at: int = CODE) -> Machine:
    """A machine with `code` and a SYSCALL behind it, two pages of data and a stack."""
    machine = Machine()
    machine.map(CODE, 4 * native.PAGE, READ | EXEC)
    machine.map(DATA, 2 * native.PAGE, READ | WRITABLE)
    machine.map(STACK - native.PAGE, native.PAGE, READ | WRITABLE)
    machine.write(at, code + SYSCALL)
    machine.set(rip=at, rsp=STACK - 64, rdi=DATA)
    return machine


def same_state_but(machine: Machine, before: list[int]) -> None:
    assert list(machine.cpu.gpr) == before


# What is read to be written faults as a write, as on real processors.
FAULTING = {
    "mov [rdi], rax": ("488907", WRITABLE),
    "mov rax, [rdi]": ("488b07", READ),
    "add [rdi], rax": ("480107", WRITABLE),
    "add rax, [rdi]": ("480307", READ),
    "inc dword [rdi]": ("ff07", WRITABLE),
    "xadd [rdi], rax": ("480fc107", WRITABLE),
    "push [rdi]": ("ff37", READ),
    "pop [rdi]": ("8f07", WRITABLE),
    "call [rdi]": ("ff17", READ),
    "movs": ("a5", READ),
    "stos": ("ab", WRITABLE),
    "cmpxchg [rdi], rcx": ("480fb10f", WRITABLE),
    "xchg [rdi], rax": ("488707", WRITABLE),
    "shl [rdi], 3": ("48c12703", WRITABLE),
    "cmp [rdi], 1; je": ("833f01 7400", READ),
    "movzx eax, byte [rdi]": ("0fb607", READ),
}


MISSING = [0x1_0000, DATA + 2 * native.PAGE - 1, 0xFFFF_F000, 0x12_3456_7000]


@pytest.mark.parametrize(
    ("name", "address"),
    [(n, a) for n in FAULTING for a in MISSING if a % native.PAGE == 0 or "byte" not in n],
)
def test_fault_leaves_everything_as_it_was(name: str, address: int) -> None:
    code, access = FAULTING[name]
    # the flags are lazy when the fault comes: those of `cmp eax, 5` with 3
    machine = prepared(bytes.fromhex("b803000000 83f805") + bytes.fromhex(code))
    machine.set(rdi=address, rsi=address, rcx=9)
    assert machine.run() == native.EXIT_PAGE_FAULT
    assert machine.get("rip") == CODE + 8
    assert machine.get("instructions") == 2
    assert machine.get("exit_access") == access
    assert machine.get("exit_address") == (address + 1 if address % native.PAGE else address)
    assert (machine.get("rax"), machine.get("rcx"), machine.get("rdi")) == (3, 9, address)
    assert machine.get("rsp") == STACK - 64
    assert machine.get("rflags") == 0x293  # S, A, C


def test_fault_is_made_good_and_execution_goes_on() -> None:
    machine = prepared(bytes.fromhex("488907 488b1f 48ffc3"))
    machine.set(rdi=0x9_0000, rax=41)
    assert machine.run() == native.EXIT_PAGE_FAULT
    machine.map(0x9_0000, 1, READ | WRITABLE)
    assert machine.run() == native.EXIT_SYSCALL
    assert machine.get("rbx") == 42
    assert machine.get("instructions") == 4
    assert machine.get("rcx") == machine.get("rip") == CODE + 11


def test_write_to_a_read_only_page() -> None:
    machine = prepared(bytes.fromhex("ff07"))
    machine.map(DATA, native.PAGE, READ)
    assert machine.run() == native.EXIT_PAGE_FAULT
    assert machine.get("exit_access") == WRITABLE
    assert machine.get("exit_address") == DATA


def test_a_store_across_two_pages_writes_nothing_when_one_is_missing() -> None:
    machine = prepared(bytes.fromhex("488907"))
    machine.map(DATA + native.PAGE, native.PAGE, READ)
    machine.set(rdi=DATA + native.PAGE - 4, rax=-1)
    assert machine.run() == native.EXIT_PAGE_FAULT
    assert machine.get("exit_address") == DATA + native.PAGE
    assert machine.read(DATA + native.PAGE - 4, 8) == bytes(8)


def test_accesses_across_pages() -> None:
    machine = prepared(bytes.fromhex("488907 488b1f 480107"))
    machine.set(rdi=DATA + native.PAGE - 3, rax=0x1122334455667788)
    assert machine.run() == native.EXIT_SYSCALL
    assert machine.get("rbx") == 0x1122334455667788
    assert machine.read_u64(DATA + native.PAGE - 3) == 2 * 0x1122334455667788
    assert machine.page_bits(DATA) & machine.page_bits(DATA + native.PAGE) & native.DIRTY


def test_non_canonical_address() -> None:
    machine = prepared(bytes.fromhex("488b07"))
    machine.set(rdi=0x8000_0000_0000)
    assert machine.run() == native.EXIT_GENERAL_PROTECTION
    assert machine.get("rip") == CODE


NOT_CANONICAL = {
    "of rbp": ("488b4500", native.EXIT_STACK_FAULT),
    "of rbp in gs": ("65488b4500", native.EXIT_GENERAL_PROTECTION),
    "of an index rbp": ("488b042d00000000", native.EXIT_GENERAL_PROTECTION),
    "pop": ("58", native.EXIT_STACK_FAULT),
    "push of memory at rsp": ("ff3424", native.EXIT_STACK_FAULT),
    "movs": ("a4", native.EXIT_GENERAL_PROTECTION),
}


@pytest.mark.parametrize("name", NOT_CANONICAL)
@pytest.mark.parametrize("at", [CODE, CODE + native.PAGE - 1], ids=["", "across pages"])
def test_which_segment_is_not_canonical(name: str, at: int) -> None:
    code, reason = NOT_CANONICAL[name]
    machine = prepared(b"")
    machine.map(CODE + native.PAGE, native.PAGE)
    machine.write(at, bytes.fromhex(code))
    machine.set(rip=at, rbp=0x8000_0000_0000, rsp=0x8000_0000_0000, rdi=0x8000_0000_0000, rsi=1 << 62)
    assert machine.run() == reason
    assert machine.get("rip") == at


def test_page_zero_is_never_there() -> None:
    machine = prepared(bytes.fromhex("8b042500000000"))
    machine.map(0, native.PAGE)
    assert machine.run() == native.EXIT_PAGE_FAULT
    assert machine.get("exit_address") == 0


def test_dirty_bits_come_with_the_first_store_and_after_cleaning() -> None:
    machine = prepared(bytes.fromhex("8907"))
    assert not machine.page_bits(DATA) & native.DIRTY
    for _ in range(2):
        machine.set(rip=CODE)
        assert machine.run() == native.EXIT_SYSCALL
        assert machine.page_bits(DATA) & native.DIRTY
        machine.clean(DATA // native.PAGE, 1)
        assert not machine.page_bits(DATA) & native.DIRTY


# Code that changes


def test_code_that_rewrites_the_next_instruction_of_its_block() -> None:
    # mov byte [rip + 1], 7 (the immediate of the next one); mov eax, 1
    machine = prepared(bytes.fromhex("c6050100000007 b801000000"))
    machine.map(CODE, native.PAGE, RWX)
    assert machine.run() == native.EXIT_SYSCALL
    assert machine.get("rax") == 7
    assert machine.get("instructions") == 3


def test_code_that_is_rewritten_between_two_calls() -> None:
    # call f; mov ebx, eax; mov byte [f + 1], 9; call f; syscall
    body = bytes.fromhex("e8fb000000 89c3 c605f300000009 e8ed000000")
    machine = prepared(body)
    machine.map(CODE, native.PAGE, RWX)
    machine.write(CODE + 0x100, bytes.fromhex("b805000000c3"))
    machine.set(rip=CODE)
    assert machine.run() == native.EXIT_SYSCALL
    assert (machine.get("rbx"), machine.get("rax")) == (5, 9)


def test_code_that_linux_writes_or_maps_anew() -> None:
    machine = prepared(bytes.fromhex("b801000000"))
    for value in (1, 2, 3):
        machine.write(CODE + 1, bytes([value]))
        machine.set(rip=CODE)
        assert machine.run() == native.EXIT_SYSCALL
        assert machine.get("rax") == value
    machine.map(CODE, native.PAGE, READ)
    machine.set(rip=CODE)
    assert machine.run() == native.EXIT_PAGE_FAULT
    assert (machine.get("exit_address"), machine.get("exit_access")) == (CODE, EXEC)


def test_a_chained_block_is_dropped_with_its_page() -> None:
    # in a loop over two pages: the other page's code is changed while the chain is there
    machine = prepared(bytes.fromhex("e9fb0f0000"))
    target = CODE + native.PAGE
    machine.write(target, bytes.fromhex("83c001 e9f8efffff"))
    assert machine.run(100) == native.EXIT_BUDGET
    machine.write(target, bytes.fromhex("b863000000") + SYSCALL)
    assert machine.run(100) == native.EXIT_SYSCALL
    assert machine.get("rax") == 0x63


def test_an_instruction_over_a_page_is_dropped_when_its_end_changes() -> None:
    at = CODE + native.PAGE - 2
    machine = prepared(bytes.fromhex("b801000000"), at)
    assert machine.run() == native.EXIT_SYSCALL
    machine.write(CODE + native.PAGE, bytes([1]))
    machine.set(rip=at)
    assert machine.run() == native.EXIT_SYSCALL
    assert machine.get("rax") == 0x101


def test_a_missing_page_is_noticed_when_execution_gets_there() -> None:
    at = CODE + 4 * native.PAGE - 7
    machine = prepared(b"", CODE)
    machine.write(at, bytes.fromhex("b801000000 b8"))  # the second runs off the page
    machine.set(rip=at)
    assert machine.run() == native.EXIT_PAGE_FAULT
    assert machine.get("rip") == at + 5
    assert machine.get("exit_address") == CODE + 4 * native.PAGE
    assert machine.get("exit_access") == EXEC
    assert (machine.get("rax"), machine.get("instructions")) == (1, 1)


# Running


def test_budget_ends_a_loop_and_counts() -> None:
    machine = prepared(bytes.fromhex("ffc0 ebfc"))
    assert machine.run(1000) == native.EXIT_BUDGET
    assert machine.get("instructions") == 1000
    assert machine.get("rax") == 500
    assert machine.run(10) == native.EXIT_BUDGET
    assert machine.get("rax") == 505


def test_more_code_than_the_cache_holds() -> None:
    machine = Machine()
    size = 24 << 20
    machine.map(CODE, size + native.PAGE, READ | EXEC)
    machine.write(CODE, bytes.fromhex("4801c8") * (size // 3) + SYSCALL)
    machine.set(rip=CODE, rcx=1)
    for _ in range(2):
        machine.set(rip=CODE, rax=0, rcx=1)
        assert machine.run(1 << 30) == native.EXIT_SYSCALL
        assert machine.get("rax") == size // 3


def test_single_steps() -> None:
    machine = prepared(bytes.fromhex("b801000000 83f801 7401 90 ffc0"))
    for rip in (CODE + 5, CODE + 8, CODE + 11, CODE + 13):
        machine.set(rflags=machine.get("rflags") | 0x100)
        assert machine.run() == native.EXIT_TRAP
        assert machine.get("rip") == rip
    assert machine.get("rax") == 2
    assert machine.get("instructions") == 4


def test_popf_with_tf_traps_behind_the_next_instruction() -> None:
    machine = prepared(bytes.fromhex("9c 810c2400010000 9d 90 90"))
    assert machine.run() == native.EXIT_TRAP
    assert machine.get("rip") == CODE + 10


EXITS = {
    "ud2": ("0f0b", native.EXIT_INVALID_OPCODE, 0),
    "no instruction": ("06", native.EXIT_INVALID_OPCODE, 0),
    "lock mov": ("f08907", native.EXIT_INVALID_OPCODE, 0),
    "div by 0": ("31c9f7f1", native.EXIT_DIVIDE_ERROR, 2),
    "int3": ("cc", native.EXIT_BREAKPOINT, 1),
    "int1": ("f1", native.EXIT_TRAP, 1),
    "int 0x80": ("cd80", native.EXIT_INT80, 2),
    "int 0x20": ("cd20", native.EXIT_GENERAL_PROTECTION, 0),
    "hlt": ("f4", native.EXIT_GENERAL_PROTECTION, 0),
    "in": ("ec", native.EXIT_GENERAL_PROTECTION, 0),
    "xgetbv": ("0f01d0", native.EXIT_INVALID_OPCODE, 0),
    "far jump to no segment": ("ff2f", native.EXIT_GENERAL_PROTECTION, 0),
}


@pytest.mark.parametrize("name", EXITS)
def test_exit(name: str) -> None:
    code, reason, behind = EXITS[name]
    machine = prepared(bytes.fromhex(code))
    assert machine.run() == reason
    assert machine.get("rip") == CODE + behind


def test_repeated_strings_stop_at_a_fault_with_what_is_done() -> None:
    machine = prepared(bytes.fromhex("f3a4"))
    machine.write(DATA, bytes(range(200)))
    machine.set(rsi=DATA, rdi=DATA + 2 * native.PAGE - 100, rcx=150)
    assert machine.run() == native.EXIT_PAGE_FAULT
    assert machine.get("exit_address") == DATA + 2 * native.PAGE
    assert (machine.get("rcx"), machine.get("rsi")) == (50, DATA + 100)
    assert machine.read(DATA + 2 * native.PAGE - 100, 100) == bytes(range(100))


def test_cmps_faults_at_its_target_first() -> None:
    """As processors do when neither address is there."""
    machine = prepared(bytes.fromhex("a6"))
    machine.set(rsi=0x8000_0000_0000, rdi=0x2_0000)
    assert machine.run() == native.EXIT_PAGE_FAULT
    assert machine.get("exit_address") == 0x2_0000


def test_overlapping_copy_repeats_what_it_has_written() -> None:
    machine = prepared(bytes.fromhex("f3a4"))
    machine.write(DATA, b"abc")
    machine.set(rsi=DATA, rdi=DATA + 3, rcx=9)
    assert machine.run() == native.EXIT_SYSCALL
    assert machine.read(DATA, 13) == b"abc" * 4 + b"\0"


def test_cpuid_is_x86_64_v2() -> None:
    machine = prepared(bytes.fromhex("b801000000 0fa2"))
    assert machine.run() == native.EXIT_SYSCALL
    # rcx is SYSCALL's by then; edx keeps fpu, cx8, cmov, fxsr, sse, sse2
    needed = (1 << 0) | (1 << 8) | (1 << 15) | (1 << 24) | (1 << 25) | (1 << 26)
    assert machine.get("rdx") & needed == needed
    machine = prepared(bytes.fromhex("b801000000 0fa2 89ce"))
    machine.run()
    sse3, ssse3, cx16, sse41, sse42, popcnt = (1 << bit for bit in (0, 9, 13, 19, 20, 23))
    needed = sse3 | ssse3 | cx16 | sse41 | sse42 | popcnt
    assert machine.get("rsi") & needed == needed
    osxsave, avx = 1 << 27, 1 << 28
    assert not machine.get("rsi") & (osxsave | avx)


# The ABI


def test_both_sides_agree_on_the_abi() -> None:
    header = (ENGINE / "core" / "abi.h").read_text()
    client = (ENGINE / "linux" / "abi.ts").read_text()
    theirs = {name: int(value) for name, value in re.findall(r"export const (\w+) = (\d+);", client)}
    ours = {name: int(value) for name, value in re.findall(r"\b((?:PAGE|EXIT)_\w+) = (\d+),", header)}
    for name, value in ours.items():
        if name not in ("EXIT_NONE",):
            assert theirs[name] == value, name
    for field, offset in ((f, getattr(native.Cpu, f).offset) for f, *_ in native.Cpu._fields_):
        if f"CPU_{field.upper()}" in theirs:
            assert theirs[f"CPU_{field.upper()}"] == offset, field
    assert theirs["CPU_SIZE"] == 608
    assert "export const GUEST_BASE = 32 * 1024 * 1024;" in client
    assert "kGuestBase = 32u << 20" in header
