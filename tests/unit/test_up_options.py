"""The arguments of `up` and the sentences it refuses with."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from webvm.up import service
from webvm.up.errors import UpError, sentence_for
from webvm.up.options import Options, check_data_dir, read_options, take_arguments


def test_arguments_become_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"WEBVM_PORT": "1", "WEBVM_HOST": "kept"}
    take_arguments(["manage.py", "up", "--port=8123", "--data-dir", "here", "--verbosity", "2"], environ)
    assert environ == {"WEBVM_PORT": "8123", "WEBVM_HOST": "kept", "WEBVM_DATA_DIR": str(tmp_path / "here")}


def test_other_commands_keep_their_arguments() -> None:
    environ: dict[str, str] = {}
    take_arguments(["manage.py", "runserver", "--port", "1", "--data-dir", "x"], environ)
    take_arguments(["manage.py"], environ)
    assert environ == {}


def test_defaults() -> None:
    assert read_options({}) == Options("127.0.0.1", 8000)
    assert read_options({"WEBVM_PORT": "", "WEBVM_HOST": ""}) == Options("127.0.0.1", 8000)


@pytest.mark.parametrize("text", ["http", "-1", "65536", "80 80", "٨٠", "8000.0"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(UpError, match="is not a port"):
        read_options({"WEBVM_PORT": text})


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "localhost"),
        ("::", "localhost"),
        ("::1", "[::1]"),
        ("box", "box"),
    ],
)
def test_the_address_for_a_browser(host: str, shown: str) -> None:
    assert Options(host, 1).url_host == shown


def test_a_data_directory_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    check_data_dir(folder)
    check_data_dir(folder)
    assert list(folder.iterdir()) == []


def test_a_file_in_the_place_of_the_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UpError, match="a file is in its place"):
            check_data_dir(folder)


def test_no_space_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        UpError, match=r"Not enough disk space for .*: .* are free, 1000000\.00 GB are needed\."
    ):
        service.check_free_space(tmp_path, needed=10**15)
    service.check_free_space(tmp_path, needed=1)
    assert "disk is full" in sentence_for(OSError(errno.ENOSPC, "No space left on device", "/some/file"))


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(UpError, match=f"Port {port} is taken"),
            service.listen(Options("127.0.0.1", port)),
        ):
            pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "not an address"])
def test_an_address_of_another_machine(host: str) -> None:
    with pytest.raises(UpError, match="give another --host"), service.listen(Options(host, 0)):
        pass


def test_any_free_port() -> None:
    with service.listen(Options("127.0.0.1", 0)) as listener:
        assert listener.getsockname()[1] > 0
