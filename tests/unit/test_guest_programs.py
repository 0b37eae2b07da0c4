"""The compiler that makes the guest's own programs: what comes out, and what is said when it can't."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.images.errors import ProgramNotCompiled
from storage.images.guest_programs import HERE, compile_program


@pytest.mark.parametrize(
    ("source", "architecture", "start", "machine"),
    [
        ("agent.c", "i386", b"\x7fELF\x01", b"\x03\x00"),  # 32 bits, EM_386
        ("init.c", "amd64", b"\x7fELF\x02", b"\x3e\x00"),  # 64 bits, EM_X86_64
    ],
)
def test_they_are_small_programs_for_their_machine(
    source: str, architecture: str, start: bytes, machine: bytes
) -> None:
    program = compile_program(HERE / source, architecture)
    assert program.startswith(start)
    assert program[18:20] == machine
    assert len(program) < 16_384


def test_what_the_compiler_says_is_in_the_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("int main(void) { return nothing_of_this_name; }\n")
    with pytest.raises(ProgramNotCompiled, match="nothing_of_this_name"):
        compile_program(broken, "i386")
