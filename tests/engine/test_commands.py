"""Command lines of Debian's programs do in the engine what they do on the host (commands.py)."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

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


@pytest.fixture(scope="module")
def judged() -> Iterator[dict[str, Future[commands.Report]]]:
    """Two groups run at a time: they take a processor each, and minutes."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {group: pool.submit(commands.judge, group) for group in commands.groups()}


@pytest.mark.parametrize("group", commands.groups())
def test_commands_do_as_on_the_host(group: str, judged: dict[str, Future[commands.Report]]) -> None:
    report = judged[group].result()
    if report.problems:
        # On a busy host some command lines differ even from themselves; real differences come again.
        for problem in report.problems:
            warnings.warn(f"seen once: {problem}", stacklevel=1)
        report = commands.judge(group)
    assert not report.problems, "\n\n".join(report.problems)
    for case, missing in report.left_out:
        warnings.warn(f"{group}: {case.name}: left out, this host lacks {', '.join(missing)}", stacklevel=1)
