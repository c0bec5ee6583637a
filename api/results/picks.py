"""What a stored search found: its trials as JSON types, and which of them to take."""

from __future__ import annotations

from typing import Any

from api.errors import OptionError
from api.store import Store
from api.store.searches import SearchRecord
from nas.trial import Trial


def describe_trial(trial: Trial) -> dict[str, Any]:
    """A trial as the command line prints it; None for a cost the search had no use for."""
    costs = trial.costs
    return {
        "number": trial.number,
        "encoding": ",".join(map(str, trial.encoding)),
        "accuracy": trial.accuracy,
        "flops": int(costs["flops"]) if "flops" in costs else None,
        "params": int(costs["params"]) if "params" in costs else None,
        "model_mb": costs.get("model_mb"),
        "peak_memory_mb": costs.get("peak_memory_mb"),
        "predicted_ms": costs.get("latency_ms"),
    }


def summarise_search(store: Store, record: SearchRecord) -> dict[str, Any]:
    """A stored search as JSON types, with its counts and best trial."""
    best = store.searches.best(record.id)
    found = None
    if best:
        t = best[0]
        found = {
            "number": t.number,
            "encoding": ",".join(map(str, t.encoding)),
            "accuracy": t.accuracy,
            "reward": t.reward,
            "costs": dict(t.costs),
        }
    fields = ("id", "name", "state", "owner", "space", "board", "table_digest", "spec", "beliefs", "winner", "error")
    return {
        **{f: getattr(record, f) for f in fields},
        "trials": store.searches.counts(record.id),
        "best": found,
        "created_at": record.created_at,
        "finished_at": record.finished_at,
    }


def pick_trials(store: Store, record: SearchRecord, limit: int) -> list[Trial]:
    """The complete trials to take, at most `limit`: the one the strategy recommends, then those of highest reward.

    Raises:
        OptionError: no trial is complete yet.
    """
    best = store.searches.best(record.id, limit)
    if not best:
        raise OptionError(
            f"search {record.name!r} has no complete trial yet; run it: nas search --resume {record.name}"
        )
    if record.beliefs is None:
        return best
    first = store.searches.trial(record.id, int(record.beliefs["recommended"]))
    return [first, *(t for t in best if t.number != first.number)][:limit]


def pick_trial(store: Store, record: SearchRecord) -> Trial:
    """The trial a search's strategy recommends, else the one of the highest reward.

    Raises:
        OptionError: no trial is complete yet.
    """
    return pick_trials(store, record, 1)[0]
