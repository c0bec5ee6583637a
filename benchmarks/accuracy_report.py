"""Keeps the results of the latency benchmarks in benchmarks/results/ and writes docs/accuracy.md from them.

python benchmarks/accuracy_report.py
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.space import SearchSpace

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
REPORT = ROOT / "docs" / "accuracy.md"

_INTRO = """\
# How accurate predicted latencies are

Written by `benchmarks/accuracy_report.py` from `benchmarks/results/`; each section names the command that made its
figures. `host` is an x86-64 virtual machine with two cores that other tenants share, profiled through a real sshd;
`qemu-…` are emulated ARM boards, whose time counts instructions: their errors mean something, their milliseconds do
not, and none are shown.

**What is compared.** A profile makes a latency table. After reconnecting, random networks that had no part in it are
run whole; truth is the median of their interleaved runs. *Noise* is how far the medians of every other run differ: no
predictor beats it. *In situ* is our table after one scale from eight further networks of the second session, *as
profiled* the same without it: the difference is how far the machine drifted. *Ops alone* is a table of each op timed by
itself, run after run, as others make it, and *FLOPs alone* needs no table; both have that one scale, too.
"""
_WEAK = """\
## Where the predictor is weak

- **Drift.** A prediction holds for the board as it was when it was profiled. On a machine that others share, all times
  move together by several percent from one minute to the next (*as profiled* above). `nas verify` tells this common
  factor apart from the errors that networks do not share. The interval knows the drift between the parts of its own
  profile, not that of next week.
- **Small pictures.** At 32 px layers take microseconds: the stamps between them, the cache they find and the start of a
  kernel weigh as much as the arithmetic. The terms of a table (`nas tables show`) carry part of it.
- **What is not sampled.** Residuals come from fresh networks of the profiled space, half of them uniform, half spread
  over its cheaper part. A user's own model, or a space of another kind that happens to share ops, may be further off.
- **Estimated ops.** When a profile is cut short, ops of kinds that were hardly seen are estimated with errors of tens
  of percent. They are marked, and widen the interval.
- **Not measured here.** No board of the project has several clusters, a throttling firmware or cores for several
  threads: code for these is tested on recorded trees of /proc and /sys. fp16 was only run on an emulated Cortex-A76. No
  latency of a real ARM board has been compared yet.
"""


def command() -> str:
    """What the user ran."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def save(name: str, options: argparse.Namespace, space: SearchSpace, result: dict[str, Any]) -> dict[str, Any]:
    """Keeps a result, and writes the report anew.

    Args:
        name: of the file, without its ending.
        options: of the command, `board` and `engine` among them.
        space: what was measured.
        result: what came of it.

    Returns:
        The result with what all results tell: board, engine, space, resolution, command and date.
    """
    told = {
        "board": options.board,
        "engine": options.engine,
        "space": space.name,
        "resolution": space.inputs[0][1],
        "command": command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **result,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")
    write_report()
    return told


def write_report() -> None:
    """Renders every section there are results for."""
    parts = [_INTRO, *_accuracy(), *_refits(), *_promises(), *_minutes(), *_faults(), _WEAK]
    REPORT.write_text("\n".join(part.rstrip() + "\n" for part in parts))


def load(pattern: str) -> list[dict[str, Any]]:
    """The results of a kind, by file name."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(pattern))]


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _accuracy() -> Iterable[str]:
    found = load("accuracy-*.json")
    if not found:
        return
    rows = []
    for r in sorted(found, key=lambda r: (r["board"], r["engine"], r["space"], -r["resolution"])):
        what = f"{r['board']}, {r['engine']} {r['dtype']}, {r['space']} at {r['resolution']}"
        noise = "-" if r["noise_pct"] is None else f"{r['noise_pct']:.2f}"
        for name, row in r["rows"].items():
            ours = name == "in situ"
            rows.append(
                [
                    what if ours else "",
                    f"**{name}**" if ours else name,
                    f"{row['mean_error_pct']:.2f}",
                    f"{row['max_error_pct']:.1f}",
                    f"{row['within_2_pct']:.0f}",
                    f"{row['within_5_pct']:.1f}",
                    f"{row['within_10_pct']:.1f}",
                    f"{row['spearman']:.4f}",
                    f"{row['coverage_pct']:.0f}" if "coverage_pct" in row else "",
                    noise if ours else "",
                ]
            )
    yield "## Networks never seen"
    yield "All in percent; ρ is Spearman's rank correlation, *90 %* how many lie in that interval."
    yield _table(("board, engine, space", "predictor", "mean", "max", "≤ 2", "≤ 5", "≤ 10", "ρ", "90 %", "noise"), rows)
    yield "Made by:"
    yield "\n".join(
        f"- `{r['command']}` ({r['date'][:10]}): {r['nets']} networks, {r['runs']} runs each; profile of "
        f"{r['profile']['ops']} ops in {r['profile']['networks']} networks, {r['profile']['passes']} passes, "
        f"{r['profile']['seconds']:.0f} s"
        for r in found
    )


def _refits() -> Iterable[str]:
    found = load("refits-*.json")
    if not found:
        return
    yield "## Coverage of the intervals"
    yield (
        "Cover networks and fresh ones in one measurement, fitted again and again on 48 of the fresh networks and "
        "judged on the others: the share that lies in its 90 % interval, pooled, in the worst and the best fit; and "
        "the share below its upper end, which should be 95 %."
    )
    yield _table(
        ("board, engine, space", "fits × networks", "in the interval, %", "worst, best", "below its upper end, %"),
        [
            [
                f"{r['board']}, {r['engine']}, {r['space']} at {r['resolution']}",
                f"{r['refits']} × {r['nets']}",
                f"**{r['coverage_pct']:.1f}**",
                f"{r['lowest_pct']:.0f}, {r['highest_pct']:.0f}",
                f"{r['below_pct']:.1f}",
            ]
            for r in found
        ],
    )
    yield "\n".join(f"- `{r['command']}` ({r['date'][:10]})" for r in found)


def _promises() -> Iterable[str]:
    for r in load("promises-*.json"):
        rounds = r["rounds"]
        yield f"## Are the intervals honest? ({r['board']}, {r['engine']})"
        yield f"Made by `{r['command']}` ({r['date'][:10]})."
        yield (
            f"{len(rounds)} profiles of {r['space']} at {r['resolution']} px, {r['nets']} fresh networks each: "
            f"**{r['coverage_pct']:.1f} %** of the networks lie in their 90 % interval, "
            f"{r['coverage_scaled_pct']:.1f} % when each session's common factor is taken out."
        )
        yield (
            f"{r['searches']} searches on NAS-Bench-Macro with budgets across the range at confidence "
            f"{r['confidence']:g}: **{r['kept']}** of the winners kept their budget when measured ({r['kept_scaled']} "
            f"with the session's common factor taken out; {r['kept_as_predicted']} where the budget was held against "
            "the prediction itself)."
        )
        yield _table(
            ("profile", "in the interval, %", "without drift, %", "session's factor", "upper end at 0.95, %"),
            [
                [
                    str(i),
                    f"{x['coverage_pct']:.1f}",
                    f"{x['coverage_scaled_pct']:.1f}",
                    f"{x['scale']:.3f}",
                    f"{x['upper_pct']:+.1f}",
                ]
                for i, x in enumerate(rounds)
            ],
        )


def _minutes() -> Iterable[str]:
    for r in load("minutes-*.json"):
        yield (
            f"## Error against minutes ({r['space']} at {r['resolution']} px, {r['board']}, {r['engine']})\n\n"
            f"Made by `{r['command']}` ({r['date'][:10]}). Noise of the truth: "
            + ("-" if r["noise_pct"] is None else f"{r['noise_pct']:.2f} %.")
        )
        head = (
            "seconds of measuring",
            "cover networks",
            "ops estimated, %",
            "mean error, %",
            "≤ 10 %",
            "in 90 % interval",
        )
        yield _table(
            head,
            [
                [
                    f"{x['seconds']:.0f}",
                    str(x["cover_networks"]),
                    f"{x['estimated_share_pct']:.0f}",
                    f"{x['mean_error_pct']:.2f}",
                    f"{x['within_10_pct']:.1f}",
                    f"{x['coverage_pct']:.0f}",
                ]
                for x in r["rows"]
            ],
        )


def _faults() -> Iterable[str]:
    for path in sorted(RESULTS.glob("faults-*.md")):
        yield "## A profile under faults\n\n" + path.read_text()


if __name__ == "__main__":
    write_report()
