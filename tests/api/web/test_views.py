"""Every view at its widths, light and dark: no error, no breach, no finding of axe-core; hostile text stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from axe_playwright_python.sync_playwright import Axe
from dashboard import LAPTOP, PHONE, WIDE, Served, Tab
from playwright.sync_api import expect

from api.settings import Settings
from api.store import Store
from api.store.events import note
from api.store.models import trials

OpenTab = Callable[..., Tab]
VIEWS = {
    "searches": "#/searches",
    "search": "#/searches/{sample}",
    "trials": "#/searches/{sample}?view=table",
    "search-jobs": "#/searches/{sample}?view=jobs",
    "log": "#/searches/{sample}?view=log",
    "spec": "#/searches/{sample}?view=spec",
    "network": "#/searches/{sample}/trials/12",
    "difference": "#/searches/{sample}/trials/12?against=mobilenetv2",
    "new": "#/new?demo=1",
    "boards": "#/boards",
    "board": "#/boards/here",
    "jobs": "#/jobs",
}


def look(served: Served, open_tab: OpenTab, view: str, **how: Any) -> Tab:
    """A view, when all it asks for is there."""
    tab = open_tab(VIEWS[view].format(**served.searches), **how)
    settle(tab)
    return tab


def settle(tab: Tab) -> None:
    """Wait until nothing is loading."""
    expect(tab.page.get_by_role("heading", level=1)).to_be_visible()
    for _ in range(3):
        tab.page.wait_for_timeout(200)
        expect(tab.page.locator(".state .busy, [aria-busy=true]")).to_have_count(0)


def findings(tab: Tab) -> list[str]:
    """What axe-core finds serious or critical."""
    found = Axe().run(tab.page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node.get('failureSummary', '')[:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("view", ["searches", "search", "trials", "network", "new", "board"])
def test_a_view(served: Served, open_tab: OpenTab, view: str) -> None:
    tab = look(served, open_tab, view)
    tab.check()
    assert tab.has_no_sideways_scrolling()
    expect(tab.page.get_by_role("alert")).to_have_count(0)
    assert findings(tab) == []


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, LAPTOP, WIDE])
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_everywhere(served: Served, open_tab: OpenTab, view: str, width: int, dark: bool) -> None:
    tab = look(served, open_tab, view, width=width, dark=dark)
    tab.check()
    assert tab.has_no_sideways_scrolling()
    expect(tab.page.get_by_role("alert")).to_have_count(0)
    assert findings(tab) == []


@pytest.mark.parametrize("view", ["searches", "search", "network", "new", "board"])
def test_readers_are_offered_nothing_they_may_not_do(served: Served, open_tab: OpenTab, view: str) -> None:
    tab = look(served, open_tab, view, role="read")
    tab.check()
    for name in ("Pause", "Cancel", "Delete", "Retry failed trials", "Forget"):
        expect(tab.page.get_by_role("button", name=name, exact=True)).to_have_count(0)


def test_a_profile_that_ends_tells_its_pictures(served: Served, open_tab: OpenTab) -> None:
    """Its table is stored a moment before the job is complete: whoever looks in between is told afterwards."""
    jobs: list[dict[str, Any]] = []
    tab = open_tab()
    complete = re.compile(r"/api/v1/jobs\?(?=.*kind=profile)(?=.*state=complete)")
    tab.page.route(complete, lambda route: route.fulfill(json={"items": jobs, "next": None}))
    tab.go("#/boards/here")
    covers = tab.page.get_by_test_id("covers-mobilenetv2-small")
    expect(covers).to_contain_text("its usual pictures")
    jobs.append({"spec": {"space": "mobilenetv2-small", "resolution": [16], "channels": 1, "classes": 10}})
    with Store.open(Settings(served.home)) as store, store.database.write() as c:
        note(c, "job.state", data={"state": "complete"})  # nobody's; no row of a real job is left to other tests
    expect(covers).to_contain_text("16 px, grey, 10 classes")


HOSTILE = '<img src=x onerror="window.__pwned=1"><script>window.__pwned=1</script>\'"`${window.__pwned=1}'


@pytest.mark.slow
def test_hostile_text_is_text(served: Served, open_tab: OpenTab) -> None:
    """In all that others can name freely: errors, histories, pictures' folders, facts, notes, what events say."""
    sample = served.searches["sample"]
    (served.home / "data" / HOSTILE.replace("/", "")).mkdir(parents=True, exist_ok=True)
    (served.home / "data" / "train" / "<b>cat").mkdir(parents=True, exist_ok=True)
    with Store.open(Settings(served.home)) as store, store.database.write() as c:
        number = c.execute(
            sa.select(trials.c.number).where(trials.c.search_id == sample, trials.c.state == "complete").limit(1)
        ).scalar_one()
        c.execute(
            sa.update(trials)
            .where(trials.c.search_id == sample, trials.c.number == number)
            .values(
                error=HOSTILE, extras={HOSTILE: HOSTILE, "history": [{"step": 1, HOSTILE: 0.5, "val_accuracy": 0.4}]}
            )
        )
        for kind in ("trial.step", "search.state", HOSTILE[:32]):
            data = {"state": HOSTILE, "error": HOSTILE, HOSTILE: HOSTILE}
            note(c, kind, search_id=sample, trial=int(number), data=data)
    tab = open_tab()
    tab.page.on("dialog", lambda dialog: tab.errors.append(f"dialog {dialog.message}"))
    places = [place.format(**served.searches) for place in VIEWS.values()]
    for place in [
        *places,
        f"#/searches/{sample}/trials/{number}",
        f"#/searches?name={HOSTILE}",
        f"#/{HOSTILE}",
        "#/new?name=" + HOSTILE,
    ]:
        tab.go(place)
        settle(tab)
        assert tab.page.evaluate("window.__pwned") is None
        assert tab.page.locator('img[src="x"], script:not([src])').count() == 0
    tab.errors.clear()  # a search by such a name is refused, which the console tells
    assert tab.page.evaluate("window.__broken") == []


def test_csv_is_no_formula(open_tab: OpenTab) -> None:
    tab = open_tab()
    columns = {"name": ["=1+1", "@x", "-2", "plain", 'a "b"', "+1"], "x": [-1.5, None, float("nan"), 0, 1e-9, 2]}
    module = "async (columns) => (await import('./assets/js/core/csv.js')).csvText(columns)"
    text = tab.page.evaluate(module, json.loads(json.dumps(columns).replace("NaN", "null")))
    assert text.split("\r\n") == ["name,x", "'=1+1,-1.5", "'@x,", "'-2,", "plain,0", '"a ""b""",1e-9', "'+1,2", ""]
