"""What is possible on a space: its costs and budgets, and how many networks lie inside; for every front end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from api.errors import OptionError
from api.networks.spaces import PricedSpace
from api.plans.spec import SearchSpec
from latency.table import LatencyTable
from nas.cost import CostModel, costs
from nas.feasible import FeasibleSet
from nas.objective import GRAPH_COSTS, METRICS, Budget
from nas.space import Encoding, SearchSpace

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
_INTERVALS = 12
_EXAMPLES = 1024  # networks drawn; the one that uses most of its budgets is shown


def build_budgets(
    spec: SearchSpec, space: SearchSpace, table: LatencyTable | None
) -> tuple[dict[str, CostModel], tuple[Budget, ...]]:
    """What a spec's networks cost, and its hard limits, a latency's with the spec's confidence.

    Returns:
        Metric -> model: FLOPs and parameters always, model size and peak memory where a budget or the front is on them,
        latency as predicted with a table; the budgets, each possible.

    Raises:
        OptionError: a latency budget without a table.
        ImpossibleBudget: with the smallest achievable value.
        MissingOps: the table lacks ops of the space.
    """
    return _build_budgets(spec, PricedSpace(space, table))


def _build_budgets(spec: SearchSpec, priced: PricedSpace) -> tuple[dict[str, CostModel], tuple[Budget, ...]]:
    asked = {"flops", "params", spec.front, *spec.budgets}
    models = {metric: priced.model(metric) for metric in GRAPH_COSTS if metric in asked}
    if priced.table is not None:
        models["latency_ms"] = priced.model("latency_ms")
    elif "latency_ms" in spec.budgets:
        raise OptionError("a latency budget needs a latency table: name a profiled board with --board, or a --table")
    limits, sure = dict(models), ""
    if priced.table is not None and spec.confidence is not None:
        limits["latency_ms"] = priced.model("latency_ms", spec.confidence)
        sure = f" with confidence {spec.confidence:g}"
    budgets = tuple(
        Budget(metric, limit, limits[metric], sure if metric == "latency_ms" else "")
        for metric, limit in spec.hard_budgets.items()
    )
    for budget in budgets:
        budget.check_possible()
    return models, budgets


def describe_feasible(spec: SearchSpec, priced: PricedSpace) -> dict[str, Any]:
    """What is inside a spec's budgets, as JSON types.

    Args:
        spec: of it the budgets and the confidence count.
        priced: the space the spec names; without a table it tells only what follows from the networks alone.

    Returns:
        `networks` of the space and those `inside` (at_least and at_most are proven, about lies between); per budget
        its limit and the smallest that is possible; per metric the smallest and largest cost in the space, quantiles
        and a histogram, of all networks and of those inside; an example network that uses most of the budgets.

    Raises:
        LightnasError: as `build_budgets`; ImpossibleBudget also for budgets that are possible only one by one.
    """
    space, table = priced.space, priced.table
    asked, budgets = _build_budgets(spec, priced)
    models = {metric: priced.model(metric) for metric in GRAPH_COSTS} | asked
    inside = FeasibleSet(space, budgets) if budgets else priced.everything
    low, high = inside.bracket
    whole = priced.networks
    return {
        "space": space.name,
        "digest": space.digest,
        "table": None if table is None else table.digest,
        "board": None if table is None else table.identity.board,
        "confidence": spec.confidence,
        "budgets": {b.metric: {"limit": b.limit, "smallest_possible": b.cost.minimum()[0]} for b in budgets},
        "networks": whole,
        "inside": {"at_least": low, "about": inside.count, "at_most": high},
        "share": {"at_least": low / whole, "about": inside.count / whole, "at_most": high / whole},
        "metrics": {metric: _describe_metric(model, metric, priced, inside) for metric, model in models.items()},
        "example": _describe_network(_example(inside, budgets), models),
    }


def _describe_metric(model: CostModel, metric: str, priced: PricedSpace, inside: FeasibleSet) -> dict[str, Any]:
    (least, _), (most, _) = model.minimum(), model.maximum()
    # Few networks are dear: intervals of equal width would put nearly all into the first ones.
    spaced = np.geomspace if least > 0 else np.linspace
    edges = spaced(least, most, _INTERVALS + 1)
    of_all = priced.distribution(metric)
    of_inside = of_all if inside is priced.everything else inside.distribution(model)
    every = of_all.histogram(edges).counts
    kept = np.minimum(of_inside.histogram(edges).counts, every)  # both are counted in bins, not in the same ones
    return {
        "unit": METRICS[metric],
        "min": least,
        "max": most,
        "quantiles": _quantiles(of_all.quantile(QUANTILES)),
        "quantiles_inside": _quantiles(of_inside.quantile(QUANTILES)),
        "histogram": {
            "edges": edges.tolist(),
            "networks": every.tolist(),
            "inside": kept.tolist(),
        },
    }


def _quantiles(values: Sequence[float] | np.ndarray[Any, Any]) -> dict[str, float]:
    return {f"{share:g}": float(value) for share, value in zip(QUANTILES, values, strict=True)}


def _example(inside: FeasibleSet, budgets: Sequence[Budget]) -> Encoding:
    """A network inside whose least used budget is used most."""
    rows = inside.draw(np.random.default_rng(0), _EXAMPLES)
    if not budgets:
        return np.asarray(rows[0])
    used = [cost / b.limit for b, cost in zip(budgets, costs([b.cost for b in budgets], rows), strict=True)]
    return np.asarray(rows[np.argmax(np.min(used, axis=0))])


def _describe_network(row: Encoding, models: Mapping[str, CostModel]) -> dict[str, Any]:
    return {"encoding": ",".join(map(str, row)), **{metric: model.one(row) for metric, model in models.items()}}
