"""Writes docs/dashboard-speed.md from benchmarks/results/dashboard-speed.json.

python benchmarks/dashboard_speed.py --folder made > benchmarks/results/dashboard-speed.json
python benchmarks/dashboard_speed_report.py
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
Rows = list[dict[str, Any]]
_LOADING = {
    "first contentful paint": ("first_paint_ms", " ms"),
    "first data": ("first_data_ms", " ms"),
    "every trial drawn": ("drawn_ms", " ms"),
    "sent by the server": ("kilobytes", " KB"),
    "requests": ("requests", ""),
    "long tasks until then, together": ("long_tasks_ms", " ms"),
}
_ONLY_SEARCH = {"every trial drawn"}
_TEXT = """# The dashboard's speed, beside optuna-dashboard

Written by `benchmarks/dashboard_speed_report.py` from `benchmarks/results/dashboard-speed.json`; the docstring of
`benchmarks/dashboard_speed.py` tells how that is made. Ours and optuna-dashboard {dashboard} (Optuna {optuna}) on the
same {trials} trials, in one run, taking turns; Chromium {chromium} without a window, 1280 × 900; both servers on
loopback, SQLite below both. Measured on a virtual machine of two hardware threads of one core, which browser, servers
and writers share (load average meanwhile: {load}).

## A cold start

Medians of {turns} starts, each in a browser with nothing kept; least to most in brackets. The ratio is theirs / ours.

{loading}

"First data" on the search's page: its best accuracy (ours), the first trial's values (theirs). "Every trial drawn": all
{trials} trials are in the first chart, accuracy against FLOPs in both, and the frame with them has been made.

Where theirs spends it: its server alone, asked for these trials by one client only, time after time, answers after
{answer:.1f} s (median of {turns}; {answers}: it keeps trials for ten seconds). The page asks anew while it waits, so a
busy machine slows it more than in proportion. Before each start its server has ended what earlier pages asked.

## A hand on the page

Somebody looks around for {seconds:.0f} s, {hands} times each: pointer moves over the chart, a click on a point, three
keys, to the table of trials and back, and again. Undisturbed, and live, while another process writes trials. The
interaction delay is that of the Event Timing API, from the key or click to the frame that answers it; it does not tell
of what took less than 16 ms. Where there are few interactions the 95th percentile is nearly the worst. The delay of a
move is from the event to the end of the next frame's work.

{hand}

## What is not alike

- Ours is told each event ({events} a second asked for: a start, three steps and an end per trial) by a stream and draws
  each trial. optuna-dashboard asks for news now and then (its default, "Live Update"); a trial is written to it once,
  complete, as many a second. In between it has nothing to do, and what it shows is old.
- A click on a point selects the trial in ours, and opens the table of trials in theirs. Ours has keys that walk along
  the points (arrows); theirs has none on charts, so Tab is pressed, which moves the focus.
- Theirs draws two charts with all trials as SVG on this page; ours draws on canvas. Its server sends each trial with
  all its parameters; ours sends columns of numbers, and a trial's network when it is looked at.
- Ours asks first who is there (a token, kept in the browser); theirs has no sign-in.
- What is painted first: "NOW LOADING" in theirs, which is in its HTML; "lightnas is loading" in ours, once its style
  sheet is there.
- A slow page is interacted with less: the number of interactions says how far the hand came.
"""


def main() -> None:
    """Write the page."""
    told = json.loads((ROOT / "benchmarks" / "results" / "dashboard-speed.json").read_text())
    text = _TEXT.format(
        trials=f"{told['trials']:,}".replace(",", " "),
        chromium=told["versions"]["chromium"],
        optuna=told["versions"]["optuna"],
        dashboard=told["versions"]["optuna-dashboard"],
        load=_spread(told["load_average"]),
        turns=len(told["loading"]["ours"]),
        hands=len(told["hand"]["ours, live"]),
        seconds=told["hand_s"],
        events=told["events_per_s"],
        answer=statistics.median(told["their_answer_s"]),
        answers=_spread(told["their_answer_s"]),
        loading=_loading(told["loading"]),
        hand=_hand(told["hand"]),
    )
    (ROOT / "docs" / "dashboard-speed.md").write_text(text)


def _loading(loading: dict[str, Rows]) -> str:
    lines = ["| page | | ours | optuna-dashboard | ratio |", "|---|---|---|---|---|"]
    for page, title in (("list", "list of searches"), ("search", "the search")):
        for name, (key, unit) in _LOADING.items():
            if page == "list" and name in _ONLY_SEARCH:
                continue
            values = {who: [row[page][key] for row in rows] for who, rows in loading.items()}
            middle = {who: statistics.median(found) for who, found in values.items()}
            ratio = f"{_ratio(middle['theirs'] / middle['ours'])}" if middle["ours"] else ""
            cells = [f"{_grouped(middle[who])}{unit} ({_spread(values[who])})" for who in ("ours", "theirs")]
            lines.append(f"| {title} | {name} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def _hand(hand: dict[str, Rows]) -> str:
    def pooled(rows: Rows, key: str) -> list[float]:
        return sorted(ms for row in rows for ms in row[key])

    def a_second(rows: Rows, value: Callable[[dict[str, Any]], float]) -> float:
        return sum(map(value, rows)) / sum(float(row["seconds"]) for row in rows)

    rows: dict[str, Callable[[Rows], str]] = {
        "trials written a second": lambda r: f"{statistics.median(row['trials_per_s'] for row in r):.1f}",
        "interactions": lambda r: str(sum(len(row["interactions"]) for row in r)),
        "interaction delay, median": lambda r: _delay(statistics.median(pooled(r, "interactions"))),
        "95th percentile": lambda r: _delay(_percentile(pooled(r, "interactions"), 0.95)),
        "worst": lambda r: _delay(pooled(r, "interactions")[-1]),
        "median of each time": lambda r: ", ".join(_delay(statistics.median(row["interactions"])) for row in r),
        "move, median": lambda r: _delay(statistics.median(pooled(r, "moves")), 0),
        "move, 95th percentile": lambda r: _delay(_percentile(pooled(r, "moves"), 0.95), 0),
        "frames longer than 50 ms, a second": lambda r: f"{a_second(r, lambda row: len(row['long_frames'])):.2f}",
        "longest frame": lambda r: _delay(max([50.0, *pooled(r, "long_frames")])),
        "share of the time in long tasks": lambda r: f"{a_second(r, lambda row: row['long_tasks_ms']) / 10:.0f} %",
    }
    names = {name: name.replace("theirs", "optuna-dashboard") for name in hand}
    lines = ["| | " + " | ".join(names.values()) + " |", "|---" * (len(names) + 1) + "|"]
    return "\n".join(
        lines + [f"| {what} | {' | '.join(tell(hand[n]) for n in names)} |" for what, tell in rows.items()]
    )


def _percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


def _delay(ms: float, least: float = 16) -> str:
    return f"{_grouped(ms)} ms" if ms >= least else f"under {least:.0f} ms"


def _grouped(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def _ratio(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _spread(values: list[float]) -> str:
    return f"{_grouped(min(values))}–{_grouped(max(values))}"


if __name__ == "__main__":
    main()
