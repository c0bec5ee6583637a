"""Strategies by name: ours, Optuna's samplers, and third parties' (entry points `lightnas.strategies`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any

from nas.errors import NasError, UnknownPlugin
from nas.objective import Budget
from nas.space import SearchSpace
from nas.strategies.annealing import Annealing
from nas.strategies.uniform import Uniform
from nas.strategy import Strategy

# A factory is called as factory(space, budgets, seed, **options).
StrategyFactory = Callable[..., Strategy]
OPTUNA_SAMPLERS = ("tpe", "nsga2", "gp")


def strategy_names() -> list[str]:
    """Names `build_strategy` knows."""
    return [
        "guided",
        "annealing",
        "random",
        *OPTUNA_SAMPLERS,
        *sorted(e.name for e in entry_points(group="lightnas.strategies")),
    ]


def build_strategy(
    name: str, space: SearchSpace, budgets: Sequence[Budget] = (), seed: int = 0, **options: Any
) -> Strategy:
    """The strategy of that name; `optuna:tpe` means `tpe`.

    Args:
        name: one of `strategy_names()`.
        space: what it proposes from.
        budgets: hard limits every proposal keeps.
        seed: with a trial's number it decides all randomness.
        options: of the strategy (guided: `startup`, `beta`, `front`; annealing: `t0`, `theta`, `start`, `chains`).

    Raises:
        UnknownPlugin: no such name; lists what there is.
        NasError: the strategy does not know an option.
        ImpossibleBudget: nothing keeps the budgets.
    """
    factory = _factory(name)
    try:
        return factory(space, budgets, seed, **options)
    except TypeError as e:
        if "argument" not in str(e):
            raise
        raise NasError(f"strategy {name} cannot be built with {', '.join(options)}: {e}") from e


def _factory(name: str) -> StrategyFactory:
    short = name.removeprefix("optuna:")
    if short in OPTUNA_SAMPLERS:
        from nas.strategies.optuna import OptunaStrategy  # here: optuna takes half a second to import

        return lambda *args, **options: OptunaStrategy(*args, sampler=short, **options)
    if name == "guided":
        from nas.strategies.guided import Guided  # here: scipy takes a quarter of a second to import

        return Guided
    if name == "annealing":
        return Annealing
    if name == "random":
        return Uniform
    for entry in entry_points(group="lightnas.strategies", name=name):
        found: StrategyFactory = entry.load()
        return found
    raise UnknownPlugin(f"no strategy {name!r}; there are {', '.join(strategy_names())}")
