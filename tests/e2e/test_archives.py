"""A machine taken away as one file, deleted, and brought back from it, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from tests.e2e.conftest import Profiles, Service
from tests.e2e.steps import Console, count_of, csrf_headers, eventually, new_email, sign_up, start_machine
from tests.e2e.test_main_line import COUNTER


def test_a_machine_goes_through_a_file(service: Service, profiles: Profiles, tmp_path: Path) -> None:
    page = profiles.new().new_page()
    sign_up(page, service.url, new_email("mover"))
    console = start_machine(page, service.url)
    console.send(COUNTER + "\r")
    eventually(lambda: count_of(console) >= 2, what="the counter starts")
    console.run("echo 'in the archive' > /root/note; sync")
    console.save("before the move")
    at_save = count_of(console)
    vm_id = console.vm_id

    page.goto(f"{service.url}/vms/{vm_id}/history/")
    page.get_by_label("More for before the move").click()
    with page.expect_download() as started:
        page.get_by_role("link", name="Download this machine").click()
    archive = tmp_path / started.value.suggested_filename
    assert archive.name.endswith(".webvm.tar.zst")
    started.value.save_as(archive)
    answer = page.request.delete(f"{service.url}/api/v1/vms/{vm_id}", headers=csrf_headers(page))
    assert answer.ok, answer.text()

    page.goto(f"{service.url}/machines/")
    page.get_by_role("link", name="Import").click()
    page.get_by_label("Archive").set_input_files(archive)
    page.get_by_label("Name").fill("<b>Moved</b>")
    page.get_by_role("button", name="Import").click()
    opening = page.get_by_role("link", name="Open it")
    expect(opening).to_be_visible(timeout=120_000)
    opening.click()
    page.wait_for_url(re.compile(r"/vms/[0-9a-f-]{36}/"))
    moved = Console(page)
    assert moved.vm_id != vm_id
    moved.wait_running()
    assert "in the archive" in moved.run("cat /root/note")
    start = count_of(moved)
    assert start <= at_save + 30, "the counter goes on from the saved instant"
    eventually(lambda: count_of(moved) > start, what="the counter goes on")
    page.goto(f"{service.url}/machines/")
    expect(page.get_by_text("<b>Moved</b>")).to_be_visible()


def test_a_file_that_is_no_archive_is_refused_with_a_sentence(
    service: Service, profiles: Profiles, tmp_path: Path
) -> None:
    wrong = tmp_path / "holiday.webvm.tar.zst"
    wrong.write_bytes(b"\xff\xd8 a picture" * 1000)
    page = profiles.new().new_page()
    sign_up(page, service.url, new_email("wrong"))
    page.goto(f"{service.url}/machines/import/")
    page.get_by_label("Archive").set_input_files(wrong)
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("alert")).to_have_text(
        "This file is not an archive of a machine: it is not compressed with zstd.", timeout=30_000
    )
    expect(page.get_by_role("button", name="Import")).to_be_enabled()
    page.goto(f"{service.url}/machines/")
    expect(page.get_by_text("No machines yet")).to_be_visible()
