"""Builds the engine's core with ziglang: frontend/dist-engine/core.wasm and, for tests, a native libcore.so.

    python frontend/engine/build.py [--only wasm|native] [--sanitize undefined|address]

Objects are cached by the hash of everything that makes them. `--sanitize` makes libcore-<sanitizer>.so;
undefined behaviour traps; addresses need a compiler that has the runtime (`CXX`, else g++).
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from shlex import split

ENGINE = Path(__file__).resolve().parent
CORE = ENGINE / "core"
OUTPUT = ENGINE.parent / "dist-engine"
GENERATED = OUTPUT / "generated"
OBJECTS = OUTPUT / "objects"
JOBS = 2

CORE_BYTES = 32 << 20
"""Everything of the core's own lies below (kGuestBase of core/abi.h)."""

COMMON = split(
    "-std=c++23 -fno-exceptions -fno-rtti -ffreestanding -fno-strict-aliasing -fwrapv -ffp-contract=off "
    "-Wall -Wextra -Werror"
)
WASM = split("-target wasm32-wasi -O3 -mbulk-memory -msimd128 -mnontrapping-fptoint -msign-ext -g0")
NATIVE = split("-O2 -fPIC -fvisibility=hidden -g")
WASM_LINK = split(
    "--no-entry --import-memory --export-table --growable-table --stack-first -z stack-size=1048576 "
    f"--initial-memory={CORE_BYTES} --max-memory={1 << 32}"
)
SANITIZERS = {
    "undefined": ["-O1", "-fsanitize=undefined", "-fsanitize-trap=undefined", "-fno-sanitize=alignment"],
    "address": ["-O1", "-fsanitize=address", "-fno-omit-frame-pointer"],
}


@dataclass(frozen=True)
class Form:
    """One of the forms the core is built in: its compiler, flags and result."""

    name: str
    compiler: tuple[str, ...]
    flags: tuple[str, ...]
    result: Path

    def link(self, objects: Sequence[Path]) -> list[str]:
        files = [str(path) for path in objects]
        if self.name == "wasm":
            return [*zig("wasm-ld"), *WASM_LINK, *files, "-o", str(self.result)]
        sanitize = [flag for flag in self.flags if flag.startswith("-fsanitize")]
        return [*self.compiler, "-shared", "-fPIC", "-nostdlib++", *sanitize, *files, "-o", str(self.result)]


def zig(tool: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "ziglang", tool)


def wasm() -> Form:
    return Form("wasm", zig("c++"), (*COMMON, *WASM), OUTPUT / "core.wasm")


def native(sanitizer: str | None = None) -> Form:
    if sanitizer is None:
        # zig adds checks of its own to builds that do not say -O2 or -fno-sanitize
        flags = (*COMMON, *NATIVE, "-fno-sanitize=all")
        return Form("native", zig("c++"), flags, OUTPUT / "libcore.so")
    compiler = (os.environ.get("CXX", "g++"),) if sanitizer == "address" else zig("c++")
    flags = (*COMMON, *NATIVE, *SANITIZERS[sanitizer])
    return Form(sanitizer, compiler, flags, OUTPUT / f"libcore-{sanitizer}.so")


class Progress:
    """Says each step as it ends, with its seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start = time.monotonic()

    def say(self, message: str) -> None:
        with self._lock:
            sys.stdout.write(f"[{time.monotonic() - self._start:6.1f}s] {message}\n")
            sys.stdout.flush()


class CompileError(Exception):
    """A tool has failed; the message is what it said."""


def run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own compiler
    if done.returncode != 0:
        raise CompileError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def generate(progress: Progress) -> None:
    """The decoder's tables and the mnemonics, from core/instructions.txt."""
    GENERATED.mkdir(parents=True, exist_ok=True)
    run([sys.executable, str(CORE / "generate.py"), str(GENERATED)])
    progress.say("generated tables")


def headers_of(source: Path, known: dict[Path, frozenset[Path]]) -> frozenset[Path]:
    """Our own files that `source` includes, directly or not, and itself."""
    if source in known:
        return known[source]
    known[source] = frozenset([source])
    found = {source}
    for name in re.findall(r'^\s*#include "([^"]+)"', source.read_text(), re.M):
        for folder in (source.parent, CORE, GENERATED):
            if (folder / name).exists():
                found |= headers_of((folder / name).resolve(), known)
                break
    known[source] = frozenset(found)
    return known[source]


def object_key(form: Form, source: Path) -> str:
    digest = hashlib.sha256(repr((form.compiler[1:], form.flags, version("ziglang"))).encode())
    for path in sorted(headers_of(source, {})):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:24]


def compile_source(form: Form, source: Path, progress: Progress) -> Path:
    target = OBJECTS / f"{form.name}-{source.stem}-{object_key(form, source)}.o"
    if not target.exists():
        start = time.monotonic()
        partial = target.with_suffix(f".{os.getpid()}.{threading.get_ident()}.o")
        includes = [f"-I{CORE}", f"-I{GENERATED}"]
        run([*form.compiler, *form.flags, *includes, "-c", str(source), "-o", str(partial)])
        partial.replace(target)
        progress.say(f"{form.name}: {source.name} ({time.monotonic() - start:.1f}s)")
    return target


def drop_stale(form: Form, keep: Sequence[Path]) -> None:
    """Removes a form's objects that nobody has used for a day."""
    limit = time.time() - 24 * 3600
    for path in OBJECTS.glob(f"{form.name}-*.o"):
        if path not in keep and path.stat().st_mtime < limit:
            path.unlink(missing_ok=True)


def build(forms: Sequence[Form]) -> None:
    progress = Progress()
    generate(progress)
    sources = sorted(CORE.glob("*.cpp")) + sorted(GENERATED.glob("*.cpp"))
    with ThreadPoolExecutor(JOBS) as pool:
        jobs = {form: [pool.submit(compile_source, form, s, progress) for s in sources] for form in forms}
        for form, pending in jobs.items():
            objects = [job.result() for job in pending]
            key = hashlib.sha256(repr(form.link(objects)).encode()).hexdigest()
            stamp = form.result.with_suffix(".key")
            if not form.result.exists() or not stamp.exists() or stamp.read_text() != key:
                run(form.link(objects))
                stamp.write_text(key)
                drop_stale(form, objects)
            progress.say(f"{form.result.name}: {form.result.stat().st_size / 1024:.0f} KiB")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the engine's core.")
    parser.add_argument("--only", choices=["wasm", "native"], help="one form instead of both")
    parser.add_argument("--sanitize", choices=sorted(SANITIZERS), help="a native library with checks instead")
    options = parser.parse_args()
    if options.sanitize:
        forms = [native(options.sanitize)]
    else:
        forms = [form for form in (wasm(), native()) if options.only in (None, form.name)]
    OBJECTS.mkdir(parents=True, exist_ok=True)
    try:
        with (OUTPUT / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # whoever builds at the same time waits, and finds it done
            build(forms)
    except CompileError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
