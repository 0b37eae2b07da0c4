"""Fixtures of the browser tests: the real service, a real browser, fresh profiles."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.support.browser import Profiles, ensure_browser, evidence_folder, launch
from tests.support.killable import KillableBrowser
from tests.support.service import Service

__all__ = ["KillableBrowser", "Profiles", "Service"]
FAILED = pytest.StashKey[bool]()
# Of the machines `pc` and `linux`.
STARTERS = ("starter", "starter-64")


@pytest.fixture(scope="session")
def running_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One `manage.py up` for all browser tests; its first start publishes the starter images."""
    service = Service(tmp_path_factory.mktemp("service") / "data")
    service.start()
    for slug in STARTERS:
        service.wait_for_image(slug)
    yield service
    service.stop()


@pytest.fixture
def service(running_service: Service, request: pytest.FixtureRequest) -> Iterator[Service]:
    """The service, running, even when the test before killed it; its logs are kept when the test fails."""
    if not running_service.is_running:
        running_service.start()
    yield running_service
    if request.node.stash.get(FAILED, False):
        evidence_folder(request.node.name).joinpath("service.log").write_text(running_service.explain())


@pytest.fixture(scope="session")
def driver() -> Iterator[Playwright]:
    """What steers the browsers. There can be only one of it at a time."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(driver: Playwright) -> Iterator[Browser]:
    """The browser process that all profiles share."""
    browser = launch(driver)
    yield browser
    browser.close()


@pytest.fixture
def own_browser(
    driver: Playwright, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[KillableBrowser]:
    """A browser with a profile of its own that outlives it being killed."""
    made = KillableBrowser(driver.chromium, ensure_browser(driver), tmp_path / "profile")
    yield made
    if request.node.stash.get(FAILED, False):
        made.keep_evidence(evidence_folder(request.node.name))
    made.kill()


@pytest.fixture
def profiles(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Profiles]:
    """Makes fresh browser profiles; when the test fails, screenshots and the consoles go to test-results/."""
    made = Profiles(browser)
    yield made
    if request.node.stash.get(FAILED, False):
        made.keep_evidence(request.node.name)
    made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report
