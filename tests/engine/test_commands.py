"""Command lines of Debian's programs do in the engine what they do on the host (commands.py)."""

from __future__ import annotations

import shutil
import warnings

import pytest

from tests.engine import commands
from tests.engine.test_programs import core

__all__ = ["core"]

# On every Debian with a compiler. Other programs are left out where they aren't installed, and named.
REQUIRED = ["bash", "ls", "find", "grep", "sed", "awk", "tar", "gzip", "diff", "gcc", "make", "perl"]


def test_the_basic_programs_are_here() -> None:
    assert [name for name in REQUIRED if shutil.which(name, path=commands.PATH) is None] == []


def test_there_are_hundreds_of_cases() -> None:
    assert sum(len(commands.read(group)) for group in commands.groups()) >= 300


@pytest.mark.parametrize("group", commands.groups())
def test_commands_do_as_on_the_host(group: str) -> None:
    report = commands.judge(group)
    assert not report.problems, "\n\n".join(report.problems)
    for case, missing in report.left_out:
        warnings.warn(f"{group}: {case.name}: left out, this host lacks {', '.join(missing)}", stacklevel=1)
