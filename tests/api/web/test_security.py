"""Attacks on who looks at the dashboard, by links, by other pages, and by what evaluators tell."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa
from dashboard import PATIENCE_MS, Served, Tab, serving
from playwright.sync_api import Browser, expect

from api.auth import Role
from api.settings import Settings
from api.store import Store
from api.store.models import trials

OpenTab = Callable[..., Tab]


def settle(tab: Tab) -> None:
    """Wait until nothing is loading."""
    expect(tab.page.get_by_role("heading", level=1)).to_be_visible()
    for _ in range(2):
        tab.page.wait_for_timeout(150)
        expect(tab.page.locator(".state .busy, [aria-busy=true]")).to_have_count(0)


ATTACKS = (
    "document.body.innerHTML = '<b>'",
    "document.createElement('script').src = 'assets/js/main.js'",
    "document.createElement('iframe').srcdoc = '<b>'",
    "eval('window.__pwned = 1')",
    "new Function('window.__pwned = 1')()",
    "trustedTypes.createPolicy('mine', { createHTML: (text) => text })",
)


def test_text_cannot_become_markup_or_code(open_tab: OpenTab) -> None:
    page = open_tab(role=None).page
    for attack in ATTACKS:
        # Later, since what is evaluated from outside may do more than the page.
        tried = f"() => {{ try {{ {attack}; done('done'); }} catch (e) {{ done(String(e)); }} }}"
        told = page.evaluate(f"() => new Promise((done) => setTimeout({tried}))")
        assert re.search(r"Error: .*(Trusted|Content Security Policy|disallowed)", told), attack
    assert page.evaluate("window.__pwned") is None


def test_nothing_leaves_and_no_link_runs(open_tab: OpenTab) -> None:
    page = open_tab(role=None).page
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    page.evaluate(
        """() => {
          const link = document.body.appendChild(document.createElement('a'));
          link.href = 'javascript:window.__pwned=1';
          link.click();
          document.body.appendChild(Object.assign(document.createElement('img'), { src: 'http://127.0.0.1:9/x' }));
        }"""
    )
    for directive in ("connect-src", "script-src", "img-src"):
        page.wait_for_function("(directive) => __broken.some((one) => one.startsWith(directive))", arg=directive)
    assert page.evaluate("window.__pwned") is None


def test_nobody_frames_it(served: Served, browser: Browser) -> None:
    page = browser.new_page()
    with page.expect_console_message(lambda m: "frame-ancestors" in m.text, timeout=PATIENCE_MS):
        page.set_content(f'<iframe src="{served.url}/"></iframe>')
    page.close()


@pytest.mark.parametrize("token", ["nas_0123456789abcdef_nope", "x"])
def test_a_link_signs_nobody_out(open_tab: OpenTab, token: str) -> None:
    tab = open_tab("#/boards", role="read")
    tab.go(f"#token={token}")
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Searches")
    expect(tab.page.get_by_text("the-read (read)")).to_be_visible()
    assert token not in tab.page.url
    tab.page.reload()
    expect(tab.page.get_by_text("the-read (read)")).to_be_visible()


def test_a_link_signs_nobody_out_where_too_many_were_tried(open_tab: OpenTab, tmp_path: Path) -> None:
    """Then the server does not look at its token at all."""
    with Store.open(Settings(tmp_path / "home")) as store:
        token = store.tokens.create("ada", Role.READ)[1]
    with serving(tmp_path / "home", "--jobs", "0", "--tries", "1") as url:
        tab = open_tab(role=None, url=url)
        tab.page.goto(f"{url}/#token={token}")
        expect(tab.page.get_by_text("ada (read)")).to_be_visible()
        while httpx.get(f"{url}/api/v1/me", headers={"Authorization": "Bearer x"}, timeout=60).status_code != 429:
            pass
        tab.go("#token=nas_0123456789abcdef_nope")
        expect(tab.page.get_by_role("heading", level=1)).to_have_text("Searches")
        expect(tab.page.get_by_text("ada (read)")).to_be_visible()
        tab.page.reload()
        expect(tab.page.get_by_text("ada (read)")).to_be_visible()
        assert tab.page.evaluate("sessionStorage.getItem('lightnas-token')") == token


def test_who_signs_out_is_out_in_every_tab(served: Served, open_tab: OpenTab) -> None:
    first = open_tab(role=None).page
    first.get_by_label("Token").fill(served.tokens["read"])
    first.get_by_label("Keep me signed in").check()
    first.get_by_role("button", name="Sign in").click()
    expect(first.get_by_text("the-read (read)")).to_be_visible()  # only then is the token kept
    second = first.context.new_page()
    second.goto(served.url)
    expect(second.get_by_text("the-read (read)")).to_be_visible()
    second.evaluate("async () => (await import('./assets/js/core/session.js')).expire('nas_of_somebody_else')")
    expect(second.get_by_text("the-read (read)")).to_be_visible()
    first.get_by_role("button", name="Sign out").click()
    expect(second.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert second.evaluate("localStorage.length + sessionStorage.length") == 0


def test_the_token_is_in_no_log_and_no_address(served: Served, open_tab: OpenTab) -> None:
    tab = open_tab("#/jobs")
    seen: list[str] = []
    tab.page.on("request", lambda r: seen.append(r.url + r.headers.get("referer", "")))
    tab.go("#/boards")
    settle(tab)
    secret = served.tokens["admin"].split("_", 2)[2]
    assert seen
    assert secret not in " ".join(seen)
    assert secret not in (served.home.parent / "serve.log").read_text()
    assert tab.page.evaluate("document.cookie") == ""


TRAINING_HISTORIES: list[dict[str, Any]] = [
    {"epochs": 4_000_000_000, "history": [{"epoch": 1, "val_accuracy": 0.5, "loss": 1.7e308}]},
    {"epochs": 1e308, "history": [{"epoch": 1e308, "val_accuracy": 1e308, "loss": -1.7e308}, {"epoch": -1e308}]},
    {"epochs": 10_000_000, "history": [{"epoch": 10_000_000, "val_accuracy": 0.5, "loss": 1e-308}]},
    {
        "epochs": "<b>",
        "history": [{"__proto__": {"polluted": 1}, "constructor": 5, "val_accuracy": 0.5}, None, [1], "x"],
    },
    {"epochs": -5, "history": [{"epoch": 0.5, "val_accuracy": 0.1}], "__proto__": {"polluted": 1}, "x": "y" * 60_000},
]


def test_an_evaluator_cannot_break_the_page_of_its_trial(served: Served, open_tab: OpenTab) -> None:
    """What remote evaluators tell is anybody's: lengths no array has, names of JavaScript's own."""
    sample = served.searches["sample"]
    with Store.open(Settings(served.home)) as store, store.database.write() as c:
        of = (trials.c.search_id == sample, trials.c.state == "complete")
        numbers = list(
            c.execute(sa.select(trials.c.number).where(*of).order_by(trials.c.number.desc()).limit(5)).scalars()
        )
        for number, extras in zip(numbers, TRAINING_HISTORIES, strict=True):
            of_it = (trials.c.search_id == sample, trials.c.number == number)
            c.execute(sa.update(trials).where(*of_it).values(extras=extras, error="e" * 10_000))
    tab = open_tab()
    for number in numbers:
        tab.go(f"#/searches/{sample}/trials/{number}")
        expect(tab.page.get_by_role("heading", level=1)).to_contain_text(f"Trial {number}")
        settle(tab)
        expect(tab.page.locator(".failure")).to_have_count(0)
        assert tab.has_no_sideways_scrolling()
    assert tab.page.evaluate("({}).polluted") is None
    tab.check()


LINKS = (
    "#/searches/1/trials/..%2F..%2F1%2Ftrials%2F3",
    "#/jobs/..%2F..%2Fv1%2Fjobs",
    "#/boards/..%2Fsearches",
    "#/searches/{sample}/trials/3?against=..%2F..%2F..%2Ftokens",
    "#/new?from=..%2Ftokens&space=..%2F..%2Ftokens",
    "#//127.0.0.1:9/x",
    "#javascript:window.__pwned=1",
    "#/searches/{sample}?view=__proto__&x=constructor&trial=__proto__&sort=__proto__&state=constructor",
)


def test_a_link_asks_for_nothing_else(served: Served, open_tab: OpenTab) -> None:
    tab = open_tab("#/jobs")
    asked: list[str] = []
    tab.page.on("request", lambda r: asked.append(r.url))
    known = re.compile(r"/(api/v1/(searches|jobs|boards|tables|spaces|catalogue|events|me)\b|assets/)")
    for place in LINKS:
        tab.go(place.format(**served.searches))
        settle(tab)
        odd = [one for one in asked if not known.search(one) or "/tokens" in one.split("?")[0] or "/../" in one]
        assert odd == [], place
        assert tab.elsewhere == [], place
        assert tab.page.evaluate("[window.__pwned, ({}).polluted]") == [None, None], place
        protocols = tab.page.evaluate("[...document.links].map((link) => link.protocol)")
        assert set(protocols) <= {"http:", "blob:"}, place


def test_lines_to_copy_run_nothing_else(open_tab: OpenTab) -> None:
    """A link fills in the form, and the form shows a line for a shell."""
    data = "folder:x'; touch /tmp/pwned; echo '$(touch y)`touch z`\\"
    tab = open_tab(f"#/new?space=mobilenetv2-small&resolution=16&flops=3M&trials=5&data={quote(data)}")
    line = tab.page.locator(".snippet code")
    expect(line).to_contain_text("touch")
    words = shlex.split(line.inner_text().replace("\\\n", ""))
    assert words[:2] == ["curl", "-H"]
    assert words[-2] == "-d"
    assert json.loads(words[-1])["data"] == data
    assert len(words) == 8
