"""How sure a prediction is: an interval from the table's whole-network residuals and its ops' own uncertainty.

The residuals are log(measured / predicted) of whole networks, each predicted without itself, so they hold everything
that makes a prediction wrong on the day of the profile. A new network's log ratio is drawn from the same distribution:
with n residuals of mean m and standard deviation s it lies below m + t(n - 1, q) · sqrt(s² (1 + 1/n) + d²) with
probability q (a Student t prediction interval), where d is how far all times shift from one measurement to the next.
An op that was estimated and not timed adds part of its own standard error, as if such errors went the same way in all
ops: that is the safe side, and keeps the bound a sum over ops.
"""

from __future__ import annotations

import math

import numpy as np

from latency.errors import InvalidTable
from latency.table import LatencyTable

DEFAULT_CONFIDENCE = 0.95
"""That a winner keeps its budget, where the user does not say otherwise."""
_FEWEST = 4
_COMMON = 0.5
"""Part of estimated ops' errors that goes the same way in all of a network's ops; the rest averages out."""


def has_intervals(table: LatencyTable) -> bool:
    """Whether the table has residuals enough to tell an interval."""
    return len(table.calibration.residuals) >= _FEWEST


def log_bound(table: LatencyTable, quantile: float) -> float:
    """The value that log(measured / predicted) of a new network stays below with probability `quantile`.

    Raises:
        InvalidTable: the table was made without residuals.
    """
    from scipy.special import stdtrit  # here: it takes a quarter of a second to import

    residuals = np.array(table.calibration.residuals)
    n = len(residuals)
    if n < _FEWEST:
        raise InvalidTable(
            f"latency table {table.digest[:12]} of board {table.identity.board} tells no intervals (it has {n} "
            "residuals of whole networks): profile the board again"
        )
    t = float(stdtrit(n - 1, quantile))
    spread = math.hypot(residuals.std(ddof=1) * math.sqrt(1 + 1 / n), table.calibration.drift_sigma)
    return float(residuals.mean() + t * spread)


def interval_pct(table: LatencyTable) -> tuple[float, float] | None:
    """The 90 % interval of a network of timed ops as percent of its prediction: below, above; None if none is told."""
    if not has_intervals(table):
        return None
    low, high = (100 * math.expm1(log_bound(table, q)) for q in (0.05, 0.95))
    return low, high


def op_factor(sigma: float, quantile: float) -> float:
    """What an estimated op's part is multiplied with on the way to the bound of that probability."""
    from scipy.special import ndtri

    return math.exp(_COMMON * float(ndtri(quantile)) * sigma)
