"""Budgets and rewards: what a search is allowed and what it maximises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.cost import CostModel, costs, flops_model, params_model
from nas.errors import ImpossibleBudget
from nas.memory import model_size_model, peak_memory_model
from nas.space import Encodings, SearchSpace

METRICS = {
    "latency_ms": "ms",
    "flops": "multiply-adds",
    "params": "parameters",
    "model_mb": "MB",
    "peak_memory_mb": "MB",
}
"""Metric -> unit. A budget may be on any of them."""
GRAPH_COSTS: Mapping[str, Callable[[SearchSpace], CostModel]] = {
    "flops": flops_model,
    "params": params_model,
    "model_mb": model_size_model,
    "peak_memory_mb": peak_memory_model,
}
"""Metric -> its model, for those that follow from the networks alone."""
MNASNET_EXPONENT = -0.07


@dataclass(frozen=True)
class Budget:
    """A hard upper limit on one metric.

    Attributes:
        metric: a key of `METRICS`.
        limit: the largest allowed value, in the metric's unit.
        cost: prices encodings in that unit.
        qualifier: what messages add to the metric, e.g. with which confidence it holds.
    """

    metric: str
    limit: float
    cost: CostModel
    qualifier: str = ""

    def allows(self, x: Encodings) -> NDArray[np.bool_]:
        """(n,) True where the row's cost is at most the limit."""
        return self.cost(x) <= self.limit

    def check_possible(self) -> None:
        """Raises ImpossibleBudget, with the smallest achievable value, if nothing in the space fits."""
        smallest = self.cost.minimum()[0]
        if smallest > self.limit:
            raise ImpossibleBudget(
                f"no network of {self.cost.space.name} has {self.metric} <= {self.limit:g}{self.qualifier}: the "
                f"smallest achievable is {_above(smallest)} {METRICS[self.metric]}; raise the budget to at least that",
                {self.metric: smallest},
            )


@dataclass(frozen=True)
class HardReward:
    """The accuracy itself: the budgets are limits, not wishes."""

    def __call__(self, accuracy: float, costs: Mapping[str, float]) -> float:
        """Reward of a trial."""
        return accuracy


@dataclass(frozen=True)
class SoftReward:
    """MnasNet's soft reward (arXiv 1807.11626, eq. 2): accuracy · (latency / target)^w.

    Attributes:
        target_ms: the latency aimed at; networks above it are allowed and pay.
        exponent: w; −0.07 in the paper.
    """

    target_ms: float
    exponent: float = MNASNET_EXPONENT

    def __call__(self, accuracy: float, costs: Mapping[str, float]) -> float:
        """Reward of a trial; `costs` must hold latency_ms."""
        return float(accuracy * (costs["latency_ms"] / self.target_ms) ** self.exponent)


Reward = HardReward | SoftReward


def _above(value: float) -> str:
    """A positive value in 6 digits, not below it: given as a budget, it is possible."""
    text = f"{value:.6g}"
    return text if float(text) >= value else f"{value * (1 + 1e-5):.6g}"


def inside(budgets: Sequence[Budget], x: Encodings) -> NDArray[np.bool_]:
    """(n,) True where every budget allows the row."""
    ok = np.ones(len(x), dtype=np.bool_)
    for budget, cost in zip(budgets, costs([b.cost for b in budgets], x), strict=True):
        ok &= cost <= budget.limit
    return ok
