"""What a stored search answers for every budget at once: its front of accuracy against a cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from api.errors import OptionError
from api.networks.spaces import PricedSpace, space_of
from api.plans.plan import default_confidence
from api.plans.spec import SearchSpec
from api.store import Store
from api.store.searches import SearchRecord
from nas.objective import METRICS
from nas.pareto import hypervolume, pareto_front


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
    trials = store.trials.outcomes(record.id)
    if not len(trials.numbers):
        raise OptionError(
            f"search {record.name!r} has no complete trial yet; run it: nas search --resume {record.name}"
        )
    spec, priced = SearchSpec.from_dict(record.spec), space_of(store, record)
    model = priced.model(by)
    costs = model(trials.encodings)
    smallest, largest = model.minimum()[0], spec.hard_budgets.get(by) or model.maximum()[0]
    confidence = _confidence(spec, priced, by)
    kept = costs if confidence is None else priced.model(by, confidence)(trials.encodings)

    def describe(index: int) -> dict[str, Any]:
        return {
            "number": int(trials.numbers[index]),
            "accuracy": float(trials.accuracies[index]),
            "cost": float(costs[index]),
            "encoding": ",".join(map(str, trials.encodings[index])),
        }

    def best(limit: float) -> dict[str, Any] | None:
        inside = np.flatnonzero(kept <= limit)
        return describe(int(inside[trials.accuracies[inside].argmax()])) if len(inside) else None

    return {
        "search": record.name,
        "by": by,
        "unit": METRICS[by],
        "confidence": confidence,
        "smallest": smallest,
        "largest": largest,
        "hypervolume": hypervolume(costs, trials.accuracies, smallest=smallest, largest=largest),
        "front": [describe(int(i)) for i in pareto_front(costs, trials.accuracies)],
        "answers": [{"limit": limit, "best": best(limit)} for limit in limits],
    }


def _confidence(spec: SearchSpec, priced: PricedSpace, by: str) -> float | None:
    """With which a budget holds; None where it holds as predicted."""
    if by != "latency_ms" or priced.table is None:
        return None
    return spec.confidence or default_confidence(priced.table)
