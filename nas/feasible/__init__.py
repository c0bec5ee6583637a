"""The networks of a space inside its budgets: refusal, counts, uniform samples, neighbours and histograms."""

from nas.feasible.distribution import Distribution, Histogram
from nas.feasible.sets import FeasibleSet

__all__ = ["Distribution", "FeasibleSet", "Histogram"]
