"""What a search asks and what it came to, for people or as JSON: the same for one here and one on a server."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from api.commands.output import out, print_json, short
from api.store import Store
from api.store.searches import SearchRecord
from nas.search import SearchResult, Stopped

if TYPE_CHECKING:
    from api.schemas.searches import SearchOut


def store_names(store: Store) -> Callable[[int], str]:
    """Number of a search -> its name."""
    return lambda number: store.searches.by_id(number).name


def describe_aims(name_of: Callable[[int], str], spec: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, text for people) of what a stored spec asks beyond a good network inside its budgets."""
    found = []
    if spec.get("rungs"):
        found.append(("rungs", f"{', '.join(map(str, spec['rungs']))}: the best 1/{spec['eta']:g} go on"))
    if spec.get("front"):
        found.append(("front", f"of accuracy against {spec['front']}"))
    if spec.get("earlier"):
        name = name_of(spec["earlier"]["search"])
        found.append(("starts from", f"the first {spec['earlier']['trials']} trials of search {name}"))
    if spec.get("stop_when"):
        found.append(("stops when", f"at most {100 * spec['stop_when']:g} points are expected to be missed"))
    return found


def print_result(record: SearchRecord | SearchOut, result: SearchResult, *, as_json: bool) -> None:
    """What a search came to."""
    from api.results.picks import describe_trial

    best = None if result.best is None else describe_trial(result.best)
    if as_json:
        print_json(
            {
                "search": record.name,
                "id": record.id,
                "trials": result.trials,
                "complete": result.complete,
                "pruned": result.pruned,
                "failed": result.failed,
                "stopped": result.stopped.value,
                "seconds": result.seconds,
                "best": best,
                "beliefs": None if result.beliefs is None else dataclasses.asdict(result.beliefs),
            }
        )
        sys.stdout.flush()
        return
    if result.stopped is Stopped.SURE:
        out("sure enough: no further trial is worth it")
    if result.stopped is Stopped.EXHAUSTED:
        out("nothing is left inside the budget that was not tried")
    stopped = f"{result.pruned} stopped at a rung, " if record.spec.get("rungs") else ""
    out(
        f"search {record.name}: {result.complete} trials complete, {stopped}{result.failed} failed, "
        f"{result.seconds:.0f} s in this run"
    )
    if best is not None:
        more = {"model_mb": "{:.4g} MB of weights", "peak_memory_mb": "{:.4g} MB of activations at the peak"}
        told = [text.format(best[metric]) for metric, text in more.items() if best[metric] is not None]
        told += [] if best["predicted_ms"] is None else [f"predicted {short(best['predicted_ms'], 'ms')}"]
        out(
            f"best: trial {best['number']}, accuracy {100 * best['accuracy']:.2f} %, "
            + ", ".join([f"{short(best['flops'])} multiply-adds", f"{short(best['params'])} parameters", *told])
        )
        out(f"encoding: {best['encoding']}")
    if result.beliefs is not None:
        out(
            f"recommended: trial {result.beliefs.recommended}; the best network of all is expected to be "
            f"{100 * result.beliefs.expected_regret:.2f} points better"
        )
    if record.spec.get("front") and best is not None:
        out(f"the front: nas searches front {record.name}")
