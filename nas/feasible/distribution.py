"""How a cost is distributed over networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_LAST_DIGIT = 1e-12  # relative; the same cost summed in another order


@dataclass(frozen=True)
class Histogram:
    """Networks per interval of a cost.

    Attributes:
        edges: (bins + 1,) ascending, in the cost's unit; an interval holds its lower edge, the last one both.
        counts: (bins,) networks, whole numbers only where every network was listed.
    """

    edges: Floats
    counts: Floats


@dataclass(frozen=True)
class Distribution:
    """How many networks cost at most how much.

    Attributes:
        values: (k,) ascending, in the cost's unit.
        cumulative: (k,) networks that cost at most so much.
        exact: every network was counted, at its very cost; else a programme counted about so many.
        stepped: there are no costs but `values`; else those are edges of bins, and what lies between is interpolated.
    """

    values: Floats
    cumulative: Floats
    exact: bool
    stepped: bool

    @classmethod
    def of(cls, costs: Floats) -> Distribution:
        """Of listed networks, from the cost (n,) of each; n >= 1."""
        values, times = np.unique(costs, return_counts=True)
        return cls(values, np.cumsum(times).astype(np.float64), exact=True, stepped=True)

    @property
    def total(self) -> float:
        """Networks."""
        return float(self.cumulative[-1])

    def at_most(self, value: ArrayLike) -> Floats:
        """Networks that cost at most `value`, of its shape."""
        return self._count(value, "right")

    def quantile(self, share: ArrayLike) -> Floats:
        """The smallest cost that at least the `share` (in [0, 1]) of the networks keep, of its shape."""
        wanted = np.asarray(share) * self.total
        if not self.stepped:
            return np.asarray(np.interp(np.asarray(wanted), self.cumulative, self.values))
        at = np.searchsorted(self.cumulative, wanted * (1 - _LAST_DIGIT))
        return np.asarray(self.values[np.minimum(at, len(self.values) - 1)])

    def histogram(self, bins: int | Sequence[float] | Floats) -> Histogram:
        """So many intervals of equal width from the smallest to the largest cost, or those between given edges."""
        edges = np.asarray(bins, dtype=np.float64)
        if edges.ndim == 0:
            edges = np.linspace(self.values[0], self.values[-1], int(edges) + 1)
        digit = _LAST_DIGIT * np.abs(edges).max()  # an edge taken from the smallest or largest cost must not miss it
        below = self._count(edges, "left")
        below[0], below[-1] = self._count(edges[0] - digit, "left"), self._count(edges[-1] + digit, "right")
        return Histogram(edges, np.diff(below))

    def _count(self, value: ArrayLike, side: Literal["left", "right"]) -> Floats:
        if not self.stepped:
            return np.asarray(np.interp(np.asarray(value), self.values, self.cumulative))
        at = np.searchsorted(self.values, value, side=side)
        return np.asarray(np.concatenate([[0.0], self.cumulative])[at])
