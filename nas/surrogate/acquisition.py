"""How much a network promises, from what is believed of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]


def upper_bound(mean: Floats, sd: Floats, beta: float) -> Floats:
    """GP-UCB (arXiv 0912.3995)."""
    return mean + beta * sd


def expected_improvement(mean: Floats, sd: Floats, best: Floats) -> Floats:
    """E[max(f - best, 0)] of f normal."""
    z = (mean - best) / sd
    return np.asarray(sd * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)))


@dataclass(frozen=True)
class Front:
    """The best value known for every cost: a staircase.

    Attributes:
        edges: (k + 1,) log costs, rising; the last one is where the axis ends.
        heights: (k,) best value up to the next edge; below the first edge it is `floor`.
        floor: value of knowing nothing.
    """

    edges: Floats
    heights: Floats
    floor: float

    @classmethod
    def of(cls, values: Floats, costs: Floats, largest: float) -> Front:
        """Of networks with these values and positive costs, on an axis that ends at the cost `largest`."""
        order = np.lexsort((-values, costs))
        heights = np.maximum.accumulate(values[order])
        new = np.concatenate([[True], heights[1:] > heights[:-1]])
        end = np.log(max(largest, float(costs.max()) * 1.01))
        return cls(np.append(np.log(costs[order][new]), end), heights[new], float(values.min()))

    def gain(self, mean: Floats, sd: Floats, costs: Floats) -> Floats:
        """(n,) expected growth of the area under the staircase: hypervolume improvement where one axis is known.

        (The two-objective case of arXiv 2006.05078 with a deterministic objective: a sum of expected improvements.)
        """
        left = np.log(costs)[:, None]
        edges = np.concatenate([[min(float(left.min()), self.edges[0])], self.edges])
        heights = np.concatenate([[self.floor], self.heights])
        width = np.maximum(edges[1:] - np.maximum(edges[:-1], left), 0.0)
        return np.asarray((width * expected_improvement(mean[:, None], sd[:, None], heights)).sum(axis=1))
