"""What `manage.py up` does before and around Django: arguments, signals, errors as sentences."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from webvm.up.errors import StopRequested, UpError, sentence_for
from webvm.up.options import check_data_dir, read_options, take_arguments

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_WISH_S = 1.0


def run_up(argv: Sequence[str]) -> int:
    """Carry out `manage.py up …`; answers the exit status."""
    listen_for_stop()
    stop_with_uv()
    try:
        take_arguments(argv)
        read_options()
        check_data_dir(Path(os.environ.get("WEBVM_DATA_DIR") or Path(argv[0]).resolve().parent / "data"))
        from django.core.management import execute_from_command_line

        execute_from_command_line(list(argv))
    except StopRequested:
        return 0
    except UpError as error:
        return refuse(str(error))
    except OSError as error:
        return refuse(sentence_for(error))
    return 0


def refuse(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 1


def listen_for_stop() -> None:
    """The first signal ends `up` in order; one more, a second later or more, at once (see leash.py)."""
    first: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise StopRequested
        # The terminal, uv and a service manager may each pass on one and the same wish.
        if time.monotonic() - first[0] > SAME_WISH_S:
            os._exit(1)

    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, stop)


def stop_with_uv() -> None:
    """When `uv run` started us and is killed, stop as well: uv passes signals on, but not its SIGKILL."""
    parent = os.getppid()
    if "UV_RUN_RECURSION_DEPTH" not in os.environ or not is_uv(parent):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def is_uv(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == "uv"
    except OSError:
        return sys.platform == "darwin"  # without /proc: the variable alone says so
