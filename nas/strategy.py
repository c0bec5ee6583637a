"""The Strategy port: proposes encodings (`ask`), learns from trials (`tell`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from nas.errors import NasError
from nas.space import Encoding
from nas.trial import Trial


class Role(IntEnum):
    """What a trial's randomness is for; each role has a stream of its own."""

    PROPOSE = 0
    ACCEPT = 1
    EVALUATE = 2
    FINAL = 3


def rng(seed: int, number: int, *role: int) -> np.random.Generator:
    """The generator of trial `number` of a search for one role (and, below it, one attempt)."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, *role)))


def seed32(seed: int, number: int, *role: int) -> int:
    """Like `rng`, as a 32-bit seed for libraries that want a number."""
    return int(np.random.SeedSequence(seed, spawn_key=(number, *role)).generate_state(1)[0])


@dataclass(frozen=True)
class Beliefs:
    """What a strategy thinks of its own result.

    Attributes:
        recommended: number of the complete trial that is most likely best.
        expected_regret: by how much the best network of all is expected to beat it, in units of reward.
    """

    recommended: int
    expected_regret: float


class Strategy(ABC):
    """Proposes encodings. Proposal n depends only on (space, budgets, seed, n, trials told, rows asked before).

    The search tells it, before trial n is asked, exactly the trials 0 … n−k in number order (k: trials in flight), so
    a parallel search repeats whatever order its trials end in. Randomness comes from `rng(seed, n, role)` only, never
    from state kept between calls: a strategy is rebuilt by `restore` and `tell` of the logged trials and goes on
    identically.
    """

    @abstractmethod
    def ask(self, number: int) -> Encoding:
        """A row (genes,) uint8 for trial `number`: inside the budgets and equal to no network asked before.

        Raises:
            SpaceExhausted: there is none left.
        """

    @abstractmethod
    def tell(self, trial: Trial) -> None:
        """A finished (complete, pruned or failed) trial; called in number order.

        A pruned one carries what it reached at its rung: look at `state`, not only at `reward`.
        """

    @abstractmethod
    def restore(self, trial: Trial) -> None:
        """In place of `ask(trial.number)`: an earlier process already asked and got `trial.encoding`."""

    def learn(self, trials: Sequence[Trial]) -> None:
        """Finished trials of an earlier search of the same space: knowledge, told before all else, once.

        Raises:
            NasError: the strategy can make nothing of them.
        """
        raise NasError(
            f"{type(self).__name__} cannot start from an earlier search; use the strategy guided or annealing"
        )

    def attrs(self, number: int) -> Mapping[str, Any]:
        """JSON to log with trial `number` so that `restore` can rebuild what `ask` knew; empty for most."""
        return {}

    def beliefs(self, number: int) -> Beliefs | None:
        """What a strategy with a model thinks after the trials told so far, when `number` of them were asked.

        Others return None: then the trial of the highest reward is the one to take.
        """
        return None

    def state(self) -> Mapping[str, Any]:
        """What a person would like to see of it now (temperature, last accepted reward); JSON types."""
        return {}
