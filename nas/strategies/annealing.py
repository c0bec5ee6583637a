"""Simulated annealing as Light-NAS defines it, with a uniform warm-up, several chains and restarts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.candidates import Candidates
from nas.errors import InvalidEncoding, NasError
from nas.objective import Budget
from nas.space import Encoding, Encodings, SearchSpace
from nas.strategy import Role, Strategy, rng
from nas.trial import Trial, TrialState

# Chosen on benchmarks/simulated_objectives.py; halving or doubling one changes the regret there by about 25 % at most.
THETA = 0.95
CHAINS = 4
STEP_FRACTION = 0.05  # T0 in typical steps between two uniform rewards: about the noise of one evaluation
_CALIBRATION = 10  # rewards T0 is taken from
_WARM_UP = 1 / 2  # uniform trials before the first chain, per gene
_MUTATED = 1 / 8  # of all genes change on average at T0, which cools down to
_MORE = 0.3  # genes beyond the first: enough to swap along the edge of a budget
_MEMORY = 1 / 2  # trials, per gene, after which the mutation of a gene is mostly forgotten
_OPENING = 40  # trials between the openings of two chains: few evaluations are best spent by one chain
_PATIENCE = 8  # trials without a better reward after which a chain restarts
_ELITE = 3  # best trials so far, from which chains start and restart
_BATCH = 32  # mutants drawn before the nearest fresh network is taken
_SMALLEST = 1e-12  # a temperature: below it a loss is never accepted


@dataclass
class _Chain:
    """One annealing chain.

    Attributes:
        tries: (genes,) how often each gene was mutated lately; a mutation of several genes is shared among them.
        accepted: the network whose mutants are proposed; None before the first is accepted.
        number: of the trial that had it.
        reward: of `accepted`.
        best: highest reward since the last restart.
        stale: trials told since `best` rose.
        temperature: of the last decision.
    """

    tries: NDArray[np.float64]
    accepted: Encoding | None = None
    number: int | None = None
    reward: float = -math.inf
    best: float = -math.inf
    stale: int = 0
    temperature: float | None = None

    def accept(self, number: int, row: Encoding, reward: float) -> None:
        self.number, self.accepted, self.reward = number, row, reward

    def restart(self, number: int, row: Encoding, reward: float) -> None:
        self.accept(number, row, reward)
        self.best, self.stale = reward, 0


class Annealing(Strategy):
    """T_k = T0·θ^k; the network of reward r_k is accepted if r_k >= r, else with probability exp((r_k − r)/T_k).

    r is the last accepted reward of the trial's chain, k counts the trials after a warm-up: as many uniform trials as
    half the genes, at whose best the first chain starts. With `start` it starts there, without a warm-up. Every 40
    trials another chain opens, until there are `chains`; they take turns. A proposal changes one gene or more of its
    chain's last accepted network, those not mutated lately before the others; first an eighth of the genes on average,
    ever fewer as T_k falls. It stays inside the budgets and is new; where no such mutant is found, it is the nearest
    new network. A chain whose best reward has not risen for 8 trials restarts at one of the 3 best networks so far; a
    chain that opens starts there, too. Trials that are not complete are never accepted.

    Without `t0`, T0 is a twentieth of the median absolute difference between consecutive rewards among the first 10
    (of those told so far, while they are fewer).

    Args:
        space: what is searched.
        budgets: hard limits.
        seed: decides all randomness.
        t0: first temperature, in units of reward.
        theta: the temperature's factor per trial, in (0, 1].
        start: the first network: choice indices, or their text joined by commas.
        chains: how many at most.

    Raises:
        ImpossibleBudget: nothing keeps the budgets.
        InvalidEncoding: `start` is not of the space or breaks a budget.
        NasError: a temperature or the number of chains makes no sense.
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
        chains: int = CHAINS,
    ) -> None:
        if t0 is not None and not (math.isfinite(t0) and t0 > 0):
            raise NasError(f"annealing: t0 must be a positive number, not {t0:g}")
        if not 0 < theta <= 1:
            raise NasError(f"annealing: theta must be above 0 and at most 1, not {theta:g}")
        if not isinstance(chains, int) or chains < 1:
            raise NasError(f"annealing: chains must be a whole number of at least 1, not {chains}")
        self.candidates, self.seed, self.theta = Candidates(space, budgets), seed, theta
        self._start = None if start is None else self._checked(start)
        self._warm_up = max(1, round(_WARM_UP * len(space.genes))) if start is None else 0
        self._given_t0, self._first_rewards = t0, list[float]()
        self._most = chains
        self._chains = [self._new_chain()]
        self._chain_of: dict[int, _Chain] = {}  # of trials asked and not told
        self._attrs: dict[int, Mapping[str, Any]] = {}  # of the same
        self._elite: list[tuple[float, int, Encoding]] = []  # (reward, -number, row), best first

    def ask(self, number: int) -> Encoding:
        """A row for trial `number`: the start, a uniform network, or a fresh mutant of its chain's accepted one."""
        random = rng(self.seed, number, Role.PROPOSE)
        base = self._assign(number).accepted
        if number == 0 and self._start is not None:
            row = self._start
        elif number < self._warm_up or base is None:
            row = self.candidates.sample(random)
        else:
            mutants = self._mutants(base, number, random)
            fresh = np.flatnonzero(self.candidates.fresh(mutants))
            row = mutants[fresh[0]] if len(fresh) else self.candidates.near(base, random)
        self._proposed(number, row)
        return row

    def tell(self, trial: Trial) -> None:
        """The trial's chain accepts its network or keeps the last accepted one, and restarts when it is stuck."""
        chain = self._chain_of.pop(trial.number, self._chains[0])
        self._attrs.pop(trial.number, None)
        random = rng(self.seed, trial.number, Role.ACCEPT)
        luck = random.random()
        chain.stale += 1
        if trial.state is TrialState.COMPLETE and trial.reward is not None:
            self._learn(trial, trial.reward)
            chain.temperature = self._temperature(trial.number)
            loss = chain.reward - trial.reward
            warm = trial.number < self._warm_up
            if loss <= 0 or (not warm and luck < math.exp(-loss / chain.temperature)):
                chain.accept(trial.number, self.candidates.space.row(trial.encoding), trial.reward)
            if trial.reward > chain.best:
                chain.best, chain.stale = trial.reward, 0
        if trial.number < self._warm_up or not self._elite:
            return
        if len(self._chains) < min(self._most, 1 + (trial.number + 1 - self._warm_up) // _OPENING):
            self._chains.append(chain := self._new_chain())
        if chain.accepted is None or chain.stale >= _PATIENCE:
            reward, negative, row = self._elite[random.integers(len(self._elite))]
            chain.restart(-negative, row, reward)

    def restore(self, trial: Trial) -> None:
        """The trial's network is not proposed again, and belongs to the chain it was asked for."""
        self._assign(trial.number)
        self._attrs[trial.number] = trial.attrs  # also of one that is retried: what was so when it was proposed
        self._proposed(trial.number, self.candidates.space.row(trial.encoding))

    def attrs(self, number: int) -> Mapping[str, Any]:
        """How a trial still in flight was proposed.

        `chain` is the index of its chain; `temperature` the chain's then, None in the warm-up and before two rewards
        are known; `base` the number of the trial whose network the chain held, None in the warm-up. So trial m of a
        chain was accepted if a later trial of that chain has base m: by the rule if the chain's next proposal after m
        was told has it, else at a restart. Of a chain that restarts right after accepting, no trial shows it. While
        T0 is calibrated, the temperature of the decision may differ a little.
        """
        return self._attrs[number]

    def learn(self, trials: Sequence[Trial]) -> None:
        """Start at the best complete one of these trials inside the budgets, unless `start` was given."""
        inside = self.candidates.feasible.contains
        best = max(
            (
                t
                for t in trials
                if t.state is TrialState.COMPLETE and inside(self.candidates.space.validate(t.encoding))[0]
            ),
            key=lambda t: (t.reward or 0.0, -t.number),
            default=None,
        )
        if self._start is None and best is not None:
            self._start, self._warm_up = self.candidates.space.row(best.encoding), 0

    def state(self) -> Mapping[str, Any]:
        """Per chain: temperature of its last decision, accepted reward and encoding; None before there are any."""
        return {
            "chains": [
                {
                    "temperature": c.temperature,
                    "accepted_reward": None if c.accepted is None else c.reward,
                    "accepted": None if c.accepted is None else c.accepted.tolist(),
                }
                for c in self._chains
            ]
        }

    # Parts -----------------------------------------------------------------------------------------------------

    def _new_chain(self) -> _Chain:
        return _Chain(np.zeros(len(self.candidates.space.genes)))

    def _assign(self, number: int) -> _Chain:
        """The chain trial `number` belongs to: those open by now take turns."""
        index = number % len(self._chains)
        chain = self._chain_of[number] = self._chains[index]
        warm = number < self._warm_up
        self._attrs[number] = {
            "temperature": None if warm or not self._calibrated else self._temperature(number),
            "chain": index,
            "base": None if warm else chain.number,
        }
        return chain

    def _proposed(self, number: int, row: Encoding) -> None:
        self.candidates.mark(row)
        chain = self._chain_of[number]
        if number >= self._warm_up and chain.accepted is not None:
            changed = chain.accepted != row
            chain.tries += changed / max(1, changed.sum())
            chain.tries *= max(0.0, 1.0 - 1.0 / (_MEMORY * len(row)))

    def _mutants(self, base: Encoding, number: int, random: np.random.Generator) -> Encodings:
        """(batch, genes) mutants of `base` (genes,), each with other genes and other values."""
        cardinalities, genes = self.candidates.space.cardinalities, len(base)
        shape = (_BATCH, genes)
        more = _MORE + max(0.0, _MUTATED * genes - 1.0) * self._cooling(number)
        order = random.random(shape) + self._chain_of[number].tries
        extra = random.binomial(genes - 1, min(1.0, more / max(1, genes - 1)), size=(_BATCH, 1))
        changes = order.argsort(axis=1).argsort(axis=1) <= extra
        shift = 1 + (random.random(shape) * (cardinalities - 1)).astype(np.int64)
        return np.where(changes, (base + shift) % cardinalities, base).astype(np.uint8)

    def _learn(self, trial: Trial, reward: float) -> None:
        if len(self._first_rewards) < _CALIBRATION:
            self._first_rewards.append(reward)
        if len(self._elite) < _ELITE or reward > self._elite[-1][0]:
            self._elite.append((reward, -trial.number, self.candidates.space.row(trial.encoding)))
            self._elite = sorted(self._elite, key=lambda e: e[:2], reverse=True)[:_ELITE]

    def _cooling(self, number: int) -> float:
        """θ^k of trial `number`."""
        return float(self.theta ** max(0, number - self._warm_up))

    def _temperature(self, number: int) -> float:
        return max(self._t0() * self._cooling(number), _SMALLEST)

    @property
    def _calibrated(self) -> bool:
        return self._given_t0 is not None or len(self._first_rewards) > 1

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
