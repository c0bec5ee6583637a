"""Takes out of a measurement what the board's speed did meanwhile: turbo, heat, a neighbour on the same machine.

Such phases last much longer than a visit and change all networks' times alike. In a shuffled pass the networks next to
each other are random ones, so the median of how far each is from its own usual time is the board's speed just then.

Notations
    t (visits,): log of each visit's time, in the order they were made; m (networks,): each network's usual log time.
    r = t - m[network of the visit]; speed (visits,): running median of r. m and speed take turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from latency.passes import Pass
from latency.session import Runs

WINDOW: Final = 25
"""Visits, half of them on each side, that tell the speed at one: fewer follow faster phases, more have less noise."""
_FEWEST: Final = 5
"""Networks below which neighbours tell nothing, and visits of a network on average."""
_TURNS: Final = 3


def detrend(passes: Sequence[Pass]) -> list[Pass]:
    """The passes with each visit's times divided by the board's speed at that moment; typically 1, so medians stay.

    Measurements of few networks are left as they are.
    """
    passes = sorted(passes, key=lambda p: p.number)
    names = [name for p in passes for name in p.runs]
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    if len(index) < _FEWEST or len(names) < _FEWEST * len(index):
        return passes
    which = np.array([index[name] for name in names], dtype=np.intp)
    t = np.array([np.log(max(float(np.mean(runs.totals)), 1.0)) for p in passes for runs in p.runs.values()])
    speed = _speed(t, which)
    factors = iter(np.exp(np.median(speed) - speed))
    return [replace(p, runs={name: _scaled(runs, next(factors)) for name, runs in p.runs.items()}) for p in passes]


def _speed(t: NDArray[np.float64], which: NDArray[np.intp]) -> NDArray[np.float64]:
    """(visits,) log of how slow the board was at each."""
    from scipy.ndimage import median_filter  # here: it takes a quarter of a second to import

    order = np.argsort(which, kind="stable")
    cuts = np.flatnonzero(np.diff(which[order])) + 1
    speed = np.zeros(len(t))
    for _ in range(_TURNS):
        usual = np.array([np.median(each) for each in np.split((t - speed)[order], cuts)])

        speed = median_filter(t - usual[which], size=WINDOW, mode="nearest")
    return speed


def _scaled(runs: Runs, factor: float) -> Runs:
    return Runs(
        tuple(round(ns * factor) for ns in runs.whole),
        tuple(tuple(round(ns * factor) for ns in run) for run in runs.timed),
    )
