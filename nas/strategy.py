"""The Strategy port: proposes encodings (`ask`), learns from trials (`tell`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from nas.space import Encoding
from nas.trial import Trial


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
        """A finished (complete or failed) trial; called in number order."""

    @abstractmethod
    def restore(self, trial: Trial) -> None:
        """In place of `ask(trial.number)`: an earlier process already asked and got `trial.encoding`."""

    def attrs(self, number: int) -> Mapping[str, Any]:
        """JSON to log with trial `number` so that `restore` can rebuild what `ask` knew; empty for most."""
        return {}

    def state(self) -> Mapping[str, Any]:
        """What a person would like to see of it now (temperature, last accepted reward); JSON types."""
        return {}
