"""Annealing as its peers published it, written plainly, to compare with.

Both keep the last accepted network, change one gene of it, and accept the result if it is better or with probability
exp((reward - base) / T), T = T0 * 0.85^iteration; the reward is the accuracy, base starts at -1. Encodings visited or
over a budget are drawn again; where a thousand draws find none (the originals then stop), one is drawn anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nas.feasible import FeasibleSet
from nas.objective import Budget
from nas.space import Encoding, SearchSpace
from nas.strategy import Role, Strategy, rng
from nas.trial import Trial

THETA = 0.85
PATIENCE = 1000


class PublishedAnnealing(Strategy):
    """Light-NAS (PaddleSlim): T0 = 1024, a mutation always changes its gene. SANAS: T0 = 1, it may draw what was."""

    def __init__(
        self, space: SearchSpace, budgets: Sequence[Budget], seed: int, *, t0: float, always_changes: bool
    ) -> None:
        self.space, self.feasible, self.seed = space, FeasibleSet(space, budgets), seed
        self.t0, self.always_changes = t0, always_changes
        self.visited: set[bytes] = set()
        self.accepted: Encoding | None = None
        self.base = -1.0

    def ask(self, number: int) -> Encoding:
        """A mutation of the accepted network."""
        random = rng(self.seed, number, Role.PROPOSE)
        row = self._mutated(random) if self.accepted is not None else self.feasible.draw(random, 1)[0]
        self.visited.add(row.tobytes())
        return row

    def tell(self, trial: Trial) -> None:
        """Accept or keep."""
        reward = trial.reward or 0.0
        temperature = self.t0 * THETA**trial.number
        luck = rng(self.seed, trial.number, Role.ACCEPT).random()
        if reward > self.base or luck <= math.exp((reward - self.base) / temperature):
            self.accepted, self.base = self.space.row(trial.encoding), reward

    def restore(self, trial: Trial) -> None:
        """Never called."""
        raise NotImplementedError("benchmarks run to their end")

    def _mutated(self, random: np.random.Generator) -> Encoding:
        assert self.accepted is not None
        for _ in range(PATIENCE):
            row = self.accepted.copy()
            gene = int(random.integers(len(row)))
            choices = int(self.space.cardinalities[gene])
            if self.always_changes:
                row[gene] = (row[gene] + random.integers(1, choices)) % choices
            else:
                row[gene] = random.integers(choices)
            if row.tobytes() not in self.visited and self.feasible.contains(row[None])[0]:
                return row
        while True:
            row = self.feasible.draw(random, 1)[0]
            if row.tobytes() not in self.visited:
                return row


def light_nas(space: SearchSpace, budgets: Sequence[Budget] = (), seed: int = 0) -> Strategy:
    """Annealing with Light-NAS's constants."""
    return PublishedAnnealing(space, budgets, seed, t0=1024.0, always_changes=True)


def sanas(space: SearchSpace, budgets: Sequence[Budget] = (), seed: int = 0) -> Strategy:
    """Annealing with SANAS's constants."""
    return PublishedAnnealing(space, budgets, seed, t0=1.0, always_changes=False)


PEERS = {"light-nas": light_nas, "sanas": sanas}
