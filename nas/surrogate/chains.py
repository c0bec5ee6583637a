"""Where drawn functions are highest: many annealing chains at once, inside the feasible set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.space import Encodings
from nas.surrogate.features import Features
from nas.surrogate.process import Draws, Singles

_HEAT = 0.1  # the first temperature, in standard deviations of the values at the start
_COOL = 0.03  # the last one, as a share of it
_TWO = 0.3  # of the moves change two genes: along a tight budget one alone cannot move


@dataclass(frozen=True)
class Visited:
    """What chains met.

    Attributes:
        rows: (networks, genes), canonical, distinct for each function.
        function: (networks,) whose chains met it.
        value: (networks,) under that function.
    """

    rows: Encodings
    function: NDArray[np.intp]
    value: Singles

    def tops(self) -> Encodings:
        """(functions, genes): each function's highest row."""
        best = [at[self.value[at].argmax()] for at in (np.flatnonzero(self.function == f) for f in self.numbers)]
        return self.rows[best]

    @property
    def numbers(self) -> range:
        """The functions."""
        return range(int(self.function.max()) + 1)

    def joined(self, other: Visited) -> Visited:
        """Both; a row may then come twice for a function."""
        pairs = ((getattr(self, f), getattr(other, f)) for f in ("rows", "function", "value"))
        return Visited(*(np.concatenate(p) for p in pairs))


def anneal(
    features: Features,
    functions: Draws,
    allowed: Callable[[Encodings], NDArray[np.bool_]],
    starts: Encodings,
    rng: np.random.Generator,
    *,
    steps: int,
    keep: int,
) -> Visited:
    """The highest networks each function's chains stood on.

    Args:
        features: of the space.
        functions: what is maximised; chain i climbs function i // (chains / functions).
        allowed: (chains, genes) -> (chains,) where each chain may go.
        starts: (chains, genes), allowed; chains is a multiple of the number of functions.
        rng: decides the moves.
        steps: moves tried by each chain.
        keep: networks returned for each function, at most.
    """
    compiled, cards = features.space.compiled, features.space.cardinalities
    x, every = compiled.canonical(starts), np.arange(len(starts))
    value = functions.one_each(features(x))
    heat = _HEAT * max(float(value.std()), 1e-9)
    rows = np.empty((steps + 1, *x.shape), dtype=np.uint8)
    values = np.empty((steps + 1, len(x)), dtype=np.float32)
    rows[0], values[0] = x, value
    for step in range(steps):
        y = x.copy()
        for _ in range(1 + int(rng.random() < _TWO)):
            gene = rng.integers(0, y.shape[1], len(y))
            shift = 1 + (rng.random(len(y)) * (cards[gene] - 1)).astype(np.int64)
            y[every, gene] = (y[every, gene] + shift) % cards[gene]
        y = compiled.canonical(y)
        new = functions.one_each(features(y))
        temperature = heat * _COOL ** (step / max(steps - 1, 1))
        take = rng.random(len(y)) < np.exp(np.minimum((new - value) / temperature, 0.0))
        take &= allowed(y)
        x[take], value[take] = y[take], new[take]
        rows[step + 1], values[step + 1] = x, value
    return _highest(rows, values, len(functions), keep)


def _highest(rows: Encodings, values: Singles, functions: int, keep: int) -> Visited:
    """From (steps, chains, genes) and (steps, chains): each function's `keep` highest distinct rows."""
    genes = rows.shape[2]
    grouped = rows.reshape(len(rows), functions, -1, genes).swapaxes(0, 1).reshape(functions, -1, genes)
    scored = values.reshape(len(rows), functions, -1).swapaxes(0, 1).reshape(functions, -1)
    found: list[tuple[Encodings, Singles]] = []
    for x, v in zip(grouped, scored, strict=True):
        # Chains stand still for steps on end: the first of equal rows in falling order is enough.
        order = np.argsort(-v, kind="stable")
        first = np.unique(np.ascontiguousarray(x[order]).view(f"V{genes}").ravel(), return_index=True)[1]
        at = order[np.sort(first)[:keep]]
        found.append((x[at], v[at]))
    number = np.repeat(np.arange(functions), [len(v) for _, v in found])
    return Visited(np.concatenate([x for x, _ in found]), number, np.concatenate([v for _, v in found]))
