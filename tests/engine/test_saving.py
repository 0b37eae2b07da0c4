"""A machine that is saved and restored again and again with its programs running does as it would have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.test_programs import compiled, in_engine, natively

EVERY = ("--restore-every", "15")
PROGRAMS = [
    *("forks", "handlers", "threads", "memory", "ipc", "floats"),
    *("pipes", "ptys", "events", "sockets", "locks", "urgent", "mqueues", "messages"),
    *("aliases", "segments", "traps"),
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_does_not_notice(name: str, tmp_path: Path) -> None:
    program = compiled(name, tmp_path, "-w")
    expected = natively(str(program))
    got, errors = in_engine(str(program), options=EVERY)
    assert got == expected, errors
