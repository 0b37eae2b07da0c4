"""psutil's tests, as Debian's python3-psutil ships them: processes and the machine as /proc tells of them."""

from __future__ import annotations

import shutil

from tests.engine.suites.cpython import DRIVER, PYTHON, need_python
from tests.engine.suites.packages import SUITES, unpack, version
from tests.engine.suites.runs import Limits, Run, run


class Psutil:
    name = "psutil"
    title = "psutil's tests"
    about = "Debian's `python3-psutil` {} with the host's `python3.11`."

    def __init__(self) -> None:
        need_python()
        self.library = SUITES / "psutil"
        unpack(["python3-psutil"], "/usr/lib/python3/dist-packages", self.library)
        shutil.copy(DRIVER, self.library / "guest_unittest.py")

    def version(self) -> str:
        return version(self.library)

    def modules(self) -> list[str]:
        return sorted(path.stem for path in (self.library / "psutil" / "tests").glob("test_*.py"))

    def run(self, module: str, limits: Limits, *, engine: bool, known: Run | None = None) -> Run:
        guest = [PYTHON, str(self.library / "guest_unittest.py"), f"psutil.tests.{module}"]
        return run(guest, {"PYTHONPATH": str(self.library)}, limits, engine=engine, known=known)
