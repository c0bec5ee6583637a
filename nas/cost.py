"""CostModel: encodings -> numbers, as tables gathered and summed over a space's sites."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.errors import MissingOps
from nas.graph import Place
from nas.space import Encoding, Encodings, SearchSpace

Price = Callable[[Place], float | None]


class CostModel:
    """``y = offset + scale · Σ_s T_s[row_s(x)]``: one gather and one sum per site, whatever the batch.

    Args:
        space: whose encodings are priced.
        tables: per site, (rows,) float64.
        unit: what the numbers are (`ms`, `multiply-adds`, `parameters`).
        offset: of the whole network, in the unit.
        scale: from the tables' sum to the unit; positive.
    """

    def __init__(
        self,
        space: SearchSpace,
        tables: list[NDArray[np.float64]],
        *,
        unit: str,
        offset: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        if scale <= 0:
            raise ValueError(f"scale must be positive, not {scale}")
        self.space, self.tables, self.unit, self.offset, self.scale = space, tables, unit, offset, scale

    @classmethod
    def compile(
        cls,
        space: SearchSpace,
        price: Price,
        *,
        unit: str,
        offset: float = 0.0,
        scale: float = 1.0,
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
        return cls(space, tables, unit=unit, offset=offset, scale=scale)

    def __call__(self, x: Encodings) -> NDArray[np.float64]:
        """(n,) cost of each valid row of x (n, genes)."""
        compiled = self.space.compiled
        shape = compiled.start(x)
        total = np.zeros(len(x))
        for site, table in zip(compiled.sites, self.tables, strict=True):
            row = shape * site.choices + site.choice(x)
            total += table[row]
            shape = site.next_shape[row]
        return self.offset + self.scale * total

    def one(self, x: Encoding) -> float:
        """The cost of a single row (genes,)."""
        return float(self(np.asarray(x, dtype=np.uint8)[None])[0])

    @cached_property
    def _extremes(self) -> tuple[tuple[float, Encoding], tuple[float, Encoding]]:
        low, argmin = self.space.compiled.best(self.tables)
        high, argmax = self.space.compiled.best([-t for t in self.tables])
        return (self.offset + self.scale * low, argmin), (self.offset - self.scale * high, argmax)

    def minimum(self) -> tuple[float, Encoding]:
        """The exact smallest cost in the space and an encoding that has it."""
        return self._extremes[0]

    def maximum(self) -> tuple[float, Encoding]:
        """The exact largest cost in the space and an encoding that has it."""
        return self._extremes[1]


def flops_model(space: SearchSpace) -> CostModel:
    """Multiply-accumulates at batch 1."""
    return CostModel.compile(space, lambda place: place.op.flops, unit="multiply-adds")


def params_model(space: SearchSpace) -> CostModel:
    """Trainable parameters."""
    return CostModel.compile(space, lambda place: place.op.params, unit="parameters")
