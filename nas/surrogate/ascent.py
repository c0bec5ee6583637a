"""The last steps up: from the best network a chain met to one that no single gene improves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.space import Encodings
from nas.surrogate.chains import Visited
from nas.surrogate.features import Features
from nas.surrogate.process import Draws

Values = NDArray[np.floating[Any]]

_TOGETHER = (1, 2, 4, 8)  # genes changed at once: the best so many, each to its best value


def ascend(
    features: Features,
    functions: Draws,
    inside: Callable[[Encodings], NDArray[np.bool_]],
    starts: Encodings,
    *,
    rounds: int,
    keep: int,
) -> Visited:
    """Climb each function from its own start: every single change is tried, the best ones of different genes together.

    Genes mostly add up, so a few rounds end where steepest ascent needs one for every gene.

    Args:
        features: of the space.
        functions: what is maximised.
        inside: (n, genes) -> (n,) where they may go.
        starts: (functions, genes), inside.
        rounds: at most.
        keep: of the last round's networks, the highest of each function that are returned, the end of its climb among
            them.
    """
    compiled, cards = features.space.compiled, features.space.cardinalities
    gene = np.repeat(np.arange(len(cards)), cards - 1)
    shift = np.concatenate([np.arange(1, c) for c in cards])
    count, every = len(functions), np.arange(len(functions))
    x = compiled.canonical(starts)
    value = functions.one_each(features(x))
    for _ in range(rounds):
        near = np.repeat(x[:, None], len(gene), axis=1)
        near[:, np.arange(len(gene)), gene] = (x[:, gene] + shift) % cards[gene]
        flat = compiled.canonical(near.reshape(-1, x.shape[1]))
        around = np.where(inside(flat), functions.one_each(features(flat)), -np.inf).reshape(count, -1)
        # Per gene its best value, then the genes that gain most.
        best = np.stack([around[:, gene == g].max(axis=1) for g in range(len(cards))], axis=1)
        choice = np.stack([near[every, _at(around, gene == g), g] for g in range(len(cards))], axis=1)
        rank = np.argsort(np.argsort(-best, axis=1, kind="stable"), axis=1)
        gains = best > value[:, None]
        tried = [np.where((rank < k) & gains, choice, x) for k in _TOGETHER]
        combined = compiled.canonical(np.stack(tried, axis=1).reshape(-1, x.shape[1]))
        found = np.where(inside(combined), functions.one_each(features(combined)), -np.inf).reshape(count, -1)
        taken = found.argmax(axis=1)
        better = found[every, taken] > value
        x[better] = combined.reshape(count, -1, x.shape[1])[every, taken][better]
        value[better] = found[every, taken][better]
        if not better.any():
            break
    return _highest(flat.reshape(count, -1, x.shape[1]), around, x, value, keep)


def _at(around: Values, mine: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(functions,) which of the neighbours in `mine` is highest."""
    return np.asarray(np.flatnonzero(mine)[around[:, mine].argmax(axis=1)])


def _highest(near: Encodings, around: Values, x: Encodings, value: Values, keep: int) -> Visited:
    """The ends x (functions, genes), and the highest of the last round's neighbours (functions, k, genes)."""
    order = np.argsort(-around, axis=1, kind="stable")[:, : keep - 1]
    rows = np.concatenate([x[:, None], np.take_along_axis(near, order[:, :, None], axis=1)], axis=1)
    values = np.concatenate([value[:, None], np.take_along_axis(around, order, axis=1)], axis=1).ravel()
    number = np.repeat(np.arange(len(x)), 1 + order.shape[1])
    real = np.isfinite(values)
    return Visited(rows.reshape(-1, x.shape[1])[real], number[real], values[real].astype(np.float32))
