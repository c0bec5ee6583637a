"""Simulated annealing as Light-NAS defines it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from nas.candidates import Candidates
from nas.errors import InvalidEncoding, NasError
from nas.objective import Budget
from nas.space import Encoding, SearchSpace
from nas.strategy import Role, Strategy, rng
from nas.trial import Trial, TrialState

THETA = 0.95
CALIBRATION = 10  # rewards the first temperature is taken from
# T0 = a tenth of the typical step between two first rewards: a typical loss is refused (e^-10), a loss as small as the
# noise between seeds is not. Chosen on NAS-Bench-Macro, seeds 1000-1199; anything from 0 to 0.3 does nearly as well.
STEP_FRACTION = 0.1
_SMALLEST = 1e-12  # a temperature: below it a loss is never accepted


class Annealing(Strategy):
    """T_k = T0·θ^k; the network of reward r_k is accepted if r_k >= r, else with probability exp((r_k − r)/T_k).

    r is the last accepted reward and starts at 0. The first network is random or `start`; each further one changes one
    gene of the last accepted network, stays inside the budgets and is new. Where no such network is left, two genes
    are changed, then three, and so on. Failed trials are never accepted.

    Without `t0`, T0 is a tenth of the median absolute difference between consecutive rewards among the first 10 (of
    those told so far, while they are fewer).

    Args:
        space: what is searched.
        budgets: hard limits.
        seed: decides all randomness.
        t0: first temperature, in units of reward.
        theta: the temperature's factor per trial, in (0, 1].
        start: the first network: choice indices, or their text joined by commas.

    Raises:
        ImpossibleBudget: nothing keeps the budgets.
        InvalidEncoding: `start` is not of the space or breaks a budget.
        NasError: a temperature makes no sense.
    """

    def __init__(
        self,
        space: SearchSpace,
        budgets: Sequence[Budget] = (),
        seed: int = 0,
        *,
        t0: float | None = None,
        theta: float = THETA,
        start: str | Sequence[int] | None = None,
    ) -> None:
        if t0 is not None and not (math.isfinite(t0) and t0 > 0):
            raise NasError(f"annealing: t0 must be a positive number, not {t0:g}")
        if not 0 < theta <= 1:
            raise NasError(f"annealing: theta must be above 0 and at most 1, not {theta:g}")
        self.candidates, self.seed, self.theta = Candidates(space, budgets), seed, theta
        self._start = None if start is None else self._checked(start)
        self._given_t0, self._first_rewards = t0, list[float]()
        self._accepted: Encoding | None = None
        self._reward, self._temperature = 0.0, t0

    def ask(self, number: int) -> Encoding:
        """A row for trial `number`: the start, or a fresh neighbour of the last accepted network."""
        random = rng(self.seed, number, Role.PROPOSE)
        if number == 0 and self._start is not None:
            row = self._start
        elif self._accepted is None:
            row = self.candidates.sample(random)
        else:
            row = self.candidates.near(self._accepted, random)
        self.candidates.mark(row)
        return row

    def tell(self, trial: Trial) -> None:
        """Accept the trial's network or keep the last accepted one."""
        if trial.state is not TrialState.COMPLETE or trial.reward is None:
            return
        if len(self._first_rewards) < CALIBRATION:
            self._first_rewards.append(trial.reward)
        self._temperature = max(self._t0() * self.theta**trial.number, _SMALLEST)
        loss = self._reward - trial.reward
        luck = rng(self.seed, trial.number, Role.ACCEPT).random()
        if loss <= 0 or luck < math.exp(-loss / self._temperature):
            self._accepted, self._reward = self.candidates.space.row(trial.encoding), trial.reward

    def restore(self, trial: Trial) -> None:
        """The trial's network is not proposed again."""
        self.candidates.mark(self.candidates.space.row(trial.encoding))

    def state(self) -> Mapping[str, Any]:
        """Temperature of the last decision, accepted reward and encoding."""
        accepted = None if self._accepted is None else self._accepted.tolist()
        return {"temperature": self._temperature, "accepted_reward": self._reward, "accepted": accepted}

    def _t0(self) -> float:
        if self._given_t0 is not None:
            return self._given_t0
        steps = [abs(b - a) for a, b in zip(self._first_rewards, self._first_rewards[1:], strict=False)]
        return STEP_FRACTION * median(steps) if steps else _SMALLEST

    def _checked(self, start: str | Sequence[int]) -> Encoding:
        space = self.candidates.space
        row = space.parse(start) if isinstance(start, str) else space.row(start)
        for budget in self.candidates.feasible.budgets:
            if not budget.allows(row[None])[0]:
                raise InvalidEncoding(
                    f"the start {','.join(map(str, row))} has {budget.metric} {budget.cost.one(row):.6g}, over the "
                    f"budget of {budget.limit:g}; start inside it"
                )
        return row
