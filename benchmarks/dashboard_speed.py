"""How quick the dashboard is, beside optuna-dashboard on the same trials, in the same run.

    python benchmarks/dashboard_speed.py --folder made > benchmarks/results/dashboard-speed.json
    python benchmarks/dashboard_speed_report.py

10 000 trials (`sample_search.py`) in a store of ours and as a study of two objectives (accuracy up, FLOPs down) in an
SQLite file of Optuna's; `nas serve` and `optuna-dashboard` as users start them; a real Chromium that opens a page of
the one, then of the other, each with a cold cache. Then a hand on the page: pointer moves over the chart, clicks on
points, keys, tabs; undisturbed, and while trials are written (50 events a second for ours, the same trials a second for
the other). `--folder` keeps the two stores, since Optuna takes minutes to write its own; each run works on copies.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import optuna
from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))
from dashboard import LAPTOP, browsing, chromium, serving
from dashboard_stores import EVENTS_PER_S, make, optuna_dashboard, wait_until_idle, write_ours, write_theirs, writing

from api.auth import Role
from api.settings import Settings
from api.store import Store

_PATIENCE_MS = 240_000
_WATCH = """
window.__seen = {first: null, drawn: null, tasks: [], events: {}, moves: [], frames: []};
const seen = window.__seen;
new PerformanceObserver((list) => list.getEntries().forEach((e) => seen.tasks.push([e.startTime, e.duration])))
  .observe({type: "longtask", buffered: true});
new PerformanceObserver((list) => {
  for (const e of list.getEntries()) {
    if (e.interactionId) seen.events[e.interactionId] = Math.max(seen.events[e.interactionId] ?? 0, e.duration);
  }
}).observe({type: "event", durationThreshold: 16, buffered: true});
const after = (then) => requestAnimationFrame(() => {  // a task behind the frame: the frame has been made
  const channel = new MessageChannel();
  channel.port1.onmessage = then;
  channel.port2.postMessage(0);
});
addEventListener("mousemove", ({timeStamp}) => after(() => seen.moves.push(performance.now() - timeStamp)),
  {capture: true, passive: true});
let last = performance.now();
const frame = (now) => {
  seen.frames.push(now - last);
  last = now;
  for (const what of ["first", "drawn"]) {
    if (seen[what] === null && document.body && CHECKS[what]()) {
      seen[what] = -1;
      after(() => { seen[what] = performance.now(); });
    }
  }
  requestAnimationFrame(frame);
};
requestAnimationFrame(frame);
"""
_LOADED = """() => {
  const seen = window.__seen;
  const until = seen.drawn;
  const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
  return {
    first_paint_ms: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    first_data_ms: seen.first,
    drawn_ms: until,
    kilobytes: all.reduce((sum, e) => sum + e.transferSize, 0) / 1024,
    unpacked_kilobytes: all.reduce((sum, e) => sum + e.decodedBodySize, 0) / 1024,
    requests: all.length,
    long_tasks_ms: seen.tasks.filter(([at]) => at < until).reduce((sum, [, ms]) => sum + ms, 0),
  };
}"""


@dataclass(frozen=True)
class Side:
    """One of the two dashboards in the browser.

    Attributes:
        name: `ours` or `theirs`.
        url: of its server.
        token: to sign in with, kept in the browser; None where there is no sign-in.
        listing, search: addresses of the list and of the page with the trials.
        live: that of the trials that more are written to.
        listed: JavaScript, whether the list is there.
        first, drawn: whether data is on the search's page, and whether every trial is.
        chart: selector of what the pointer is moved over.
        keys: pressed one after the other; what does something on the page.
        trials, overview: selectors of the two tabs.
    """

    name: str
    url: str
    token: str | None
    listing: str
    search: str
    live: str
    listed: str
    first: str
    drawn: str
    chart: str
    keys: tuple[str, ...]
    trials: str
    overview: str

    @contextlib.contextmanager
    def open(self, browser: Browser, place: str, first: str, drawn: str) -> Iterator[Page]:
        """A page with an empty cache, when `drawn` has become true."""
        context = browser.new_context(viewport={"width": LAPTOP, "height": 900})
        context.set_default_timeout(_PATIENCE_MS)
        checks = f"const CHECKS = {{first: () => {first}, drawn: () => {drawn}}};"
        kept = f"localStorage.setItem('lightnas-token', {json.dumps(self.token)});" if self.token else ""
        context.add_init_script(f"(() => {{ {kept} {checks} {_WATCH} }})()")
        page = context.new_page()
        page.goto(f"{self.url}{place}", wait_until="commit")
        deadline = time.monotonic() + _PATIENCE_MS / 1000
        while not page.evaluate("window.__seen.first > 0 && window.__seen.drawn > 0"):
            if time.monotonic() > deadline:
                raise SystemExit(
                    f"{self.name}: {place} shows no data: {page.evaluate('document.body.innerText')[:500]}"
                )
            page.wait_for_timeout(100)
        yield page
        context.close()


def ours(url: str, token: str, search: int, live: int, complete: int) -> Side:
    """`nas serve`. Every render of the chart draws what its sentence tells."""
    best = "/%/.test(document.querySelector('[data-testid=best-accuracy]')?.textContent ?? '')"
    told = "document.querySelector('.search-main figure > p')?.textContent.split(' complete')[0].replace(/[^0-9]/g, '')"
    drawn = f"document.querySelector('.search-main canvas.search-layer') && Number({told}) >= {complete}"
    return Side(
        "ours", url, token, "/#/searches", f"/#/searches/{search}", f"/#/searches/{live}",
        "document.querySelector('#main')?.textContent.includes('sample')", best, drawn,
        ".search-main .u-over", ("ArrowRight", "ArrowRight", "ArrowUp"),
        ".tabs >> text=/^Trials/", ".tabs >> text=/^Overview/",
    )  # fmt: skip


def theirs(url: str, complete: int) -> Side:
    """`optuna-dashboard`. Its charts have no keys: Tab walks along the page."""
    drawn = f"document.querySelector('#graph-pareto-front')?.getElementsByClassName('point').length >= {complete}"
    first = "document.body.textContent.includes('Objective Values = [')"
    return Side(
        "theirs", url, None, "/dashboard", "/dashboard/studies/1", "/dashboard/studies/1",
        "document.body.textContent.includes('. sample')", first, drawn, "#graph-pareto-front .nsewdrag",
        ("Tab", "Tab", "Tab"), "a[href='/dashboard/studies/1/trials']", "a[href='/dashboard/studies/1']",
    )  # fmt: skip


# What is measured -----------------------------------------------------------------------------------------------------


def measure_loading(browser: Browser, side: Side) -> dict[str, dict[str, float]]:
    """A cold start on the list, and one on the search's page."""
    told: dict[str, dict[str, float]] = {}
    for what, place, first, drawn in (
        ("list", side.listing, side.listed, side.listed),
        ("search", side.search, side.first, side.drawn),
    ):
        with side.open(browser, place, first, drawn) as page:
            page.wait_for_timeout(500)  # observers are told late
            told[what] = page.evaluate(_LOADED)
    return told


def measure_hand(browser: Browser, side: Side, seconds: float, seed: int) -> dict[str, Any]:
    """Somebody who looks around for some seconds; all durations in ms."""
    rng = random.Random(seed)
    with side.open(browser, side.live, side.first, side.drawn) as page:
        page.wait_for_timeout(3000)  # what a page does after it has been drawn is not the hand's doing
        page.evaluate("Object.assign(window.__seen, {events: {}, moves: [], frames: [], tasks: []})")
        interactions, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            interactions += _look_around(page, side, rng)
        took = time.monotonic() - began
        page.wait_for_timeout(500)
        seen = page.evaluate("window.__seen")
    events = list(seen["events"].values())
    return {
        "seconds": took,
        # Event Timing leaves out what took less than 16 ms: 0 stands for it.
        "interactions": sorted(events + [0] * max(0, interactions - len(events))),
        "moves": sorted(seen["moves"]),
        "long_frames": sorted(ms for ms in seen["frames"] if ms > 50),
        "long_tasks_ms": sum(ms for _, ms in seen["tasks"]),
    }


def _look_around(page: Page, side: Side, rng: random.Random) -> int:
    """Moves over the chart, keys, a click on a point, to the trials and back; how many interactions."""
    page.locator(side.chart).wait_for()
    box = page.locator(side.chart).bounding_box()
    assert box is not None
    at = (0.0, 0.0)
    for _ in range(12):
        at = (box["x"] + box["width"] * rng.uniform(0.2, 0.95), box["y"] + box["height"] * rng.uniform(0.1, 0.8))
        page.mouse.move(*at, steps=3)
        page.wait_for_timeout(40)
    page.mouse.click(*at)
    page.wait_for_timeout(150)
    for key in side.keys:
        page.keyboard.press(key)
        page.wait_for_timeout(60)
    for tab in (side.trials, side.overview):
        page.locator(tab).first.click()
        page.wait_for_timeout(150)
    return 1 + len(side.keys) + 2


def main() -> None:
    """Measure, and print JSON."""
    options = _options()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    program = chromium()
    if program is None:
        raise SystemExit("no chromium here: install it, or name one with LIGHTNAS_CHROMIUM")
    make(options.folder, options.trials)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home, database = folder / "home", folder / "optuna.db"
        shutil.copytree(options.folder / "home", home)
        shutil.copy(options.folder / "optuna.db", database)
        with Store.open(Settings(home)) as store:
            token = store.tokens.create("viewer", Role.READ, expires_at=_tomorrow())[1]
            sample, live = (store.searches.get(name) for name in ("sample", "live"))
        url = stack.enter_context(serving(home, "--jobs", "0", "--rate", "100000"))
        their_url, their_process = stack.enter_context(optuna_dashboard(database))
        browser = stack.enter_context(browsing(program))
        sides = (
            (ours(url, token, sample.id, live.id, sample.complete), write_ours, str(home)),
            (theirs(their_url, sample.complete), write_theirs, str(database)),
        )
        told: dict[str, Any] = {
            "trials": options.trials,
            "versions": {"chromium": browser.version, **{n: version(n) for n in ("optuna", "optuna-dashboard")}},
            "events_per_s": EVENTS_PER_S,
            "hand_s": options.seconds,
            "load_average": [os.getloadavg()[0]],
            "their_answer_s": [],  # of the server alone, with the trials; nothing else is asked of it
            "loading": {"ours": [], "theirs": []},
            "hand": {f"{who}, {what}": [] for what in ("undisturbed", "live") for who in ("ours", "theirs")},
        }
        for _ in range(options.turns):
            told["their_answer_s"].append(_seconds_to_answer(f"{their_url}/api/studies/1?after=0"))
        for turn in range(options.turns):
            for side, _, _ in sides:
                wait_until_idle(their_process)
                loaded = measure_loading(browser, side)
                told["loading"][side.name].append(loaded)
                print(turn, side.name, loaded, file=sys.stderr, flush=True)
            told["load_average"].append(os.getloadavg()[0])
        for turn in range(options.hands):
            for side, write, place in sides:
                for what in ("undisturbed", "live"):
                    wait_until_idle(their_process)
                    with ExitStack() as meanwhile:
                        pace = meanwhile.enter_context(writing(write, place, live.id)) if what == "live" else [0.0]
                        found = measure_hand(browser, side, options.seconds, turn)
                    found["trials_per_s"] = pace[0]
                    told["hand"][f"{side.name}, {what}"].append(found)
                    middle = statistics.median(found["interactions"])
                    print(turn, side.name, what, middle, len(found["interactions"]), file=sys.stderr, flush=True)
            told["load_average"].append(os.getloadavg()[0])
    print(json.dumps(json.loads(json.dumps(told), parse_float=lambda text: round(float(text), 2))))


def _seconds_to_answer(url: str) -> float:
    began = time.monotonic()
    httpx.get(url, timeout=600).raise_for_status()
    return time.monotonic() - began


def _tomorrow() -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(days=1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the two stores are, or are to be made")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=7, help="cold starts of each page")
    parser.add_argument("--hands", type=int, default=3, help="times somebody looks around, of each kind")
    parser.add_argument("--seconds", type=float, default=20.0, help="for which somebody looks around")
    return parser.parse_args()


if __name__ == "__main__":
    main()
