"""``python -m tests.engine.suites cpython|psutil [--modules test_int,…] [--jobs 2] [--minutes N] [--update]``

Runs a suite's modules natively and then in the engine, those first that are quick natively. What is known is
kept in the user's cache: a run that was interrupted goes on where it was. ``--again`` runs modules anew:
``differing`` those whose cases differ, ``slow`` those that had not enough time, ``all``; ``unfinished`` goes
on with those whose time ran out. ``--update`` writes docs/engine-suites.md; ``--show`` the differences with
their tracebacks.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.engine.suites import table
from tests.engine.suites.cpython import CPython
from tests.engine.suites.packages import results_of
from tests.engine.suites.psutil import Psutil
from tests.engine.suites.runs import TOO_SLOW, Limits, Results

KINDS: dict[str, type[CPython] | type[Psutil]] = {"cpython": CPython, "psutil": Psutil}


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description="Run others' test suites natively and in the engine.")
    parser.add_argument("suite", choices=sorted(KINDS))
    parser.add_argument("--modules", help="only these, divided by commas")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no module after that time")
    parser.add_argument("--native-limit", type=float, default=60, help="seconds a module may take natively")
    parser.add_argument("--limit", type=float, default=600, help="seconds a module may take in the engine")
    parser.add_argument("--case-limit", type=float, default=120, help="seconds a case may take in the engine")
    parser.add_argument("--only-native", action="store_true", help="leave the engine for later")
    parser.add_argument("--again", choices=["differing", "slow", "unfinished", "all"])
    parser.add_argument("--update", action="store_true", help="write docs/engine-suites.md")
    parser.add_argument("--show", action="store_true", help="show differences with their tracebacks")
    options = parser.parse_args()
    # A shell's background jobs ignore it, and the tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    suite = KINDS[options.suite]()
    results = Results(results_of(suite.name))
    modules = options.modules.split(",") if options.modules else suite.modules()
    if unknown := set(modules) - set(suite.modules()):
        parser.error(f"no such module: {', '.join(sorted(unknown))}")
    until = time.monotonic() + options.minutes * 60
    lock = threading.Lock()

    def natively(module: str) -> None:
        if module not in results.native and time.monotonic() < until:
            run = suite.run(module, Limits(options.native_limit, 30), engine=False)
            with lock:
                results.add_native(module, run)

    def wanted(module: str) -> bool:
        if module not in results.native or not results.native[module].passed():
            return False
        known = results.engine.get(module)
        if known is None or options.again == "all":
            return True
        if options.again == "differing":
            return bool(results.native[module].passed() - known.passed())
        if options.again == "unfinished":
            return known.ending == TOO_SLOW
        slow = known.ending == TOO_SLOW or any(case.outcome == TOO_SLOW for case in known.cases.values())
        return options.again == "slow" and slow

    def in_engine(module: str) -> None:
        if time.monotonic() >= until:
            return
        known = results.engine.get(module) if options.again == "unfinished" else None
        run = suite.run(module, Limits(options.limit, options.case_limit), engine=True, known=known)
        with lock:
            results.add_engine(module, run)
            expected = results.native[module].passed()
            say(f"{module}: {len(expected & run.passed())} of {len(expected)}, {run.seconds} s {run.ending}")

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(natively, modules))
        chosen = [module for module in modules if wanted(module) and not options.only_native]
        chosen.sort(key=lambda module: results.native[module].seconds)
        list(pool.map(in_engine, chosen))
    if options.show:
        for module in modules:
            for line in table.differences(module, results):
                say(line)
    say(table.totals(results))
    if options.update:
        table.write([suite() for suite in KINDS.values() if results_of(suite.name).is_file()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
