"""The `linux` machine's process 1 (storage/images/guest/init.c) in the engine: shells, reaping, the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.images.guest_programs import HERE, compile_program
from tests.engine.screen import Terminal
from tests.engine.test_programs import core, runner

__all__ = ["core"]

# In the guest's memory only: a home without the host's settings, and our init in its place.
PREPARE = "mount -t tmpfs home /root && rm -f /usr/sbin/init && cp {init} /usr/sbin/init && exec /sbin/init"


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Terminal]:
    init = tmp_path / "init"
    init.write_bytes(compile_program(HERE / "init.c", "amd64"))
    init.chmod(0o755)
    command = [*runner("--init", "--cwd", "/"), "--", "sh", "-c", PREPARE.format(init=init)]
    with Terminal(command, {"TERM": "xterm-256color", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}) as screen:
        yield screen


def says(screen: Terminal, command: str, answer: str) -> None:
    """Types a command whose answer is not in the command."""
    screen.type(f"{command}\r")
    screen.until(answer)


def test_a_login_shell_runs_on_the_console(screen: Terminal) -> None:
    says(
        screen,
        "shopt -q login_shell && echo $((6*7)) $(tty) $HOME $TERM",
        "42 /dev/ttyS0 /root xterm-256color",
    )
    says(screen, "stat -f -c $((1)):%T /run /tmp", "1:tmpfs\n1:tmpfs")
    says(screen, "echo $(stty size) $((1+1))", "24 80 2")
    says(screen, "bash -c 'echo $((1))-reading; read line'", "1-reading")
    screen.type("\x03")
    screen.until(lambda: screen.text.rstrip().endswith("#"))
    says(screen, "echo code-$?", "code-130")
    # A child that its parent leaves behind is process 1's.
    says(screen, "(sleep 0.1 & echo left-$((7*7))); sleep 0.4", "left-49")
    says(screen, "ps -e -o stat= | grep -c ^Z; echo zombies-$((1+1))", "0\nzombies-2")


def test_a_shell_that_ends_is_followed_by_another(screen: Terminal) -> None:
    says(screen, "echo first > /run/$((40+2)); exit", "logout")
    says(screen, "cat /run/42; ps -e -o args= | grep -c '^-bas[h]'", "first\n1")


def test_a_terminal_that_nobody_looks_at_has_no_shell(screen: Terminal) -> None:
    says(screen, "until ps -t ttyS2 >/dev/null; do sleep 0.1; done; echo there-$((1))", "there-1")
    says(screen, "ps -t ttyS1,ttyS2 -o tty=,args= | tr ' ' -", "ttyS2----/sbin/init")
    says(screen, "stty -F /dev/ttyS1 rows 30 columns 100; sleep 1", "sleep 1")
    says(screen, "ps -t ttyS1,ttyS2 -o tty=,args= | tr -s ' ' =", "ttyS1=-bash\nttyS2=/sbin/init")
    says(screen, "echo $(stty -F /dev/ttyS1 size)-$((1))", "30 100-1")


def test_reboot_and_poweroff_start_it_again(screen: Terminal) -> None:
    says(screen, "sleep 1000 & kill -TERM 1; echo going-$((1))", "going-1")
    says(screen, "clear; ps -C sleep; echo again-$((2))", "again-2")
    says(screen, "kill -USR2 1", "The machine is off. Press Enter to start it again.")
    screen.type("\r")
    says(screen, "clear; echo on-$((3)) $(cat /proc/1/comm)", "on-3 init")
