"""The table of what differs: docs/engine-suites.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tests.engine.suites.packages import results_of
from tests.engine.suites.runs import Results, Run

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "engine-suites.md"
REASONS = Path(__file__).with_name("reasons.txt")
UNEXPLAINED = "not explained yet"


def reasons() -> list[tuple[re.Pattern[str], str]]:
    """Lines `PATTERN: REASON`; the pattern fits a case's whole name, `*` is anything; the first counts."""
    found = []
    for line in REASONS.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            pattern, _, reason = line.partition(": ")
            fitting = re.compile(".*".join(re.escape(part) for part in pattern.split("*")))
            found.append((fitting, reason.strip()))
    return found


def differing(module: str, results: Results) -> list[str]:
    """Cases that pass natively and not in the engine."""
    engine = results.engine.get(module, Run())
    return sorted(results.native[module].passed() - engine.passed())


def differences(module: str, results: Results) -> Iterator[str]:
    if module not in results.engine:
        return
    engine = results.engine[module]
    for name in differing(module, results):
        case = engine.cases.get(name)
        if case is None:
            yield f"== {name}: no result ({engine.ending})"
        else:
            yield f"== {name}: {case.outcome}\n{case.why}"
    for name, case in engine.cases.items():
        if case.outcome == "failed" and name not in results.native[module].cases:
            yield f"== {name}: only in the engine\n{case.why}"


def counted(results: Results) -> tuple[int, int, int, int]:
    """Modules that agree, modules; cases that pass in both, cases that pass natively. Of those that ran."""
    ran = [module for module in results.engine if module in results.native]
    agreeing = sum(not differing(module, results) for module in ran)
    native = sum(len(results.native[module].passed()) for module in ran)
    both = native - sum(len(differing(module, results)) for module in ran)
    return agreeing, len(ran), both, native


def totals(results: Results) -> str:
    agreeing, modules, both, native = counted(results)
    share = 100 * both / native if native else 0.0
    module_share = 100 * agreeing / modules if modules else 0.0
    return (
        f"{both} of {native} cases that pass natively pass in the engine ({share:.2f} %); "
        f"in {agreeing} of {modules} modules all of them ({module_share:.1f} %)"
    )


def explained(module: str, results: Results) -> str:
    """The reasons of a module's differences, each with the number of cases."""
    engine = results.engine[module]
    known = reasons()
    numbers: dict[str, int] = {}
    for name in differing(module, results):
        case = engine.cases.get(name)
        reason = next((text for pattern, text in known if pattern.fullmatch(name)), UNEXPLAINED)
        if reason == UNEXPLAINED:
            if case is None:
                reason = "not reached in the time given" if engine.ending == "too slow" else "not reached"
            elif case.outcome == "too slow":
                reason = "too slow"
        numbers[reason] = numbers.get(reason, 0) + 1
    return "; ".join(f"{reason} ({number})" for reason, number in sorted(numbers.items()))


class Suite(Protocol):
    name: str
    title: str
    about: str

    def version(self) -> str: ...
    def modules(self) -> list[str]: ...


def write(suites: Sequence[Suite]) -> None:
    lines = [
        "# Test suites of others",
        "",
        "Each module is run natively and in the engine (`--root /`), as the user who runs it; counted are "
        "cases that pass natively.",
        "Written by `uv run python -m tests.engine.suites SUITE --update`; reasons are in "
        "`tests/engine/suites/reasons.txt`.",
        "",
    ]
    for suite in suites:
        results = Results(results_of(suite.name))
        lines += [f"## {suite.title}", "", suite.about.format(suite.version()), "", f"{totals(results)}.", ""]
        lines += section(suite.modules(), results)
    PAGE.write_text("\n".join(lines))


def section(modules: list[str], results: Results) -> list[str]:
    ran = sorted(module for module in results.engine if module in results.native)
    nothing = sorted(name for name, run in results.native.items() if not run.passed())
    waiting = sorted(set(modules) - set(ran) - set(nothing))
    alike = [module for module in ran if not differing(module, results)]
    lines = [
        "| module | pass natively | of them in the engine | why the others do not |",
        "|---|---|---|---|",
    ]
    for module in ran:
        native, missing = len(results.native[module].passed()), len(differing(module, results))
        if missing:
            lines.append(f"| {module} | {native} | {native - missing} | {explained(module, results)} |")
    counts = [f"{module} {len(results.native[module].passed())}" for module in alike]
    lines += ["", f"All cases pass in: {', '.join(counts) or 'none'}.", ""]
    lines += [f"Not run yet: {', '.join(waiting) or 'none'}.", ""]
    lines += [f"Nothing passes natively: {', '.join(nothing) or 'none'}.", ""]
    return lines
