"""What every Strategy must keep, as plain asserts: run it over a strategy of your own.

from nas.contracts import check_strategy
check_strategy(lambda: MyStrategy(space, budgets, seed=0), space, budgets)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence

import numpy as np

from nas.errors import SpaceExhausted
from nas.objective import Budget, inside
from nas.space import Encoding, SearchSpace
from nas.strategy import Strategy
from nas.trial import Trial

Objective = Callable[[Encoding], float | None]


def smooth_objective(space: SearchSpace) -> Objective:
    """A made-up accuracy in [0, 1] that rises with each gene, uneven between genes; each 11th sort of row fails."""
    weight = 1.0 / (2.0 + np.arange(len(space.genes)))

    def accuracy(row: Encoding) -> float | None:
        if int(row.astype(np.int64).sum()) % 11 == 10:
            return None
        return float((weight * row / (space.cardinalities - 1)).sum() / weight.sum())

    return accuracy


def play(
    build: Callable[[], Strategy],
    objective: Objective,
    trials: int,
    *,
    parallel: int = 1,
    rebuild_before: Collection[int] = (),
) -> list[Trial]:
    """`play_out` with an objective: encoding -> accuracy, or None for a failure."""

    def ends(trial: Trial) -> Trial:
        accuracy = objective(np.array(trial.encoding, dtype=np.uint8))
        return trial.failed("made up", 0.0) if accuracy is None else trial.complete(accuracy, accuracy, 0.0, {})

    return play_out(build, ends, trials, parallel=parallel, rebuild_before=rebuild_before)


def play_out(
    build: Callable[[], Strategy],
    ends: Callable[[Trial], Trial],
    trials: int,
    *,
    parallel: int = 1,
    rebuild_before: Collection[int] = (),
) -> list[Trial]:
    """Trials as a search would make them, told as late as `parallel` allows; fewer if the space is exhausted.

    Args:
        build: a fresh strategy.
        ends: makes of a running trial its complete, pruned or failed form.
        trials: how many.
        parallel: trials in flight.
        rebuild_before: the strategy is thrown away and rebuilt from the trials before asking these.
    """
    strategy, made, told = build(), list[Trial](), 0

    def tell_through(last: int) -> None:
        nonlocal told
        while told <= last:
            strategy.tell(made[told])
            told += 1

    for number in range(trials):
        if number in rebuild_before:
            strategy, told = build(), 0
            for trial in made:
                tell_through(trial.number - parallel)
                strategy.restore(trial)
        tell_through(number - parallel)
        try:
            row = strategy.ask(number)
        except SpaceExhausted:
            break
        attrs = json.loads(json.dumps(dict(strategy.attrs(number))))
        made.append(ends(Trial(number, tuple(row.tolist()), attrs=attrs)))
    return made


def check_strategy(
    build: Callable[[], Strategy],
    space: SearchSpace,
    budgets: Sequence[Budget] = (),
    *,
    trials: int = 30,
    parallel: Sequence[int] = (1, 3),
) -> None:
    """Assert the contract of `nas.strategy.Strategy`.

    Proposals are valid, inside the budgets and never equal networks; the same strategy makes the same trials again,
    and so does one rebuilt from the trials between any two asks; attributes are JSON.

    Raises:
        AssertionError: naming what is broken.
    """
    objective = smooth_objective(space)
    for k in parallel:
        made = play(build, objective, trials, parallel=k)
        rows = space.validate([t.encoding for t in made])
        assert inside(budgets, rows).all(), f"parallel {k}: a proposal breaks a budget"
        distinct = {row.tobytes() for row in space.canonical(rows)}
        assert len(distinct) == len(rows), f"parallel {k}: {len(rows) - len(distinct)} proposal(s) repeat a network"
        assert play(build, objective, trials, parallel=k) == made, f"parallel {k}: a second run differs"
        for step in (1, 7):
            rebuilt = play(build, objective, trials, parallel=k, rebuild_before=range(step, trials, step))
            differs = [a.number for a, b in zip(made, rebuilt, strict=False) if a != b]
            assert rebuilt == made, f"parallel {k}: rebuilt every {step} trials it differs from {differs[:1]} on"
