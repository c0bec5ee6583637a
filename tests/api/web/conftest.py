"""Searches to look at, a server that has them, and a browser that looks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

import pytest
from dashboard import (
    LAPTOP,
    PATIENCE_MS,
    PHONE,
    ROOT,
    WATCH,
    Served,
    Tab,
    browsing,
    chromium,
    serving,
)
from local import load_script
from playwright.sync_api import Browser, BrowserContext
from tables import make_up_table

from api.auth import Role
from api.settings import Settings
from api.store import Store
from nas.spaces.recipe import SpaceSpec

OpenTab = Callable[..., Tab]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a board, a table, and a search `sample` of 200 trials; for tests that change nothing of it."""
    home = tmp_path_factory.mktemp("dashboard") / "home"
    served = Served("", {}, home)
    with Store.open(Settings(home)) as store:
        for role in Role:
            until = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
            served.tokens[role.value] = store.tokens.create(f"the-{role.value}", role, expires_at=until)[1]
        space = SpaceSpec.of("mobilenetv2-small", resolution=(16,), channels=1, classes=10).build()
        store.tables.add(make_up_table(space, residuals=tuple(0.01 * (i % 7 - 3) for i in range(24))))
        served.searches["sample"] = load_script(ROOT / "benchmarks" / "sample_search.py").fill(store, "sample", 200)
    with serving(home, "--rate", "100000", "--tries", "100000") as served.url:
        served.ask("POST", "boards", {"name": "here", "address": "local"})
        yield served


@pytest.fixture(scope="module")  # not longer: see `browsing`
def browser() -> Iterator[Browser]:
    """A real Chromium."""
    program = chromium()
    if program is None:
        pytest.skip("the dashboard is NOT TESTED: no chromium here")
    with browsing(program) as found:
        yield found


@pytest.fixture
def open_tab(browser: Browser, served: Served) -> Iterator[OpenTab]:
    """Opens a signed-in page: open_tab("#/boards", width=390, dark=True, role="read")."""
    contexts: list[BrowserContext] = []

    def open_one(
        place: str = "#/searches", *, width: int = LAPTOP, dark: bool = False, role: str | None = "admin", url: str = ""
    ) -> Tab:
        context = browser.new_context(
            viewport={"width": width, "height": 844 if width == PHONE else 900},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            accept_downloads=True,
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(WATCH)
        base = url or served.url
        tab = Tab(context.new_page())
        tab.page.on("console", lambda m: tab.errors.append(m.text) if m.type == "error" else None)
        tab.page.on("pageerror", lambda e: tab.errors.append(str(e)))
        tab.page.on(
            "request", lambda r: None if r.url.startswith((base, "blob:", "data:")) else tab.elsewhere.append(r.url)
        )
        if role is None:
            tab.page.goto(f"{base}/")
            return tab
        tab.page.goto(f"{base}/#token={served.tokens[role]}")
        tab.page.locator(".shell").wait_for()
        tab.go(place)
        return tab

    yield open_one
    for context in contexts:
        context.close()
