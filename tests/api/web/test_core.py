"""What all views stand on (js/core), run in the browser it is made for, on a real server."""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from dashboard import PATIENCE_MS, WATCH, Served, Tab
from playwright.sync_api import Browser, Page, expect

from api.settings import Settings
from api.store import Store
from api.store.models import events

OpenTab = Callable[..., Tab]
THIN, WIDE = "\u202f", "\u00a0"


@pytest.fixture(scope="module")
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """Signed in; `core(name)` imports a module."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(WATCH)
    found = context.new_page()
    found.goto(f"{served.url}/#token={served.tokens['read']}")
    found.locator(".shell").wait_for()
    found.evaluate("() => { window.core = (name) => import(`./assets/js/core/${name}.js`); }")
    yield found
    context.close()


def happen(served: Served, kind: str, count: int = 1) -> None:
    """Write events that are nobody's."""
    row = {"kind": kind, "data": {}, "created_at": dt.datetime.now(dt.UTC)}
    with Store.open(Settings(served.home)) as store, store.database.write() as c:
        c.execute(sa.insert(events), [row] * count)


@pytest.mark.parametrize(
    ("call", "given", "told"),
    [
        ("digits", [0], "0"),
        ("digits", [-0.0], "0"),
        ("digits", [999.95], "1000"),
        ("digits", [-0.01234], "−0.0123"),
        ("digits", [-1e-9], "−1e−9"),
        ("digits", [1e308], "1e+308"),
        ("digits", [math.nan], "–"),
        ("digits", [-math.inf], "−∞"),
        ("count", [1234567], f"1{THIN}234{THIN}567"),
        ("count", [-1234.4], f"−1{THIN}234"),
        ("count", [None], "–"),
        ("count", [1e300], "1e+300"),
        ("compact", [0], "0"),
        ("compact", [999], "999"),
        ("compact", [999_499], f"999{WIDE}k"),
        ("compact", [999_950], f"1{WIDE}M"),
        ("compact", [-2.5e6], f"−2.5{WIDE}M"),
        ("compact", [math.inf], "∞"),
        ("compact", [5e15], f"5000{WIDE}T"),
        ("percent", [0.98765], f"98.77{WIDE}%"),
        ("percent", [-0.00001], f"0.00{WIDE}%"),
        ("percent", [1e308], f"∞{WIDE}%"),
        ("bytes", [0], f"0{WIDE}B"),
        ("bytes", [999_990], f"1{WIDE}MB"),
        ("bytes", [1.5e9], f"1.5{WIDE}GB"),
        ("duration", [0], f"0{WIDE}ms"),
        ("duration", [-3], f"0{WIDE}ms"),
        ("duration", [9.96], f"10{WIDE}s"),
        ("duration", [59.6], f"1{WIDE}min"),
        ("duration", [7500], f"2{WIDE}h 5{WIDE}min"),
        ("duration", [1e308], f"1.16e+303{WIDE}d"),
        ("duration", [math.inf], f"∞{WIDE}d"),
        ("metric", ["reward", -0.00001], "0.0000"),
        ("metric", ["reward", 1e308], "1e+308"),
        ("metric", ["latency_ms", None], "–"),
        ("metric", ["constructor", 5], "5"),
        ("signed", [0], "0"),
        ("signed", [-3], "−3"),
        ("signed", [math.nan], "–"),
        ("plural", [1, "trial"], f"1{WIDE}trial"),
        ("plural", [0, "trial"], f"0{WIDE}trials"),
        ("ago", ["never"], "Invalid Date"),
        ("ago", [None], "–"),
    ],
)
def test_numbers_as_people_read_them(page: Page, call: str, given: list[Any], told: str) -> None:
    assert page.evaluate("async ([call, given]) => (await core('format'))[call](...given)", [call, given]) == told


def test_csv_cells(page: Page) -> None:
    text = page.evaluate(
        """async () => (await core('csv')).csvText({
          'a,b': ['x\\ny', '\\n=1', '＝1', '\\t=1', true, null], ['__proto__']: [1e308, -0, undefined, 1e21, 2, NaN],
        })"""
    )
    lines = ['"a,b",__proto__', '"x\ny",1e+308', '"\'\n=1",0', "'＝1,", "'\t=1,1e+21", "true,2", ","]
    assert text == "\r\n".join([*lines, ""])


@pytest.mark.parametrize(
    "path", ["searches/1/trials/../../2", "boards/..", "searches/%2e%2e/me", "//elsewhere/x", "a?b", "a\\..\\b"]
)
def test_no_link_leads_to_another_route(open_tab: OpenTab, path: str) -> None:
    page = open_tab(role=None).page  # signed out: a view would ask for things of its own meanwhile
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url))
    ask = "async (path) => (await import('./assets/js/core/api.js')).get(path).catch((problem) => problem.status)"
    assert page.evaluate(ask, path) == 404
    assert [url for url in asked if "/assets/" not in url] == []


STUB = """async ([answers, method]) => {
  const { get, post } = await core('api');
  const [real, seen] = [window.fetch, []];
  window.fetch = async (url, given) => {
    if (!String(url).endsWith('/stub')) return real(url, given);
    seen.push(given.headers['Idempotency-Key'] ?? null);
    const [status, body, after] = answers.shift();
    if (status === 0) throw new TypeError('Failed to fetch');
    return new Response(body, { status, headers: after === undefined ? {} : { 'Retry-After': String(after) } });
  };
  try {
    const asked = method === 'get' ? get('stub') : post('stub', {});
    const told = await asked.catch(({ status, title }) => ({ status, title }));
    return { told, sent: seen.length, keys: new Set(seen).size };
  } finally {
    window.fetch = real;
  }
}"""


@pytest.mark.parametrize(
    ("method", "answers", "told", "sent"),
    [
        ("get", [[429, "{}", 0.01], [503, "{}", 0.01], [200, "5"]], 5, 3),
        ("get", [[429, '{"title": "Too Many Requests"}', 60]], {"status": 429, "title": "Too Many Requests"}, 1),
        ("get", [[0, ""]], {"status": 0, "title": "No connection"}, 1),
        ("get", [[200, "<html>sign in here</html>"]], {"status": 200, "title": "Not an answer"}, 1),
        ("get", [[502, "<html>"]], {"status": 502, "title": "Error 502"}, 1),
        ("post", [[0, ""], [503, "{}", 0.01], [200, "5"]], 5, 3),
        ("post", [[503, "{}", 0.01]] * 3, {"status": 503, "title": "Error 503"}, 3),
        ("post", [[422, "{}"]], {"status": 422, "title": "Error 422"}, 1),
    ],
)
def test_what_is_sent_again(page: Page, method: str, answers: list[list[Any]], told: Any, sent: int) -> None:
    """With one key, so that it is done once."""
    found = page.evaluate(STUB, [answers, method])
    assert found == {"told": told, "sent": sent, "keys": 1}


def test_fields_of_errors(page: Page) -> None:
    told = page.evaluate(
        """async () => (await core('api')).fieldErrors({ errors: [
          { field: 'body.budgets.latency_ms', message: 'a' }, { field: 'body', message: 'b' }] })"""
    )
    assert told == {"budgets.latency_ms": "a", "": "b"}


def test_addresses_there_and_back(open_tab: OpenTab) -> None:
    page = open_tab("#/nowhere/a%2Fb%3F%25?x=1&__proto__=2&y=a?b").page
    expect(page.get_by_role("heading", level=1)).to_have_text("No such page")
    found = page.evaluate(
        """async () => {
          const { currentRoute, setQuery } = await import('./assets/js/core/router.js');
          const before = currentRoute();
          setQuery({ x: '2', y: null });
          return { parts: before.parts, y: before.query.y, own: Object.keys(before.query), hash: location.hash };
        }"""
    )
    assert found["parts"] == ["nowhere", "a/b?%"]
    assert (found["y"], found["own"]) == ("a", ["x", "__proto__", "y"])
    assert found["hash"] == "#/nowhere/a%2Fb%3F%25?x=2&__proto__=2"
    assert (
        page.evaluate("async () => (await import('./assets/js/core/router.js')).href('/a', { b: '', c: 0 })")
        == "#/a?c=0"
    )


LISTEN = """async () => {
  const { listen } = await import('./assets/js/core/events.js');
  window.heard = [];
  listen({ kinds: ['test.first'] }, () => { throw new Error('a handler that fails'); });
  listen({ kinds: ['test.first', 'test.second'] }, (events) => heard.push(...events.map(({ kind }) => kind)));
}"""
SHOW = """(hidden) => {
  Object.defineProperty(document, 'hidden', { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
}"""


def test_a_hidden_tab_misses_nothing(served: Served, open_tab: OpenTab) -> None:
    """Not even one that has never heard of any event; and a handler that fails keeps nothing from others."""
    page = open_tab("#/boards").page
    state = page.locator(".link-state")
    expect(state).to_have_attribute("data-state", "live")
    page.evaluate(LISTEN)
    page.evaluate(SHOW, True)
    expect(state).to_have_attribute("data-state", "paused")
    happen(served, "test.first")
    page.evaluate(SHOW, False)
    page.wait_for_function("() => heard.includes('test.first')")
    happen(served, "test.second")
    page.wait_for_function("() => heard.includes('test.second')")
    assert page.evaluate("heard") == ["test.first", "test.second"]


def test_after_a_weekend_it_begins_anew(served: Served, open_tab: OpenTab) -> None:
    page = open_tab("#/boards").page
    state = page.locator(".link-state")
    expect(state).to_have_attribute("data-state", "live")
    page.evaluate(LISTEN)
    happen(served, "test.second")
    page.wait_for_function("() => heard.length === 1")
    page.evaluate(SHOW, True)
    expect(state).to_have_attribute("data-state", "paused")
    happen(served, "test.first", 6000)
    page.evaluate("() => { const now = Date.now; Date.now = () => now() + 3600_000; }")
    with page.expect_response(lambda r: "/api/v1/boards" in r.url):  # what was read before is read again
        page.evaluate(SHOW, False)
    expect(state).to_have_attribute("data-state", "live")
    happen(served, "test.second")
    page.wait_for_function("() => heard.length > 1")
    assert page.evaluate("heard") == ["test.second", "test.second"]


def test_answers_come_though_events_come_faster(served: Served, open_tab: OpenTab) -> None:
    page = open_tab("#/boards").page
    expect(page.locator(".link-state")).to_have_attribute("data-state", "live")
    page.evaluate(
        """async () => {
          const { html, render } = await import('./assets/js/core/ui.js');
          const { useGet } = await import('./assets/js/core/query.js');
          const real = window.fetch;
          window.asked = 0;
          window.fetch = async (url, given) => {
            const slow = String(url).endsWith('/me');
            if (slow) {
              window.asked += 1;
              await new Promise((go) => setTimeout(go, 1600));
              given.signal.throwIfAborted();
            }
            return real(url, given);
          };
          const place = document.body.appendChild(document.createElement('div'));
          const One = () => {
            const { data } = useGet('me', {}, { on: { kinds: ['test.first'] } });
            window.got = data?.user;
          };
          render(html`<${One} />`, place);
          window.leave = () => render(null, place);
        }"""
    )
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while page.evaluate("window.got") is None and time.monotonic() < deadline:
        happen(served, "test.first")
        page.wait_for_timeout(200)
    assert page.evaluate("window.got") == "the-admin"
    page.wait_for_function("() => window.asked >= 2")  # what happened meanwhile is not forgotten
    page.evaluate("() => { leave(); window.left = window.asked; }")
    happen(served, "test.first")
    page.wait_for_timeout(1500)
    assert page.evaluate("window.asked === window.left")


def test_a_line_of_any_length(page: Page) -> None:
    drawn = page.evaluate(
        """async () => {
          const [{ html, render }, { Sparkline }] = [await core('ui'), await import('./assets/js/charts/sparkline.js')];
          const place = document.createElement('div');
          const values = Array.from({ length: 300000 }, (_, i) => [i, i % 7]);
          render(html`<${Sparkline} values=${[...values, [300001, 1e308], [300002, null]]} label="x" />`, place);
          return place.querySelector('path').getAttribute('d').length;
        }"""
    )
    assert 1000 < drawn < 20_000
