"""CostModel: encodings -> numbers, as tables gathered over a space's sites, and summed or their largest taken."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas.errors import MissingOps
from nas.graph import Place
from nas.rows import Fused
from nas.space import Encoding, Encodings, SearchSpace

Price = Callable[[Place], float | None]


class CostModel:
    """``y = offset + scale · Σ_s T_s[row_s(x)]`` for whole batches (`nas.rows`); or with max instead of Σ.

    Args:
        space: whose encodings are priced.
        tables: per site, (rows,) float64.
        unit: what the numbers are (`ms`, `multiply-adds`, `parameters`).
        offset: of the whole network, in the unit.
        scale: from the tables' sum to the unit; positive.
        divisor: instead of a scale: 1e6 tells bytes in MB to the last digit, which a scale of 1e-6 does not.
        combine: of the sites' numbers; `max` for what is needed in one site at a time, such as memory.
    """

    def __init__(
        self,
        space: SearchSpace,
        tables: list[NDArray[np.float64]],
        *,
        unit: str,
        offset: float = 0.0,
        scale: float = 1.0,
        divisor: float = 1.0,
        combine: Literal["sum", "max"] = "sum",
    ) -> None:
        if scale <= 0 or divisor <= 0:
            raise ValueError(f"scale and divisor must be positive, not {scale} and {divisor}")
        self.space, self.tables, self.unit, self.offset, self.scale = space, tables, unit, offset, scale
        self.divisor, self.combine = divisor, combine

    @classmethod
    def compile(
        cls,
        space: SearchSpace,
        price: Price,
        *,
        unit: str,
        offset: float = 0.0,
        scale: float = 1.0,
        divisor: float = 1.0,
        table: str = "the cost table",
        fix: str = "",
    ) -> CostModel:
        """Price every op of the space once and sum per site row.

        Args:
            space: whose encodings are priced.
            price: an op among its neighbours -> its cost before `scale`, or None where unknown.
            unit: what the numbers are.
            offset: added to every network.
            scale: multiplies the sum of ops.
            divisor: divides it.
            table: how an error calls the source of the prices.
            fix: what an error tells the user to do.

        Raises:
            MissingOps: listing all unpriced keys; never a silent zero.
        """
        prices = [price(place) for place in space.compiled.places]
        missing = {place.op.key for place, p in zip(space.compiled.places, prices, strict=True) if p is None}
        if missing:
            raise MissingOps(sorted(missing), table=table, fix=fix)
        known = np.array(prices, dtype=np.float64)
        tables = [site.sums(known) for site in space.compiled.sites]
        return cls(space, tables, unit=unit, offset=offset, scale=scale, divisor=divisor)

    def __call__(self, x: Encodings) -> NDArray[np.float64]:
        """(n,) cost of each valid row of x (n, genes)."""
        return costs([self], x)[0]

    def one(self, x: Encoding) -> float:
        """The cost of a single row (genes,)."""
        return float(self(np.asarray(x, dtype=np.uint8)[None])[0])

    def in_unit(self, combined: NDArray[np.float64]) -> NDArray[np.float64]:
        """The costs (n,) of what tables came to (n,)."""
        return self.offset + self.scale * (combined if self.divisor == 1 else combined / self.divisor)

    def of_tables(self, cost: float) -> float:
        """The inverse of `in_unit`, but for rounding."""
        return (cost - self.offset) / self.scale * self.divisor

    @cached_property
    def _fused(self) -> Fused:
        return self.space.compiled.plan.fuse(self.tables, np.add if self.combine == "sum" else np.maximum)

    @cached_property
    def _extremes(self) -> tuple[tuple[float, Encoding], tuple[float, Encoding]]:
        # The value is the row's price as `__call__` sums it: a budget of exactly the minimum then allows that row.
        if self.combine == "sum":
            best = self.space.compiled.best
            argmin, argmax = best(self.tables)[1], best([-t for t in self.tables])[1]
        else:
            argmin, argmax = self._extreme_maxima()
        return (self.one(argmin), argmin), (self.one(argmax), argmax)

    def _extreme_maxima(self) -> tuple[Encoding, Encoding]:
        """The encodings of the smallest and of the largest maximum: a bisection over the values there are."""
        best, values = self.space.compiled.best, np.unique(np.concatenate(self.tables))

        def below(value: float) -> tuple[float, Encoding]:
            return best([np.where(t <= value, 0.0, np.inf) for t in self.tables])

        def reaching(value: float) -> tuple[float, Encoding]:
            return best([np.where(t >= value, -1.0, 0.0) for t in self.tables])

        least = bisect_left(values, True, key=lambda value: below(value)[0] == 0)
        beyond = bisect_left(values, True, key=lambda value: reaching(value)[0] == 0)
        return below(values[least])[1], reaching(values[beyond - 1])[1]

    def minimum(self) -> tuple[float, Encoding]:
        """The exact smallest cost in the space and an encoding that has it."""
        return self._extremes[0]

    def maximum(self) -> tuple[float, Encoding]:
        """The exact largest cost in the space and an encoding that has it."""
        return self._extremes[1]


def costs(models: Sequence[CostModel], x: Encodings) -> list[NDArray[np.float64]]:
    """Per model of one space (n,) the costs of valid rows x (n, genes); the rows are looked up once for all models."""
    if not models:
        return []
    sums = models[0].space.compiled.plan.sums([m._fused for m in models], x)
    return [m.in_unit(total) for m, total in zip(models, sums, strict=True)]


def flops_model(space: SearchSpace) -> CostModel:
    """Multiply-accumulates at batch 1."""
    return CostModel.compile(space, lambda place: place.op.flops, unit="multiply-adds")


def params_model(space: SearchSpace) -> CostModel:
    """Trainable parameters."""
    return CostModel.compile(space, lambda place: place.op.params, unit="parameters")
