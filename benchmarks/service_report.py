"""Writes docs/service.md from benchmarks/results/service-{kill,load}-{postgresql,sqlite}.json.

python benchmarks/service_kill.py --database DB > benchmarks/results/service-kill-DB.json
python benchmarks/service_load.py --database DB > benchmarks/results/service-load-DB.json
python benchmarks/service_report.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATABASES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
_TEXT = """# The service, measured

Written by `benchmarks/service_report.py` from `benchmarks/results/service-*.json`; its docstring tells how they are
made. Measured on a virtual machine of two hardware threads of one core that had other work to do meanwhile.

## Killed at random moments

`benchmarks/service_kill.py --kills 30 --pause-s 4 --trials 2500 2500 180 --seed 13`: with PostgreSQL 15 (fsync on) `nas
serve` has no worker of its own and two `nas worker` run; with SQLite the server's own worker. Three searches at once,
submitted over REST (annealing, random, guided; NAS-Bench-Macro's space with made-up accuracies, two trials at a time);
SIGKILL of a random process, started again within a second. After each kill a small search is submitted with an
Idempotency-Key, and the request repeated until it is answered. Then the same searches are run alone, undisturbed.

{killed}

An earlier run found a fault: a search was given up after five claims without progress, which a quick series of kills
reaches. It is twenty now, and a database that is away does not count.

`benchmarks/ray_node_lost.py` does the same to nodes of a Ray cluster, and prints what came of it.

## Under load

`benchmarks/service_load.py --seconds 8 --events 30`: {trials} trials stored in one search, 2 000 in twenty others;
{clients} clients, each with a connection of its own, one request after the other, on the same two hardware threads as
the server. Each cell: median, 99th percentile, requests a second, and the ratio of the median to that of a FastAPI
application with one route under the same clients.

{loaded}

A submission reads the recorded accuracies, builds the search and checks it, which is computing: eight at a time are let
in and two of one token, the others wait for a place for up to ten seconds (here all clients share one token).
"""


def main() -> None:
    kill, load = ({db: _read(f"service-{what}-{db}.json") for db in DATABASES} for what in ("kill", "load"))
    one = load["sqlite"]
    text = _TEXT.format(
        killed=_table(kill, _killed(kill)),
        loaded=_table(load, _loaded(load)),
        trials=f"{one['trials']:,}".replace(",", " "),
        clients=one["clients"],
    )
    (ROOT / "docs" / "service.md").write_text(text)


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / name).read_text())
    return found


def _table(results: dict[str, Any], rows: dict[str, list[str]]) -> str:
    head = ["| | " + " | ".join(DATABASES[db] for db in results) + " |", "|---" * (len(results) + 1) + "|"]
    return "\n".join(head + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()])


def _killed(kill: dict[str, Any]) -> dict[str, list[str]]:
    found = kill.values()

    def total(run: dict[str, Any], key: str) -> int:
        return sum(search[key] for search in run["searches"])

    return {
        "killed": [", ".join(f"{name} {times}" for name, times in sorted(run["kills"].items())) for run in found],
        "trial tables equal to the undisturbed ones": [
            f"{total(run, 'equal')} of {len(run['searches'])} ({total(run, 'trials')} trials)" for run in found
        ],
        "trials doubled, ends told twice": [f"{total(run, 'doubled')}, {total(run, 'ended_twice')}" for run in found],
        "small searches submitted, stored, complete": [
            f"{run['small_submitted']}, {run['small_stored']}, {run['small_complete']}" for run in found
        ],
    }


def _loaded(load: dict[str, Any]) -> dict[str, list[str]]:
    found = load.values()
    rows = {name: [_request(run["requests"][name]) for run in found] for name in load["sqlite"]["requests"]}
    rows["failed requests"] = [str(sum(r["errors"] for r in run["requests"].values())) for run in found]
    rows["event streams with every event"] = [
        f"{s['clients_with_every_event']} of {s['clients']} ({s['events']} events)"
        for s in (r["streams"] for r in found)
    ]
    rows["an event arrives after its write: median, p99"] = [
        f"{s['delay_median_ms']:.0f}, {s['delay_p99_ms']:.0f} ms" for s in (r["streams"] for r in found)
    ]
    memory = ("memory_mb_at_start", "memory_mb_after_requests", "memory_mb_with_streams")
    rows["memory at the start, after the requests, with the streams"] = [
        ", ".join(f"{run[key]:.0f}" for key in memory) + " MB" for run in found
    ]
    return rows


def _request(of: dict[str, float]) -> str:
    return f"{of['median_ms']:.0f} ms, {of['p99_ms']:.0f} ms, {of['requests_per_s']:.0f}/s, {of['ratio_to_bare']:.1f}"


if __name__ == "__main__":
    main()
