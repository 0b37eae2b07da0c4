"""The arguments of `up`, read before Django is.

The settings read `WEBVM_DATA_DIR` when they are imported, which is before a Django command sees its
arguments: so `take_arguments` turns the arguments into environment variables of the same meaning first.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from webvm.up.errors import UpError, sentence_for

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
VARIABLES = {"host": "WEBVM_HOST", "port": "WEBVM_PORT", "data_dir": "WEBVM_DATA_DIR"}


@dataclass(frozen=True)
class Options:
    """Where to listen: an address or name, and a TCP port (0: any free one)."""

    host: str
    port: int

    @property
    def url_host(self) -> str:
        """The name that a browser on this machine reaches the service by."""
        if self.host in {"", "0.0.0.0", "::"}:  # noqa: S104 - asked for by whoever starts the service
            return "localhost"
        return f"[{self.host}]" if ":" in self.host else self.host


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help=f"address to listen on (WEBVM_HOST; {DEFAULT_HOST})")
    parser.add_argument("--port", help=f"TCP port, 0 for any free one (WEBVM_PORT; {DEFAULT_PORT})")
    parser.add_argument("--data-dir", help="folder for everything the service keeps (WEBVM_DATA_DIR; ./data)")


def take_arguments(argv: Sequence[str], environ: MutableMapping[str, str] = os.environ) -> None:
    """Set the `WEBVM_…` variables for the arguments of `manage.py up …`; other commands are left alone."""
    if list(argv[1:2]) != ["up"]:
        return
    parser = argparse.ArgumentParser(prog=f"{Path(argv[0]).name} up", add_help=False, allow_abbrev=False)
    add_arguments(parser)
    known, _ = parser.parse_known_args(list(argv[2:]))
    for name, variable in VARIABLES.items():
        value = getattr(known, name)
        if value is not None:
            environ[variable] = str(Path(value).expanduser().resolve()) if name == "data_dir" else value


def check_data_dir(data_dir: Path) -> None:
    """Make the data directory and see that it can be written, before the settings do; raises `UpError`."""
    probe = data_dir / f".probe.{os.getpid()}"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"probe")
        probe.unlink()
    except (NotADirectoryError, FileExistsError) as error:
        raise UpError(f"The data directory {data_dir} cannot be a folder: a file is in its place.") from error
    except OSError as error:
        raise UpError(sentence_for(error)) from error


def read_options(environ: MutableMapping[str, str] = os.environ) -> Options:
    """The options from the environment; raises `UpError` for a port that is none."""
    text = environ.get("WEBVM_PORT") or str(DEFAULT_PORT)
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise UpError(f"{text!r} is not a port: give --port (or WEBVM_PORT) a number from 0 to 65535.")
    return Options(host=environ.get("WEBVM_HOST") or DEFAULT_HOST, port=int(text))
