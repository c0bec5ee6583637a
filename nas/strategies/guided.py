"""`guided`: simulated annealing over a surrogate of the reward, so that only what promises most is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.candidates import Candidates
from nas.cost import CostModel
from nas.errors import NasError
from nas.objective import Budget
from nas.space import Encoding, Encodings, SearchSpace
from nas.strategy import Beliefs, Role, Strategy, rng
from nas.surrogate.acquisition import Front, upper_bound
from nas.surrogate.ascent import ascend
from nas.surrogate.chains import Visited, anneal
from nas.surrogate.features import Described, Features
from nas.surrogate.process import Draws, Posterior, fit_variances
from nas.surrogate.targets import Targets, Told, memorable
from nas.surrogate.threads import one_thread
from nas.trial import Trial

Floats = NDArray[np.float64]

STARTUP = 6  # uniform networks before the surrogate proposes
BETA = 1.0  # of the upper confidence bound, in standard deviations
OWN = 0.25  # share of a trial's deviation from the surrogate that is the network's own, not luck
DRAWS = 8  # functions of the posterior whose optima are looked for, besides its mean
_CHAINS = 8  # of each
_STEPS = 20  # moves of each
_ROUNDS = 5  # of the ascent behind them
_AROUND = 8  # networks around its end that are judged exactly, too
_KEEP = 32  # networks of each that are judged exactly
_LISTED = 4096  # networks that are all looked at, instead of climbed to
_KNOWN = 256  # trials that are learnt from
_FITTED = 128  # trials that the variances are fitted to
_EVERY = 20  # up to so many trials they are fitted anew each time, then whenever there are a tenth more
_GROWTH = 1.1


@dataclass(frozen=True)
class _View:
    """What the told trials say, and where that is highest.

    Attributes:
        told: the trials learnt from.
        targets, rows: theirs.
        posterior: made of them.
        draws: of it.
        met: the highest networks of each draw.
    """

    told: Sequence[Told]
    targets: Targets
    rows: Encodings
    posterior: Posterior
    draws: Draws
    met: Visited

    def beliefs(self, features: Features) -> Beliefs | None:
        """None without a complete trial of this search."""
        mean = self.posterior.mean_told
        own = np.where([t.eligible for t in self.told], mean + OWN * (self.targets.y - mean), -np.inf)
        if not np.isfinite(own).any():
            return None
        chosen = int(own.argmax())
        there = self.draws(features(self.rows[chosen][None]))[1:, 0]
        best = np.array([self.met.value[self.met.function == i].max() for i in range(1, len(self.draws))])
        regret = self.targets.reward(np.maximum(best, there)) - self.targets.reward(there)
        return Beliefs(self.told[chosen].number, float(regret.mean()))


class Guided(Strategy):
    """Proposes the network of the highest upper confidence bound of a surrogate (`nas.surrogate`).

    The surrogate is a Gaussian process over genes, pairs of genes and the physical quantities every Graph gives, made
    anew from the told trials for each proposal. Its optimum is looked for by annealing chains, inside the budgets, each
    on the mean or on a function drawn from the posterior; the best they meet are judged by the bound. Trials in flight
    count as if they came out as expected. A trial stopped at a rung counts as what it would have come to, less surely.

    With `front` it looks for the whole front of reward against that cost: the network of the highest expected gain of
    the area under it.

    Each trial's `attrs` are what was believed when it was proposed (`nas.strategy.Beliefs`).

    Args:
        space: what is searched.
        budgets: hard limits.
        seed: decides all randomness.
        startup: uniform networks first.
        beta: how much uncertainty attracts, in standard deviations.
        front: the cost of the front, or None.

    Raises:
        ImpossibleBudget: nothing keeps the budgets.
        NasError: an option makes no sense.
    """

    def __init__(
        self,
        space: SearchSpace,
        budgets: Sequence[Budget] = (),
        seed: int = 0,
        *,
        startup: int = STARTUP,
        beta: float = BETA,
        front: CostModel | None = None,
    ) -> None:
        if startup < 2:
            raise NasError(f"guided: startup must be at least 2 trials, not {startup}")
        if not 0 <= beta < np.inf:
            raise NasError(f"guided: beta must be at least 0, not {beta:g}")
        self.candidates, self.seed = Candidates(space, budgets), seed
        self.startup, self.beta, self.front = startup, beta, front
        self.features = Features(space)
        self._told: list[Told] = []
        self._pending: dict[int, Encoding] = {}
        self._attrs: dict[int, Mapping[str, Any]] = {}
        self._fitted: tuple[int, Floats] = (0, np.zeros(0))  # (trials they were fitted to, variances)
        self._listed: tuple[Encodings, Described] | None = None
        if front is not None:  # where its axis ends
            self._dearest = float(self.candidates.feasible.distribution(front).quantile(1.0))

    def ask(self, number: int) -> Encoding:
        """A row for trial `number`."""
        random = rng(self.seed, number, Role.PROPOSE)
        if len(self._told) < self.startup:
            row, beliefs = self.candidates.sample(random), None
        else:
            with one_thread():
                row, beliefs = self._propose(random)
        self._note(number, row, {} if beliefs is None else asdict(beliefs))
        return row

    def tell(self, trial: Trial) -> None:
        """Learn a trial's reward; a failed one teaches nothing."""
        row = self._pending.pop(trial.number)
        self._attrs.pop(trial.number)
        found = Told.of(trial, row)
        if found is not None:
            self._told.append(found)

    def restore(self, trial: Trial) -> None:
        """The trial's network is not proposed again, and is in flight until it is told."""
        self._note(trial.number, self.candidates.space.row(trial.encoding), trial.attrs)

    def learn(self, trials: Sequence[Trial]) -> None:
        """Trials of an earlier search of the same space: what is known from the start; they may be proposed again."""
        canonical = self.candidates.space.canonical
        found = [Told.of(trial, canonical(trial.encoding)[0], earlier=True) for trial in trials]
        self._told = [t for t in found if t is not None] + self._told

    def attrs(self, number: int) -> Mapping[str, Any]:
        """`recommended` and `expected_regret` when a trial still in flight was proposed; empty before there is any."""
        return self._attrs[number]

    def beliefs(self, number: int) -> Beliefs | None:
        """What the surrogate says; None before it has enough trials."""
        if len(self._told) < self.startup:
            return None
        with one_thread():
            return self._look(rng(self.seed, number, Role.PROPOSE)).beliefs(self.features)

    # Parts -----------------------------------------------------------------------------------------------------

    def _note(self, number: int, row: Encoding, attrs: Mapping[str, Any]) -> None:
        self.candidates.mark(row)
        self._pending[number] = self.candidates.space.compiled.canonical(row[None])[0]
        self._attrs[number] = attrs

    def _propose(self, random: np.random.Generator) -> tuple[Encoding, Beliefs | None]:
        """(the row that promises most, what is believed)."""
        view = self._look(random)
        order = np.argsort(-view.posterior.mean_told, kind="stable")
        short = np.unique(view.met.rows, axis=0)
        short = short[self.candidates.fresh(short)]
        if not len(short):  # all that promises much is known
            short = self.candidates.near(view.rows[order[0]], random)[None]
        mean, sd = view.posterior.predict(self.features(short))
        if self.front is None:
            score = upper_bound(mean, sd, self.beta)
        else:
            # An earlier search's trials tell what is good, but this search's front has to have them, too.
            own = np.array([t.eligible for t in view.told])
            own = own if own.any() else np.ones(len(own), dtype=np.bool_)
            front = Front.of(view.posterior.mean_told[own], self.front(view.rows[own]), self._dearest)
            score = front.gain(mean, sd, self.front(short))
        return short[int(score.argmax())], view.beliefs(self.features)

    def _look(self, random: np.random.Generator) -> _View:
        """What the told trials say, and where that is highest."""
        told = [self._told[i] for i in memorable(np.array([t.reward for t in self._told]), _KNOWN)]
        targets, rows = Targets.of(told), np.array([t.row for t in told])
        known = self._describe(told)
        if self._pending:
            known = Described.join([known, self.features(np.array(list(self._pending.values())))])
        posterior = Posterior(known, targets.y, targets.extra, self._variances())
        draws = posterior.draw(random, DRAWS)
        best = rows[np.argsort(-posterior.mean_told, kind="stable")]
        return _View(told, targets, rows, posterior, draws, self._climb(random, draws, best))

    def _describe(self, told: Sequence[Told]) -> Described:
        features = self.features(np.array([t.row for t in told]))
        # What is known from an earlier search may lie higher or lower as a whole.
        return features.shifted(np.array([t.number < 0 for t in told]))

    def _variances(self) -> Floats:
        """Of the parts and the noise: fitted to the first so many trials, however many processes that took."""
        count = len(self._told)
        if count > _EVERY:
            count = int(_EVERY * _GROWTH ** math.floor(math.log(count / _EVERY, _GROWTH) + 1e-9))
        if self._fitted[0] != count:
            told = self._told[:count]
            told = [told[i] for i in memorable(np.array([t.reward for t in told]), _FITTED)]
            targets = Targets.of(told)
            self._fitted = count, fit_variances(self._describe(told), targets.y, targets.extra)
        return self._fitted[1]

    def _climb(self, random: np.random.Generator, draws: Draws, best: Encodings) -> Visited:
        """The highest networks inside the budgets of each drawn function; `best` are told rows, the best first."""
        feasible = self.candidates.feasible
        if self.front is None and feasible.at_most <= _LISTED:
            return self._look_at_all(draws)
        count = len(draws) * _CHAINS
        starts = feasible.draw(random, count)
        if self.front is not None:
            return self._climb_below(self.front, random, draws, starts)
        inside = best[feasible.contains(best)][: count // 2]
        starts[::2][: len(inside)] = inside
        met = anneal(self.features, draws, feasible.contains, starts, random, steps=_STEPS, keep=_KEEP)
        return met.joined(ascend(self.features, draws, feasible.contains, met.tops(), rounds=_ROUNDS, keep=_AROUND))

    def _climb_below(self, front: CostModel, random: np.random.Generator, draws: Draws, starts: Encodings) -> Visited:
        """Each function's chains below costs of their own, from among the cheapest to the dearest starts."""
        prices = front(starts)
        levels = np.sort(prices)[np.linspace(0, len(starts) - 1, _CHAINS).astype(np.intp)]
        ceilings = np.tile(levels, len(draws))
        fitting = prices[None] <= ceilings[:, None]
        starts = starts[(fitting * random.random(fitting.shape)).argmax(axis=1)]

        def allowed(x: Encodings) -> NDArray[np.bool_]:
            return np.asarray(self.candidates.feasible.contains(x) & (front(x) <= ceilings))

        return anneal(self.features, draws, allowed, starts, random, steps=3 * _STEPS, keep=_KEEP)

    def _look_at_all(self, draws: Draws) -> Visited:
        if self._listed is None:
            rows = np.concatenate(list(self.candidates.feasible.rows()))
            self._listed = rows, self.features(rows)
        rows, described = self._listed
        values = draws(described)
        # Fresh ones first, as many as are wanted; the highest of all for the regret.
        fresh = self.candidates.fresh(rows)
        keep = min(_KEEP, len(rows) - 1)
        ranked = np.argpartition(np.where(fresh, -values, np.inf), keep, axis=1)[:, :_KEEP]
        at = np.concatenate([ranked, values.argmax(axis=1)[:, None]], axis=1)
        number = np.repeat(np.arange(len(draws)), at.shape[1])
        return Visited(rows[at.ravel()], number, np.take_along_axis(values, at, axis=1).ravel())
