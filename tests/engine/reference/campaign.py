"""Runs cases on our core, Unicorn and the host, and judges.

The host's processor decides where there is one: Unicorn leaves out exception flags, stores half of what
a fault cuts, and so on. Where only Unicorn disagrees, that is counted by mnemonic; without a host, what is
known so is left out (unicorn_wrong.txt).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.engine.decoding import table
from tests.engine.reference import host
from tests.engine.reference.case import Case, Outcome, dump
from tests.engine.reference.compare import differences
from tests.engine.reference.emulator import UnicornProcess
from tests.engine.reference.generator import Generator, tested
from tests.engine.reference.ours import Ours

UNFIT = {"privileged", "undefined"}
UNICORN_WRONG = Path(__file__).with_name("unicorn_wrong.txt")


def known_wrong() -> set[str]:
    """Mnemonics for which Unicorn has been seen to differ from a processor."""
    lines = UNICORN_WRONG.read_text().splitlines()
    return {line.split()[0] for line in lines if line and not line.startswith("#")}


@dataclass
class Failure:
    case: Case
    image: bytes
    what: list[str]

    def __str__(self) -> str:
        row = table()["rows"][self.case.row]
        return f"{row['mnemonic']} ({row['encoding']}) {self.case.code.hex()}: {'; '.join(self.what[:4])}"


@dataclass
class Report:
    compared: Counter[int] = field(default_factory=Counter)
    unimplemented: Counter[str] = field(default_factory=Counter)
    unimplemented_examples: dict[str, str] = field(default_factory=dict)
    failed: Counter[int] = field(default_factory=Counter)
    unicorn_differs: Counter[str] = field(default_factory=Counter)
    unicorn_examples: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    unicorn_deaths: int = 0
    seconds: float = 0.0

    def summary(self, most: int = 60) -> str:
        rows = table()["rows"]
        total = sum(self.compared.values())
        lines = [
            f"{total} cases of {len(self.compared)} forms in {self.seconds:.1f} s: "
            f"{sum(self.failed.values())} failed in {len(self.failed)} forms"
        ]
        if self.unimplemented:
            lines.append(f"without handler ({len(self.unimplemented)}): {self.unimplemented_examples}")
        shown: Counter[int] = Counter()
        for failure in self.failures:
            shown[failure.case.row] += 1
            if shown[failure.case.row] <= 2 and sum(shown.values()) < most * 2:
                lines.append(f"  {failure}")
        worst = [
            f"{rows[row]['mnemonic']} {rows[row]['encoding']}: {count}/{self.compared[row]}"
            for row, count in self.failed.most_common(most)
        ]
        if worst:
            lines.append("failed: " + ", ".join(worst))
        if self.unicorn_differs:
            lines.append(
                "only Unicorn differs: "
                + " ".join(f"{name}:{count}" for name, count in sorted(self.unicorn_differs.items()))
            )
        return "\n".join(lines)


class Campaign:
    """Runners that live through many batches."""

    def __init__(self) -> None:
        self.ours = Ours()
        self.unicorn = UnicornProcess()
        self.host = host.Host() if host.available() else None
        self._wrong = known_wrong()

    def close(self) -> None:
        self.unicorn.close()
        if self.host is not None:
            self.host.close()

    def run_cases(self, cases: Sequence[Case], image: bytes, report: Report) -> None:
        rows = table()["rows"]
        # Unicorn runs in the kernel's ring
        emulated = [i for i, case in enumerate(cases) if not UNFIT.intersection(rows[case.row]["attributes"])]
        self.unicorn.start([cases[i] for i in emulated], image)
        ours = self.ours.run(cases, image)
        real: Sequence[Outcome | None] = self.host.run(cases, image) if self.host else [None] * len(cases)
        virtual = dict(zip(emulated, self.unicorn.finish(), strict=True))
        for i, case in enumerate(cases):
            if ours[i].kind == "unimplemented":
                name = rows[case.row]["mnemonic"]
                report.unimplemented[name] += 1
                report.unimplemented_examples.setdefault(name, case.code.hex())
                continue
            self._judge(case, ours[i], real[i], virtual.get(i), image, report)
        report.unicorn_deaths = self.unicorn.deaths

    def _judge(
        self,
        case: Case,
        mine: Outcome,
        real: Outcome | None,
        virtual: Outcome | None,
        image: bytes,
        report: Report,
    ) -> None:
        name = table()["rows"][case.row]["mnemonic"]
        report.compared[case.row] += 1
        what: list[str] = []
        if real is not None:
            what = differences(case, mine, real, True, image)
            if (
                virtual is not None
                and not what
                and (emulated := differences(case, mine, virtual, False, image))
            ):
                report.unicorn_differs[name] += 1
                report.unicorn_examples.setdefault(name, f"{case.code.hex()}: {'; '.join(emulated[:3])}")
        elif virtual is not None and name not in self._wrong:
            what = differences(case, mine, virtual, False, image)
        if what:
            report.failed[case.row] += 1
            if report.failed[case.row] <= 5:
                report.failures.append(Failure(case, image, what))

    def run_rows(self, rows: Iterable[int], seed: int, encodings: int, states: int, report: Report) -> None:
        start = time.monotonic()
        generator = Generator(seed)
        batch: list[Case] = []
        for row in rows:
            batch += generator.cases(row, encodings, states)
            if len(batch) >= 256:
                self.run_cases(batch, generator.image, report)
                batch = []
        self.run_cases(batch, generator.image, report)
        report.seconds += time.monotonic() - start

    def run_pairs(self, seed: int, pairs: int, states: int, report: Report) -> None:
        start = time.monotonic()
        generator = Generator(seed)
        self.run_cases(generator.pairs(pairs, states), generator.image, report)
        report.seconds += time.monotonic() - start


def rows_of(only: str | None = None) -> list[int]:
    rows = table()["rows"]
    names = only.split(",") if only else None
    return [i for i, row in enumerate(rows) if tested(i) and (names is None or row["mnemonic"] in names)]


def save(failures: Sequence[Failure], folder: Path) -> list[Path]:
    """A file of cases for each failing form."""
    found: dict[int, list[Failure]] = {}
    for failure in failures:
        found.setdefault(failure.case.row, []).append(failure)
    paths = []
    for number, some in found.items():
        row = table()["rows"][number]
        name = "-".join([row["mnemonic"], *row["encoding"].lower().replace("/", "").split()])
        path = folder / f"{name}.json"
        path.write_text(dump([failure.case for failure in some[:3]], some[0].image))
        paths.append(path)
    return paths
