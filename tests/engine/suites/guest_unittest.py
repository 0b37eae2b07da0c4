"""Runs one module of unittest cases and says what becomes of each; itself needs nothing but CPython.

``python3.11 guest_unittest.py MODULE < ids of cases to leave out``. CPython's own tests are run as
``python -m test`` does, without resources (network, much CPU, sound). Each record is a line of JSON on
standard output: a case begins, or it ended and how. What the tests themselves print goes nowhere.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
import unittest
from typing import Any

LONGEST = 3000  # characters of a traceback


class Records(unittest.TestResult):
    """Writes a record as soon as there is something to say: whoever reads sees where a run hangs."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._outcome = ("passed", "")
        self._started = 0.0

    def write(self, **record: Any) -> None:
        os.write(self._descriptor, (json.dumps(record) + "\n").encode())

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome = ("passed", "")
        self._started = time.monotonic()
        self.write(begin=test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        outcome, why = self._outcome
        seconds = round(time.monotonic() - self._started, 3)
        self.write(end=test.id(), outcome=outcome, why=why, seconds=seconds)

    def _fail(self, test: Any, error: Any) -> None:
        text = "".join(traceback.format_exception(*error))[-LONGEST:]
        if isinstance(test, unittest.TestCase):
            self._outcome = ("failed", text)
        else:  # a class or module that could not be set up
            self.write(end=test.id(), outcome="failed", why=text, seconds=0)

    def addError(self, test: Any, error: Any) -> None:
        self._fail(test, error)

    def addFailure(self, test: Any, error: Any) -> None:
        self._fail(test, error)

    def addSubTest(self, test: Any, subtest: Any, error: Any) -> None:
        if error is not None:
            self._fail(test, error)

    def addSkip(self, test: Any, reason: str) -> None:
        if isinstance(test, unittest.TestCase):
            if self._outcome[0] == "passed":
                self._outcome = ("skipped", reason)
        else:
            self.write(end=test.id(), outcome="skipped", why=reason, seconds=0)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._outcome = ("failed", "unexpected success")


def cases(suite: Any) -> Any:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from cases(item)
        else:
            yield item


def without(suite: Any, left_out: set[str]) -> None:
    """Takes cases out of a suite, in place: its classes keep their own way to run."""
    kept = []
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            without(item, left_out)
            kept.append(item)
        elif item.id() not in left_out:
            kept.append(item)
    suite._tests = kept


def main() -> None:
    name = sys.argv[1]
    left_out = set(sys.stdin.read().split("\n"))
    descriptor = os.dup(1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
    result = Records(descriptor)

    def run_suite(suite: unittest.TestSuite) -> None:
        without(suite, left_out)
        suite.run(result)

    if name.startswith("test."):
        support = importlib.import_module("test.support")
        support.use_resources = []  # type: ignore[attr-defined]
        support.verbose = False  # type: ignore[attr-defined]
        support._run_suite = run_suite  # type: ignore[attr-defined]
    try:
        module = importlib.import_module(name)
        if hasattr(module, "test_main"):
            module.test_main()
        else:
            run_suite(unittest.defaultTestLoader.loadTestsFromModule(module))
    except unittest.SkipTest as skip:
        result.write(end=name, outcome="skipped", why=str(skip), seconds=0)
    except BaseException:
        result.write(end=name, outcome="failed", why=traceback.format_exc()[-LONGEST:], seconds=0)
    result.write(finished=True)
    os._exit(0)  # whatever a test left running must not be waited for


if __name__ == "__main__":
    main()
