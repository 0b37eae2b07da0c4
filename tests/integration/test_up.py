"""`manage.py up` as a process: it serves, stops cleanly, leaves nobody behind and says what is wrong.

Without the starter image, which the browser tests publish.
"""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import Service
from webvm.up.locks import read_status

NO_IMAGE = {"WEBVM_STARTER_RECIPES": ""}
WITHIN_S = 60.0


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path / "data", NO_IMAGE)
    yield made
    made.stop()


def status_of(url: str) -> int:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own server
        return int(answer.status)


def pids(service: Service) -> dict[str, int]:
    """Process ids of `up`, its server and its worker."""
    status = read_status(service.data_dir)
    assert status is not None
    return {name: status[name] for name in ("pid", "server", "worker")}


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(processes: list[int]) -> None:
    deadline = time.monotonic() + 10
    while left := [pid for pid in processes if is_alive(pid)]:
        assert time.monotonic() < deadline, f"still alive: {left}"
        time.sleep(0.02)


def run_to_its_end(service: Service) -> tuple[int, str]:
    """Start another `up`; its exit status and what it printed."""
    before = len(service.output)
    service.launch()
    status = service.wait(WITHIN_S)
    return status, service.output[before:]


def test_it_works_twice(service: Service) -> None:
    """Pages, their files and the sign-in link are there; the second start does nothing again. (How long it
    takes is measured by tests.bench: a busy machine says nothing about it.)"""
    service.start(WITHIN_S)
    assert status_of(service.url + "/") == 200
    assert status_of(service.sign_in_link.partition("#")[0]) == 200
    first_link = service.sign_in_link
    running = pids(service)
    service.stop()
    assert "Stopped" in service.output
    wait_until_gone(list(running.values()))
    assert read_status(service.data_dir) is None

    seen = len(service.output)
    service.start(WITHIN_S)
    done = [line for line in service.output[seen:].splitlines() if "\N{CHECK MARK}" in line]
    assert all("Starting the server" in line for line in done), done
    assert service.sign_in_link != first_link, "nobody has used the first one, so there is a new one"
    assert status_of(service.url + "/") == 200


def test_stopped_by_a_signal_it_ends_with_status_0(service: Service) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        service.start(WITHIN_S)
        running = pids(service)
        for _ in range(2):  # uv and the terminal may both pass on the same Ctrl-C
            os.kill(running["pid"], number)
        assert service.wait(20) == 0
        wait_until_gone(list(running.values()))
        assert "Traceback" not in service.output


def test_killed_it_leaves_nobody_behind(service: Service) -> None:
    service.start(WITHIN_S)
    running = pids(service)
    os.kill(running["pid"], signal.SIGKILL)
    service.wait(10)
    service.start(WITHIN_S)  # at once: it copes with whoever is still on the way out
    wait_until_gone(list(running.values()))
    assert status_of(service.url + "/") == 200


@pytest.mark.parametrize("part", ["server", "worker"])
def test_a_part_that_dies_is_started_again(service: Service, part: str) -> None:
    service.start(WITHIN_S)
    before = pids(service)
    os.kill(before[part], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while (after := pids(service))[part] == before[part]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert is_alive(after[part])
    assert (
        status_of(service.url + "/") == 200
    )  # the socket never closed: the request waits for the new server
    assert f"The {part} was ended by signal 9; starting it again" in service.output


@pytest.mark.parametrize("seconds", [0.5, 1.5, 3.0])
def test_killed_at_any_point_of_the_first_run_it_can_be_run_again(service: Service, seconds: float) -> None:
    process = service.launch()
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    service.wait(10)
    service.start(WITHIN_S)
    assert status_of(service.url + "/") == 200


def test_only_one_on_a_data_directory(service: Service) -> None:
    service.start(WITHIN_S)
    other = Service(service.data_dir, NO_IMAGE)
    other.log = service.log.with_name("other.log")
    status, said = run_to_its_end(other)
    assert status == 1
    assert said.strip() == (
        f"WebVM is already running on {service.data_dir} (process {pids(service)['pid']}, {service.url}): "
        "use that one, stop it, or choose another --data-dir."
    )
    assert status_of(service.url + "/") == 200


def test_a_taken_port(service: Service) -> None:
    with socket.create_server(("127.0.0.1", service.port)):
        status, said = run_to_its_end(service)
    assert status == 1
    assert said.splitlines() == [
        f"Port {service.port} is taken by another program: end it, or choose another --port."
    ]


def test_no_disk_space(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", {**NO_IMAGE, "WEBVM_MIN_FREE_BYTES": str(10**18)})
    status, said = run_to_its_end(service)
    assert status == 1
    assert said.splitlines()[-1].startswith("Not enough disk space for")
    assert "Traceback" not in said


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", NO_IMAGE)
    service.data_dir.write_text("a file")
    status, said = run_to_its_end(service)
    assert (status, "a file is in its place" in said, "Traceback" in said) == (1, True, False)


def test_killed_uv_takes_it_along(service: Service) -> None:
    """`uv run` passes signals on, but it cannot pass on its own SIGKILL."""
    process = service.launch(["uv", "run", "--no-sync", "python"])
    service.wait_ready(WITHIN_S)
    running = pids(service)
    assert running["pid"] != process.pid
    os.kill(process.pid, signal.SIGKILL)
    service.wait(10)
    wait_until_gone(list(running.values()))


def test_stopped_uv_stops_it(service: Service) -> None:
    process = service.launch(["uv", "run", "--no-sync", "python"])
    service.wait_ready(WITHIN_S)
    running = pids(service)
    os.kill(process.pid, signal.SIGTERM)
    assert service.wait(15) == 0
    wait_until_gone(list(running.values()))
