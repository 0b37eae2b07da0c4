"""The eight loops and real programs natively, in a 64-bit machine (our engine) and in a 32-bit one (v86):
`python -m tests.bench.engines [--rounds N]`. Both machines are in the browser.

The loops are compiled by one compiler for all three, for processors without AVX; programs are those of the
host and of each machine's own Debian. Each round runs one after the other; figures are medians, in brackets
times native.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.e2e.steps import STARTER, STARTER_64, Console, new_email, sign_up, start_machine
from tests.support.browser import Profiles, launch
from tests.support.service import Service

SOURCE = Path(__file__).resolve().parents[2] / "frontend" / "engine" / "bench" / "eight-loops.c"
LOOPS = ("sieve", "sha256", "qsort", "matmul", "strlen", "copy", "chase", "hash")
TIMES = 20
TARGETS = {64: ("x86_64-linux-musl", "x86_64"), 32: ("x86-linux-musl", "pentium4")}
"""zig's target and processor by the bits of the machine."""
PREPARE = (
    "seq 7919 7919 4000000000 | head -400000 > numbers",
    "printf '#include <stdio.h>\\nint main(void) { puts(\"hello\"); return 0; }\\n' > hello.c",
)
PROGRAMS = {
    "bash loop": "for ((i = 0; i < 50000; i++)); do :; done",
    "gcc -O2 hello.c": "gcc -O2 -o hello hello.c",
    "python3 start": "/usr/bin/python3 -c pass",
    "python3 loop": "/usr/bin/python3 -c 'print(sum(i * i for i in range(500000)))'",
    "sqlite3": '/usr/bin/python3 -c \'import sqlite3; d = sqlite3.connect(":memory:"); '
    'd.execute("create table t (a, b)"); d.executemany("insert into t values (?, ?)", '
    '((i, str(i)) for i in range(50000))); print(d.execute("select sum(a) from t").fetchone())\'',
    "gzip": "gzip -c numbers | wc -c",
    "sha256sum": "sha256sum numbers",
    "sort": "sort -r numbers | sort -n | tail -1",
}
RUN_MS = 600_000

Shell = Callable[[str], str]


def compile_loops(bits: int, program: Path) -> None:
    target, processor = TARGETS[bits]
    options = ["-target", target, f"-mcpu={processor}", "-O2", "-static", "-s", "-o", str(program)]
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *options, str(SOURCE)], check=True)


def send_file(console: Console, content: bytes, name: str) -> None:
    """Types a program into the machine."""
    text = base64.encodebytes(gzip.compress(content)).decode().replace("\n", "\r")
    console.run("stty -echo")
    console.send(f"base64 -d <<'END' | gzip -d > {name}; chmod +x {name}\r{text}END\r")
    console.run("stty echo", RUN_MS)


def native_shell(folder: Path) -> Shell:
    def run(command: str) -> str:
        done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    return run


def loop_ms(shell: Shell, name: str) -> tuple[float, str]:
    """Milliseconds, and the checksum."""
    _, checksum, nanoseconds = shell(f"./loops {name} {TIMES}").split()[-3:]
    return int(nanoseconds) / 1e6, checksum


def program_ms(shell: Shell, command: str) -> float:
    answer = shell(f"TIMEFORMAT='took %R s'; time {{ {command}; }}")
    found = re.search(r"took (\d+\.\d+) s", answer)
    assert found, answer
    return float(found[1]) * 1000


def row(name: str, times: list[list[float]]) -> str:
    native, *others = (statistics.median(one) for one in times)
    cells = [f"{other:9.0f} ms ({other / native:6.1f})" for other in others]
    return f"{name:18}{native:9.0f} ms{''.join(cells)}"


def compare(shells: list[Shell], rounds: int) -> None:
    for name in LOOPS:
        times: list[list[float]] = [[] for _ in shells]
        for _ in range(rounds):
            measured = [loop_ms(shell, name) for shell in shells]
            assert len({checksum for _, checksum in measured}) == 1, measured
            for one, (milliseconds, _) in zip(times, measured, strict=True):
                one.append(milliseconds)
        print(row(name, times), flush=True)  # noqa: T201 - the output of a command
    for name, command in PROGRAMS.items():
        times = [[program_ms(shell, command) for _ in range(rounds)] for shell in shells]
        print(row(name, times), flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", help="a service that runs already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="webvm-bench-") as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        programs = {bits: folder / f"loops-{bits}" for bits in TARGETS}
        for bits, program in programs.items():
            compile_loops(bits, program)
        native = native_shell(folder)
        native("cp loops-64 loops")
        service = None if arguments.url else Service(folder / "data")
        browser = launch(playwright)
        try:
            if service:
                service.start()
                for slug in ("starter-64", "starter"):
                    service.wait_for_image(slug)
            url = arguments.url or (service.url if service else "")
            profiles = Profiles(browser)
            shells = [native]
            for bits, image in ((64, STARTER_64), (32, STARTER)):
                page = profiles.new().new_page()
                sign_up(page, url, new_email("bench"))
                console = start_machine(page, url, image)
                console.set_autosave(0)
                send_file(console, programs[bits].read_bytes(), "loops")
                shells.append(partial(console.run, timeout_ms=RUN_MS))
            for shell in shells:
                for command in PREPARE:
                    shell(command)
            print(f"{'':18}{'native':>12}{'64-bit':>12}{'':9}{'32-bit':>12}")  # noqa: T201
            compare(shells, arguments.rounds)
        finally:
            browser.close()
            if service:
                service.stop()


if __name__ == "__main__":
    main()
