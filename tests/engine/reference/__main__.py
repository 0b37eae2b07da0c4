"""Compares every form of every instruction with Unicorn and with this machine's processor.

python -m tests.engine.reference --minutes 10 [--only mov,add] [--seed N] [--save]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path

from tests.engine.decoding import table
from tests.engine.reference.campaign import Campaign, Report, rows_of, save

CASES = Path(__file__).resolve().parents[1] / "cases"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--only", help="mnemonics, with commas")
    parser.add_argument("--feature", help="features of the table, with commas")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--save", action="store_true", help="keep failing cases in tests/engine/cases")
    parser.add_argument("--forms", action="store_true", help="list the cases of each form")
    parser.add_argument("--unicorn", action="store_true", help="show where only Unicorn differs")
    options = parser.parse_args()
    rows = rows_of(options.only)
    if options.feature:
        rows = [i for i in rows if table()["rows"][i]["feature"] in options.feature.split(",")]
    sys.stdout.write(f"seed {options.seed}, {len(rows)} forms\n")
    campaign, report = Campaign(), Report()
    seeds = random.Random(options.seed)  # noqa: S311 - a seed that can be repeated is the point
    end = time.monotonic() + 60 * options.minutes
    while True:
        for start in range(0, len(rows), 20):
            campaign.run_rows(rows[start : start + 20], seeds.getrandbits(32), 4, 6, report)
            if time.monotonic() > end:
                break
        if not (options.only or options.feature):
            campaign.run_pairs(seeds.getrandbits(32), 100, 4, report)
        if time.monotonic() > end:
            break
    campaign.close()
    sys.stdout.write(report.summary() + "\n")
    if options.unicorn:
        for name, example in sorted(report.unicorn_examples.items()):
            sys.stdout.write(f"  Unicorn {name}: {example}\n")
    if options.forms:
        for number, count in sorted(report.compared.items()):
            row = table()["rows"][number]
            sys.stdout.write(f"{count:8} {report.failed[number]:6} {row['mnemonic']} {row['encoding']}\n")
    if options.save:
        CASES.mkdir(exist_ok=True)
        for path in save(report.failures, CASES):
            sys.stdout.write(f"kept {path.name}\n")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
