"""Runs a command that cannot outlive `up`.

    python -I -S leash.py READ_FD HELD_FD COMMAND…

The process becomes COMMAND (same process id, same exit status); a small forked watcher in its process group
waits for the end of the pipe READ_FD, whose other end only `up` holds, and then kills the group. So nothing
is left behind, not even when `up` gets SIGKILL. HELD_FD is the locked file that tells the next `up` when all
is gone. Works on every POSIX system; PR_SET_PDEATHSIG is Linux only and forgets grandchildren.
"""

import os
import signal
import sys
from contextlib import suppress


def watch(lifeline: int, held: int) -> None:
    """Wait for the end of the pipe; then end the whole group, this process included."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    quiet = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(quiet, standard)  # a reader of the command's output must not wait for the watcher
    inherited = [int(name) for name in os.listdir("/dev/fd") if int(name) > 2]
    for descriptor in inherited:
        if descriptor not in (lifeline, held):
            # A listening socket, above all: the port must be free when the server is gone.
            with suppress(OSError):  # the descriptor that listed /dev/fd
                os.close(descriptor)
    while os.read(lifeline, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def main(arguments: list[str]) -> None:
    lifeline, held = int(arguments[0]), int(arguments[1])
    if os.fork() == 0:
        try:
            watch(lifeline, held)
        finally:
            os._exit(1)
    os.set_inheritable(lifeline, False)
    os.execvp(arguments[2], arguments[2:])  # noqa: S606 - the whole purpose


if __name__ == "__main__":
    main(sys.argv[1:])
