"""A person at a terminal: types, and looks at a screen of 24 lines by 80 columns."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Sequence
from fcntl import ioctl
from types import TracebackType

import pyte

LINES, COLUMNS = 24, 80
SECONDS = 20.0
QUIET = 0.3
"""A screen on which nothing has changed for that long is taken as finished."""


class _Screen(pyte.Screen):
    """pyte takes a question about the keyboard's mode (CSI ? 4 m) for a colour."""

    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        if not private:
            super().select_graphic_rendition(*attributes)


class Terminal:
    """Runs a command on a pty of its own; a context manager that ends it."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], folder: str = "/") -> None:
        self._screen = _Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        self.status: int | None = None
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            try:
                os.chdir(folder)
                ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
                os.execvpe(command[0], list(command), environment)  # noqa: S606 - the test chooses the command
            finally:
                os._exit(127)
        self.resize(LINES, COLUMNS)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status is None:
            os.kill(self._pid, signal.SIGKILL)
            self.wait()
        os.close(self._master)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def cursor(self) -> tuple[int, int]:
        return self._screen.cursor.y, self._screen.cursor.x

    def resize(self, lines: int, columns: int) -> None:
        ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen.resize(lines, columns)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def until(self, met: Callable[[], bool] | str) -> None:
        """Waits for a text on the screen, or for what `met` says; shows the screen if it does not come."""

        def condition() -> bool:
            return met in self.text if isinstance(met, str) else met()

        end = time.monotonic() + SECONDS
        while not condition():
            left = end - time.monotonic()
            assert left > 0, f"{met!r} did not come:\n{self.text}"
            self._read(min(left, 0.1))

    def settle(self) -> None:
        """Reads until nothing more comes."""
        while self._read(QUIET):
            pass

    def wait(self) -> int:
        """The command's exit code, once it has ended."""
        end = time.monotonic() + SECONDS
        while self.status is None:
            with contextlib.suppress(OSError):
                self._read(0.02)
            done, status = os.waitpid(self._pid, os.WNOHANG)
            if done:
                self.status = os.waitstatus_to_exitcode(status)
                self.settle()  # what it wrote last may not have been read
            assert time.monotonic() < end, f"it has not ended:\n{self.text}"
        return self.status
