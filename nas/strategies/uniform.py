"""Random search: the baseline every strategy must beat."""

from __future__ import annotations

from collections.abc import Sequence

from nas.candidates import Candidates
from nas.objective import Budget
from nas.space import Encoding, SearchSpace
from nas.strategy import Role, Strategy, rng
from nas.trial import Trial


class Uniform(Strategy):
    """Uniform over the distinct networks inside the budgets, without repetition."""

    def __init__(self, space: SearchSpace, budgets: Sequence[Budget] = (), seed: int = 0) -> None:
        self.candidates, self.seed = Candidates(space, budgets), seed

    def ask(self, number: int) -> Encoding:
        """A row for trial `number`."""
        row = self.candidates.sample(rng(self.seed, number, Role.PROPOSE))
        self.candidates.mark(row)
        return row

    def tell(self, trial: Trial) -> None:
        """Nothing is learnt."""

    def restore(self, trial: Trial) -> None:
        """The trial's network is not proposed again."""
        self.candidates.mark(self.candidates.space.row(trial.encoding))
