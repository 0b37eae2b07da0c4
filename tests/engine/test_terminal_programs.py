"""What a person sees who works at a terminal of the engine is what the host shows: bash, vim, less, tmux."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.screen import LINES, Terminal
from tests.engine.test_programs import core, runner

__all__ = ["core"]

ENVIRONMENT = {
    "TERM": "xterm-256color",
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "PS1": "> ",
    "SHELL": "/bin/sh",
}
SHELL = ["bash", "--norc", "-i"]
TEXT = Path(__file__).with_name("programs") / "ptys.c"


def natively(command: list[str]) -> Terminal:
    return Terminal(command, ENVIRONMENT)


def in_engine(command: list[str]) -> Terminal:
    given = [word for name, value in ENVIRONMENT.items() for word in ("--env", f"{name}={value}")]
    return Terminal([*runner(*given, "--cwd", "/"), "--", *command], ENVIRONMENT)


def seen(screen: Terminal) -> tuple[list[str], tuple[int, int]]:
    """The screen without what differs from machine to machine: process numbers."""
    return [re.sub(r"^(\[\d+\]) \d+$", r"\1 PID", line) for line in screen.lines], screen.cursor


def same_on_both(
    command: list[str], work: Callable[[Terminal], None], leave: Callable[[Terminal], None]
) -> None:
    screens = []
    codes = []
    for start in (natively, in_engine):
        with start(command) as screen:
            work(screen)
            screens.append(seen(screen))
            leave(screen)
            codes.append(screen.wait())
    assert screens[1] == screens[0]
    assert codes[1] == codes[0]


def at_prompt(screen: Terminal) -> bool:
    return screen.lines[screen.cursor[0]] == ">" and screen.cursor[1] == 2


def ran(screen: Terminal, command: str, shows: str) -> None:
    """Types a command at the prompt and waits until it has shown that line, and for the next prompt."""
    screen.until(lambda: at_prompt(screen))
    screen.type(f"{command}\r")
    screen.until(lambda: any(re.fullmatch(shows, line) for line in screen.lines) and at_prompt(screen))


def test_job_control_in_bash() -> None:
    def work(screen: Terminal) -> None:
        screen.until(">")
        # What is typed before bash has given the terminal away goes elsewhere.
        screen.type("echo reading; cat\r")
        screen.until("\nreading")
        screen.type("typo\x7f\x7fed\r")
        screen.until(lambda: screen.lines.count("tyed") == 2)
        screen.type("\x03")
        screen.until("^C\n>")
        ran(screen, "echo code $?", "code 130")
        screen.until(lambda: at_prompt(screen))
        screen.type("echo sleeping; sleep 100\r")
        screen.until("\nsleeping")
        screen.settle()
        screen.type("\x1a")
        screen.until("Stopped")
        ran(screen, "jobs", r"\[1\]\+  Stopped +sleep 100")
        screen.type("fg\r")
        screen.until("> fg\n")
        screen.settle()
        screen.type("\x03")
        screen.until(lambda: at_prompt(screen))
        ran(screen, "sleep 0.2 & wait; echo after", "after")
        ran(screen, "stty size", "24 80")
        ran(screen, "tty >/dev/null; echo $?", "0")
        screen.type("cat >/dev/null & sleep 0.3; jobs\r")
        screen.until(lambda: "Stopped                 cat" in screen.text)
        screen.settle()

    def leave(screen: Terminal) -> None:
        screen.type("kill -KILL %1; sleep 0.2; exit 3\r")

    same_on_both(SHELL, work, leave)


def test_editing_lines_and_a_new_size_in_bash() -> None:
    def work(screen: Terminal) -> None:
        screen.until(">")
        screen.type("echo middle\x01\x1b[C\x1b[C\x1b[C\x1b[C\x1b[Cin the \r")
        screen.until("in the middle\n>")
        screen.type("\x1b[A\x17end\r")
        screen.until("in the end\n>")
        screen.settle()
        screen.resize(30, 60)
        screen.settle()
        ran(screen, "stty size", "30 60")
        screen.type("trap 'stty size' WINCH\r")
        screen.until("WINCH\n>")
        screen.settle()
        screen.resize(20, 70)
        screen.settle()
        screen.type("\r")
        screen.until("20 70")
        screen.settle()

    same_on_both(SHELL, work, lambda screen: screen.type("\x04"))


def test_vim_edits_and_writes(tmp_path: Path) -> None:
    file = tmp_path / "text"

    def work(screen: Terminal) -> None:
        screen.until("[New]")
        screen.type("ihello from vim\rsecond line\x1b")
        screen.until("second line")
        screen.type("yyp:set number\r")
        screen.until("3 second line")
        screen.type(":%s/line/row/g\r")
        screen.until("second row")
        screen.type("u")
        screen.until("second line")
        screen.type(":w\r")
        screen.until("written")
        screen.type(":!cat %\r")
        screen.until("Press ENTER")
        screen.settle()

    def leave(screen: Terminal) -> None:
        screen.type("\r:q\r")
        file.unlink(missing_ok=True)

    same_on_both(["vim", "-u", "NONE", "-N", "-n", str(file)], work, leave)


def test_less_pages_searches_and_follows_the_size() -> None:
    def work(screen: Terminal) -> None:
        screen.until("/* Pseudo terminals")
        screen.until(lambda: screen.lines[LINES - 1] != "")
        screen.type(" ")
        screen.until("static void take")
        screen.type("/openpty\r")
        screen.until("openpty(&master")
        screen.resize(30, 70)
        screen.until(lambda: len(screen.lines) == 30 and screen.lines[29] != "")
        screen.settle()

    same_on_both(["less", str(TEXT)], work, lambda screen: screen.type("q"))


def test_tmux_divides_the_screen(tmp_path: Path) -> None:
    # Both servers may live at the same time: each has its own socket.
    for start in (natively, in_engine):
        socket = tmp_path / start.__name__
        command = ["tmux", "-S", str(socket), "-f", "/dev/null", "new", "-s", "work", *SHELL]
        with start(command) as screen:
            screen.until(">")
            screen.until("[work] 0:bash*")
            screen.type("echo one\r")
            screen.until("\none\n")
            screen.type("\x02:")
            screen.until(lambda: screen.lines[LINES - 1] == ":")
            screen.type("split-window bash --norc\r")
            screen.until(lambda: screen.cursor[0] > 10 and screen.lines[screen.cursor[0]] == ">")
            screen.type("echo two; echo $TERM; tty\r")
            screen.until(lambda: "tmux-256color" in screen.lines)
            screen.type("\x02o")
            screen.until(lambda: screen.cursor[0] < 10)
            screen.settle()
            screen.type("\x02z")
            screen.until(lambda: "one" in screen.lines and "two" not in screen.lines)
            screen.type("stty size\r")
            screen.until("23 80")
            screen.type("\x02:")
            screen.until(lambda: screen.lines[LINES - 1] == ":")
            screen.type("kill-server\r")
            assert screen.wait() in (0, 1)
            assert "[server exited]" in screen.raw.decode()


@pytest.mark.parametrize("signal", ["\x03", "\x1c"])
def test_keys_end_a_command_that_computes(signal: str) -> None:
    def work(screen: Terminal) -> None:
        screen.until(">")
        screen.type("while :; do :; done\r")
        screen.until("done")
        screen.settle()
        screen.type(signal)
        if signal == "\x03":
            screen.until("^C")
        else:
            screen.settle()
            screen.type("\x03")
        screen.until(lambda: screen.lines[screen.cursor[0]] == ">")

    same_on_both(SHELL, work, lambda screen: screen.type("exit 0\r"))
