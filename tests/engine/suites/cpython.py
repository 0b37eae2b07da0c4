"""CPython's own regression tests, from Debian's libpython3.11-testsuite, with the host's python3.11."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.engine.suites.packages import SUITES, unpack, version
from tests.engine.suites.runs import Limits, Run, run

PYTHON = "/usr/bin/python3.11"
DRIVER = Path(__file__).with_name("guest_unittest.py")


def need_python() -> None:
    if not Path(PYTHON).exists():
        raise SystemExit(f"{PYTHON} is not here: the suite needs Debian 12's python3.11")


class CPython:
    name = "cpython"
    title = "CPython's regression tests"
    about = (
        "Debian's `libpython3.11-testsuite` {} with the host's `python3.11`, without resources (`-u none`)."
    )

    def __init__(self) -> None:
        need_python()
        self.library = SUITES / "cpython"
        packages = ["libpython3.11-stdlib", "libpython3.11-testsuite"]
        unpack(packages, "/usr/lib/python3.11/test", self.library / "test")
        # Where both sides see it: next to the library, so that no path of this repository is in a traceback.
        shutil.copy(DRIVER, self.library / "guest_unittest.py")

    def version(self) -> str:
        return version(self.library / "test")

    def modules(self) -> list[str]:
        folder = self.library / "test"
        files = {path.stem for path in folder.glob("test_*.py")}
        packages = {path.parent.name for path in folder.glob("test_*/__init__.py")}
        return sorted(files | packages)

    def run(self, module: str, limits: Limits, *, engine: bool, known: Run | None = None) -> Run:
        guest = [PYTHON, str(self.library / "guest_unittest.py"), f"test.{module}"]
        return run(guest, {"PYTHONPATH": str(self.library)}, limits, engine=engine, known=known)
