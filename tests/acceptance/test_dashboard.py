"""A newcomer's path through the dashboard: a real server and board, real trainings, a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from dashboard import LAPTOP, PATIENCE_MS, WATCH, Tab, browsing, chromium, serving
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
LONG_MS = 600_000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def tab(home: Path) -> Iterator[Tab]:
    """The address that the first start prints, opened."""
    program = chromium()
    if program is None:
        pytest.skip("the dashboard is NOT TESTED: no chromium here")
    with serving(home) as url, browsing(program) as browser:
        context = browser.new_context(viewport={"width": LAPTOP, "height": 900}, accept_downloads=True)
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(WATCH)
        tab = Tab(context.new_page())
        tab.page.on("pageerror", lambda e: tab.errors.append(str(e)))
        tab.page.on("request", lambda r: None if r.url.startswith((url, "blob:")) else tab.elsewhere.append(r.url))
        tab.page.goto(f"{url}/#token={(home / 'token').read_text().strip()}")
        yield tab


def test_a_newcomers_path(tab: Tab, tmp_path: Path) -> None:
    page = tab.page
    _profile_this_machine(page)
    number = _submit_the_demo(page)
    _watch_it_live(page)
    _open_the_winner(page, number)
    _see_predicted_against_measured(page)
    _take_the_network_home(page, tmp_path)
    _cancel_another_search(page)
    tab.check()


def _profile_this_machine(page: Page) -> None:
    page.get_by_role("link", name="Boards").click()
    page.get_by_text("Register a board").click()
    form = page.locator("form")
    form.get_by_label("Name").fill("here")
    form.get_by_label("Address").fill("local")
    form.get_by_role("button", name="Register").click()
    page.wait_for_url(re.compile("#/boards/here"))
    page.get_by_role("button", name="Profile a space").click()
    form = page.get_by_role("form", name="Profile a space on here")
    form.get_by_label("Space").select_option("mobilenetv2-small")
    form.get_by_label("Resolution").fill("16")
    form.get_by_label("Channels").fill("1")
    form.get_by_label("Classes").fill("10")
    form.get_by_role("button", name="Profile", exact=True).click()
    expect(page.get_by_test_id("covers-mobilenetv2-small")).to_contain_text("394 of 394", timeout=LONG_MS)


def _submit_the_demo(page: Page) -> int:
    page.get_by_role("link", name="New search").click()
    page.get_by_role("button", name="Fill in the demo").click()
    expect(page.get_by_test_id("preview")).to_contain_text("of the space")
    expect(page.get_by_test_id("estimate")).to_be_visible()
    page.get_by_label("Trials").fill("6")
    page.get_by_role("button", name="Submit the search").click()
    page.wait_for_url(re.compile(r"#/searches/\d+"))
    return int(page.url.rpartition("/")[2].partition("?")[0])


def _watch_it_live(page: Page) -> None:
    """Without a reload."""
    page.evaluate("window.__same = true")
    expect(page.get_by_text("running").first).to_be_visible(timeout=LONG_MS)
    expect(page.get_by_text(re.compile(r"6\s*of\s*6")).first).to_be_visible(timeout=LONG_MS)
    expect(page.get_by_test_id("search-head").locator(".badge.complete")).to_be_visible(timeout=LONG_MS)
    assert page.evaluate("window.__same")


def _open_the_winner(page: Page, number: int) -> None:
    page.get_by_role("link", name=re.compile("Best network: trial")).click()
    page.wait_for_url(re.compile(rf"#/searches/{number}/trials/\d+"))
    expect(page.get_by_test_id("network-drawing").first).to_be_visible()
    expect(page.get_by_test_id("flame").first).to_be_visible()


def _see_predicted_against_measured(page: Page) -> None:
    """Trainings decide whether the surrogate recommends the best trial, or one that is then measured before it."""
    measured = page.get_by_test_id("measured")
    measured.get_by_role("button", name=re.compile(r"^Measure (the best \d+ )?on here$")).click()
    told = re.compile(r"Measured \S+\sms on here, predicted \S+\sms: (predicted \S+\s% too (fast|slow)|no error)\.")
    expect(measured).to_contain_text(told, timeout=LONG_MS)


def _take_the_network_home(page: Page, folder: Path) -> None:
    with page.expect_download(timeout=LONG_MS) as started:
        page.get_by_role("button", name="Download ONNX, untrained").click()
    started.value.save_as(folder / "network.onnx")
    onnx.checker.check_model(onnx.load(folder / "network.onnx"))


def _cancel_another_search(page: Page) -> None:
    page.get_by_role("link", name="New search").click()
    page.get_by_role("button", name="Fill in the demo").click()
    expect(page.get_by_test_id("preview")).to_contain_text("of the space")
    page.get_by_label("Trials").fill("500")
    page.get_by_role("button", name="Submit the search").click()
    page.wait_for_url(re.compile(r"#/searches/\d+"))
    page.get_by_role("button", name=re.compile("^Cancel")).click()
    page.get_by_role("button", name="Cancel the search").click()
    expect(page.locator(".badge.cancelled").first).to_be_visible(timeout=LONG_MS)
