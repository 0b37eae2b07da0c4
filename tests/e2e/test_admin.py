"""The first admin: in by the printed link, and what publishing the starter image left to look at."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.e2e.conftest import Profiles, Service


def test_the_first_admin(service: Service, profiles: Profiles) -> None:
    """`up` prints a one-time link; a failed publish of the admin's says at which step and why, live."""
    page = profiles.new().new_page()
    page.goto(service.sign_in_link)
    page.get_by_role("main").get_by_role("button").first.click()
    page.wait_for_url("**/machines/**")

    page.goto(f"{service.url}/admin-images/")
    page.get_by_role("link", name="starter").first.click()
    expect(page.get_by_role("status").first).to_contain_text("Published")
    expect(page.locator("[data-job=log]")).to_contain_text("Storing the chunks")

    page.goto(f"{service.url}/admin-images/publish/")
    recipe = page.locator("textarea")
    text = recipe.input_value()
    renamed, count = re.subn(r'^slug = "starter(-64)?"$', 'slug = "broken"', text, flags=re.MULTILINE)
    assert count == 1, "the form starts from the starter's recipe"
    broken = renamed.replace('"vim",', '"vim", "no-such-package",')
    recipe.fill(broken)
    page.locator("main form .button-primary").first.click()
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text(re.compile("no-such-package"), timeout=90_000)
    expect(page.get_by_role("status").first).to_contain_text("Failed")
    page.goto(f"{service.url}/images/")
    expect(page.get_by_role("main")).not_to_contain_text("broken")

    # The link is used up.
    other = profiles.new().new_page()
    other.goto(service.sign_in_link)
    other.get_by_role("main").get_by_role("button").first.click()
    expect(other).not_to_have_url(re.compile("/machines/"))
