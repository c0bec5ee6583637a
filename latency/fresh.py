"""Fresh networks: what a table is calibrated and judged on, none of them made to cover ops."""

from __future__ import annotations

import numpy as np

from nas.cost import flops_model
from nas.errors import NasError
from nas.feasible import FeasibleSet
from nas.graph import Graph
from nas.objective import Budget
from nas.space import Encodings, SearchSpace

_LEVELS = 6


def fresh_encodings(space: SearchSpace, count: int, seed: int) -> Encodings:
    """(≤ count, genes) distinct networks: every other one drawn uniformly, the others below FLOPs limits spread evenly.

    Uniform samples of a large space are all of middling cost; a search under a budget asks about the cheap ones.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    flops = flops_model(space)
    uniform = space.sample(rng, 4 * count)
    low, high = flops.minimum()[0], float(np.median(flops(uniform)))
    below: list[Encodings] = []
    for limit in np.geomspace(max(low, 1.0), max(high, low, 1.0), _LEVELS + 1)[1:]:
        try:
            inside = FeasibleSet(space, (Budget("flops", float(limit), flops),))
            below.append(inside.draw(rng, -(-2 * count // _LEVELS)))
        except NasError:
            continue  # no network of the space lies below this limit
    spread = [row for rows in zip(*below, strict=False) for row in rows] if below else []
    mixed = [row for pair in zip(uniform, [*spread, *uniform[len(spread) :]], strict=False) for row in pair]
    distinct = dict.fromkeys(tuple(int(v) for v in row) for row in space.canonical(np.array(mixed, dtype=np.uint8)))
    return np.array(list(distinct)[:count], dtype=np.uint8).reshape(-1, len(space.genes))


def fresh_graphs(space: SearchSpace, count: int, seed: int) -> list[Graph]:
    """The networks of `fresh_encodings`; a tiny space may have fewer than asked for."""
    return [space.graph(row) for row in fresh_encodings(space, count, seed)]
