"""Fronts of reward against a cost: what one search answers for every budget at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def pareto_front(costs: ArrayLike, rewards: ArrayLike) -> NDArray[np.intp]:
    """Indices, by rising cost, of the trials no other beats: at most as dear and better, or as good and cheaper.

    Args:
        costs: (n,).
        rewards: (n,); of trials equal in both, the first counts.
    """
    cost, reward = np.asarray(costs, dtype=np.float64), np.asarray(rewards, dtype=np.float64)
    order = np.lexsort((np.arange(len(cost)), -reward, cost))
    highest = np.maximum.accumulate(np.concatenate([[-np.inf], reward[order]]))
    return np.asarray(order[reward[order] > highest[:-1]])


def hypervolume(costs: ArrayLike, rewards: ArrayLike, *, smallest: float, largest: float) -> float:
    """Area under the front between two costs, divided by their distance: the mean best reward over all budgets between.

    A budget that no trial keeps counts 0. (The hypervolume indicator of Zitzler and Thiele 1998 for the reference point
    (largest, 0), normalised.)

    Args:
        costs: (n,).
        rewards: (n,), not negative.
        smallest: where the axis begins, e.g. the smallest cost of the space.
        largest: where it ends, e.g. the budget; dearer trials do not count.
    """
    cost, reward = np.asarray(costs, dtype=np.float64), np.asarray(rewards, dtype=np.float64)
    inside = cost <= largest
    at = pareto_front(cost[inside], reward[inside])
    if not len(at) or largest <= smallest:
        return 0.0
    edges = np.append(np.maximum(cost[inside][at], smallest), largest)
    return float((np.diff(edges) * reward[inside][at]).sum() / (largest - smallest))
