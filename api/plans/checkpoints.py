"""Checkpoints that a user names: pinned by their content; what they give is checked and told before any training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from api.errors import OptionError
from nas.feasible import FeasibleSet

if TYPE_CHECKING:
    from api.plans.plan import Plan
    from nas.weights import Fit, Weights

_EXAMPLES = 8


def pin(option: str, path: Path) -> dict[str, str]:
    """The evaluator's options for a checkpoint (`init`, `teacher`): its absolute path, and what the file holds now.

    Raises:
        WeightsError: it cannot be read.
    """
    from nas.weights import Weights

    found = Weights.load(path.expanduser().absolute())
    return {option: str(found.path), f"{option}_digest": found.digest}


def check_init(plan: Plan, options: Mapping[str, Any]) -> None:
    """Raises OptionError if nothing of the checkpoint that trainings start from matches the plan's networks."""
    weights = _weights(options)
    if weights is None or any(fit.share for fit in _fits(plan, weights)):
        return
    from nas.weights.names import UNDERSTOOD, first_names

    raise OptionError(
        f"{weights.path} has nothing for the networks of {plan.space.name}: its ops are {first_names(weights.layers)}; "
        f"understood are {UNDERSTOOD}"
    )


def describe_init(plan: Plan) -> str | None:
    """One line for people on what matched, by an example drawn from the networks inside the budgets; None without."""
    weights = _weights(plan.spec.evaluator_options) if plan.spec.evaluator == "training" else None
    if weights is None:
        return None
    from nas.weights.names import first_names

    ignored = f"; not understood: {first_names(weights.ignored)}" if weights.ignored else ""
    example = next(_fits(plan, weights))
    return f"weights of {weights.path.name} ({weights.layout}), in an example network: {example}{ignored}"


def _weights(options: Mapping[str, Any]) -> Weights | None:
    path = options.get("init")
    if path is None:
        return None
    from nas.weights import Weights

    return Weights.load(Path(path))


def _fits(plan: Plan, weights: Weights) -> Iterator[Fit]:
    """Of some networks inside the budgets, always the same."""
    from nas.network import Network

    for row in FeasibleSet(plan.space, plan.budgets).draw(np.random.default_rng(0), _EXAMPLES):
        yield weights.fit(Network(plan.space.graph(row)))
