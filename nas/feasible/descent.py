"""Networks inside several budgets found by simulated annealing, for sets too thin to be drawn from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nas.space import Encoding, Encodings, SearchSpace

_STEPS = 400
_HEAT, _COOLING = 0.3, 0.98  # first temperature as a fraction of the median violation; its factor per step


def descend(
    space: SearchSpace,
    x: Encodings,
    violation: Callable[[Encodings], NDArray[np.float64]],
    wanted: Callable[[Encodings], NDArray[np.bool_]],
    rng: np.random.Generator,
) -> tuple[Encodings, Encoding]:
    """Anneal the violation of many chains, each from a row of x (n, genes), until some are wanted.

    Returns:
        The wanted rows, none after a bound of steps; and the row of the smallest violation met.
    """
    level, every = violation(x), np.arange(len(x))
    best, best_level = x[level.argmin()].copy(), level.min()
    heat = max(float(np.median(level)), 1e-6) * _HEAT
    for step in range(_STEPS):
        good = wanted(x)
        if good.any():
            return x[good], best
        y = x.copy()
        gene = rng.integers(0, x.shape[1], len(x))
        shift = 1 + (rng.random(len(x)) * (space.cardinalities[gene] - 1)).astype(np.int64)
        y[every, gene] = (y[every, gene] + shift) % space.cardinalities[gene]
        new = violation(y)
        take = rng.random(len(x)) < np.exp(-np.maximum(new - level, 0.0) / (heat * _COOLING**step))
        x, level = np.where(take[:, None], y, x), np.where(take, new, level)
        if level.min() < best_level:
            best, best_level = x[level.argmin()].copy(), level.min()
    return x[:0], best
