"""What a stored search answers for every budget at once: its front of accuracy against a cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from api.compose import Plan, default_confidence, reopen
from api.errors import OptionError
from api.store import Store
from api.store.searches import SearchRecord
from latency.predict import latency_model
from nas.objective import METRICS
from nas.pareto import hypervolume, pareto_front
from nas.trial import Trial, TrialState


def describe_front(store: Store, record: SearchRecord, by: str | None, limits: Sequence[float]) -> dict[str, Any]:
    """The front as JSON types.

    Args:
        store: has the search.
        record: of the search.
        by: the cost; None: the one whose front was searched, else that of its first budget, else FLOPs.
        limits: budgets in that cost to answer. A latency is held with the search's confidence, or the usual one.

    Returns:
        `front`, by rising cost; its `hypervolume` between `smallest` (of the space) and `largest` (its budget, else of
        the space); per limit the best trial inside or None, in ms with `confidence`.

    Raises:
        OptionError: no such metric, a limit that is none, or no complete trial with that cost.
    """
    by = by or record.spec.get("front") or next(iter(record.spec["budgets"]), "flops")
    if by not in METRICS:
        raise OptionError(f"no metric {by!r}; there are {', '.join(METRICS)}")
    for limit in limits:
        if not (limit > 0 and math.isfinite(limit)):
            raise OptionError(f"a budget must be a positive number, not {limit:g}")
    if by == "latency_ms" and record.table_digest is None:
        raise OptionError(f"search {record.name!r} had no latency table, so its trials have no latency")
    trials = [t for t in store.searches.log(record.id).load() if t.state is TrialState.COMPLETE]
    if not trials:
        raise OptionError(
            f"search {record.name!r} has no complete trial yet; run it: nas search --resume {record.name}"
        )
    plan = reopen(store, record)
    model = plan.costs[by]
    costs, accuracies = [t.costs[by] for t in trials], [t.accuracy or 0.0 for t in trials]
    smallest, largest = model.minimum()[0], plan.spec.hard_budgets.get(by) or model.maximum()[0]
    confidence, kept = _sure_costs(plan, trials, by)
    return {
        "search": record.name,
        "by": by,
        "unit": METRICS[by],
        "confidence": confidence,
        "smallest": smallest,
        "largest": largest,
        "hypervolume": hypervolume(costs, accuracies, smallest=smallest, largest=largest),
        "front": [_describe(trials[i], by) for i in pareto_front(costs, accuracies)],
        "answers": [{"limit": limit, "best": _best(trials, kept, by, limit)} for limit in limits],
    }


def _sure_costs(plan: Plan, trials: Sequence[Trial], by: str) -> tuple[float | None, Sequence[float]]:
    """(confidence, what each trial costs at most with it); as predicted where there is no confidence to be had."""
    predicted = [t.costs[by] for t in trials]
    if by != "latency_ms" or plan.table is None:
        return None, predicted
    confidence = plan.spec.confidence or default_confidence(plan.table)
    if confidence is None:
        return None, predicted
    rows = np.array([t.encoding for t in trials], dtype=np.uint8)
    return confidence, latency_model(plan.table, plan.space, quantile=confidence)(rows).tolist()


def _best(trials: Sequence[Trial], costs: Sequence[float], by: str, limit: float) -> dict[str, Any] | None:
    inside = [t for t, cost in zip(trials, costs, strict=True) if cost <= limit]
    return _describe(max(inside, key=lambda t: (t.accuracy or 0.0, -t.number)), by) if inside else None


def _describe(trial: Trial, by: str) -> dict[str, Any]:
    encoding = ",".join(map(str, trial.encoding))
    return {"number": trial.number, "accuracy": trial.accuracy, "cost": trial.costs[by], "encoding": encoding}
