"""Instructions against Unicorn and this machine's processor: a sample of all, and the cases that once failed.

`python -m tests.engine.reference` runs more of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.reference.campaign import Campaign, Report, rows_of
from tests.engine.reference.case import read_cases

FLAG_PAIRS = 1500
CASES = sorted((Path(__file__).parent / "cases").glob("*.json"))
GROUP = 40


@pytest.fixture(scope="module")
def campaign() -> Iterator[Campaign]:
    made = Campaign()
    yield made
    made.close()


def test_every_form(campaign: Campaign) -> None:
    """Each form with a few encodings and states; the seed moves."""
    seed, report, rows = int.from_bytes(os.urandom(4), "little"), Report(), rows_of()
    for number, start in enumerate(range(0, len(rows), GROUP)):
        campaign.run_rows(rows[start : start + GROUP], seed + number, 8, 6, report)
    assert len(report.compared) + len(report.unimplemented) >= len(rows)
    assert not report.failed, f"seed {seed}: {report.summary()}"
    assert not report.unimplemented, report.summary()


def test_flags_in_a_block(campaign: Campaign) -> None:
    """Instructions that set flags, each before one that uses them."""
    seed, report = int.from_bytes(os.urandom(4), "little"), Report()
    campaign.run_pairs(seed, FLAG_PAIRS, 4, report)
    assert not report.failed, f"seed {seed}: {report.summary()}"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_kept_case(campaign: Campaign, path: Path) -> None:
    cases, image = read_cases(path.read_text())
    report = Report()
    campaign.run_cases(cases, image, report)
    assert not report.failed, report.summary()
    assert not report.unimplemented, report.summary()
