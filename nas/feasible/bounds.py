"""Proven bounds of one cost inside a limit on another, by Lagrangian relaxation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas.feasible.chain import Chain, Floats
from nas.feasible.programme import Limit

_STEPS = 24  # of the golden-section search for the multiplier
_SPAN = 12.0  # the multiplier is looked for within a factor e^±12 of the ratio of both ranges
_GOLDEN = (math.sqrt(5) - 1) / 2


def least_inside(chain: Chain, objective: Sequence[Floats], limit: Limit) -> float:
    """A lower bound of Σ objective over the networks inside the limit.

    max over λ >= 0 of min over all networks of objective + λ (cost − limit): each λ gives a bound, the dual function
    is concave, so a section search finds the best; stopping early only makes the bound weaker, never wrong.
    """

    def bound(multiplier: float) -> float:
        tables = [o + multiplier * t for o, t in zip(objective, limit.tables, strict=True)]
        return chain.least(chain.to_go(tables)) - multiplier * limit.value

    ratio = _span(chain, objective) / (_span(chain, limit.tables) or 1.0)
    best = bound(0.0)
    if not ratio:
        return best
    low, high = -_SPAN, _SPAN
    inner = [high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)]
    values = [bound(ratio * math.exp(t)) for t in inner]
    for _ in range(_STEPS):
        best = max(best, *values)
        if values[0] > values[1]:
            high, inner[1], values[1] = inner[1], inner[0], values[0]
            inner[0] = high - _GOLDEN * (high - low)
            values[0] = bound(ratio * math.exp(inner[0]))
        else:
            low, inner[0], values[0] = inner[0], inner[1], values[1]
            inner[1] = low + _GOLDEN * (high - low)
            values[1] = bound(ratio * math.exp(inner[1]))
    return max(best, *values)


def largest(chain: Chain, tables: Sequence[Floats]) -> float:
    """The largest Σ tables, exact."""
    return -chain.least(chain.to_go([-t for t in tables]))


def _span(chain: Chain, tables: Sequence[Floats]) -> float:
    return largest(chain, tables) - chain.least(chain.to_go(tables))
