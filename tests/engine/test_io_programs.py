"""Pipes, terminals, events, sockets and locks: programs in C behave in the engine as on the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.test_programs import compiled, core, in_engine, natively

__all__ = ["core"]


@pytest.mark.parametrize(
    "name", ["pipes", "ptys", "events", "sockets", "headers", "locks", "transfer", "urgent"]
)
def test_program_behaves_as_on_the_host(name: str, tmp_path: Path) -> None:
    program = compiled(name, tmp_path, "-w")
    expected = natively(str(program))
    got, errors = in_engine(str(program))
    assert got == expected, errors
