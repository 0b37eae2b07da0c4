"""The compiler that makes the guest's agent: what comes out, and what is said when it can't."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.images import agent
from storage.images.errors import AgentNotCompiled


def test_it_is_a_small_program_for_a_32_bit_x86() -> None:
    program = agent.compile_agent()
    assert program[:5] == b"\x7fELF\x01"  # 32 bits
    assert program[18:20] == b"\x03\x00"  # EM_386
    assert len(program) < 16_384


def test_what_the_compiler_says_is_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "agent.c"
    broken.write_text("int main(void) { return nothing_of_this_name; }\n")
    monkeypatch.setattr(agent, "SOURCE", broken)
    with pytest.raises(AgentNotCompiled, match="nothing_of_this_name"):
        agent.compile_agent()
