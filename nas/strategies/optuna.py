"""Optuna's samplers as strategies: TPE, NSGA-II, GP.

The study lives in memory; before each ask its sampler is replaced by one seeded from (seed, trial number), with every
argument pinned, so that a study rebuilt from the log goes on identically. What a sampler keeps outside of trials
(NSGA-II's generations and parents) are Optuna's system attributes: they are logged with the trial and restored.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas import trial as nas_trial
from nas.candidates import Candidates
from nas.errors import UnknownPlugin
from nas.objective import Budget
from nas.space import Encoding, SearchSpace
from nas.strategy import Role, Strategy, rng, seed32

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.study import Study

    from nas.trial import Trial

STARTUP = 10  # random trials before a model is fitted


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(
        n_startup_trials=STARTUP, n_ei_candidates=24, multivariate=True, group=False, constant_liar=True, seed=seed
    )


def _nsga2(seed: int) -> BaseSampler:
    return NSGAIISampler(population_size=20, mutation_prob=None, crossover_prob=0.9, swapping_prob=0.5, seed=seed)


def _gp(seed: int) -> BaseSampler:
    # Seeded, so that its own fallback is: Optuna's default would draw from the operating system's entropy.
    fallback = optuna.samplers.RandomSampler(seed=seed)
    return GPSampler(
        independent_sampler=fallback,
        n_startup_trials=STARTUP,
        deterministic_objective=False,
        warn_independent_sampling=False,
        seed=seed,
    )


# name -> (how to build the sampler, asks before the nearest fresh network is taken: GP repeats itself, and is slow)
SAMPLERS: dict[str, tuple[Callable[[int], BaseSampler], int]] = {
    "tpe": (_tpe, 4),
    "nsga2": (_nsga2, 16),
    "gp": (_gp, 2),
}


class _FreshSampler(BaseSampler):
    """Samples all genes at once with a seeded inner sampler until the row is fresh; else the nearest fresh row."""

    def __init__(self, name: str, candidates: Candidates, seed: int) -> None:
        self.build, self.attempts = SAMPLERS[name]
        self.candidates, self.seed = candidates, seed
        genes = candidates.space.genes
        self.distributions: dict[str, BaseDistribution] = {
            g.name: CategoricalDistribution(tuple(range(len(g.choices)))) for g in genes
        }
        # What samplers would infer by comparing every trial's distributions, in the same order.
        self._known = dict(sorted(self.distributions.items()))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        row = np.zeros(len(self.distributions), dtype=np.uint8)
        for attempt in range(self.attempts):
            inner = self.build(seed32(self.seed, trial.number, Role.PROPOSE, attempt))
            values = inner.sample_relative(study, trial, self._known)
            for i, (name, distribution) in enumerate(self.distributions.items()):
                value = values.get(name)
                row[i] = inner.sample_independent(study, trial, name, distribution) if value is None else value
            if self.candidates.fresh(row[None])[0]:
                break
        else:
            row = self.candidates.near(row, rng(self.seed, trial.number, Role.PROPOSE))
        return {name: int(v) for name, v in zip(self.distributions, row, strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise NotImplementedError("all genes are sampled together")  # never called: the search space is complete


class OptunaStrategy(Strategy):
    """An Optuna sampler over the genes as categoricals, inside the budgets and without repetition.

    A proposal that breaks a budget or repeats a network never becomes a trial: the sampler is asked again a few
    times, then the nearest fresh network is taken, and that is what the study learns from. The study's memory grows
    by some kilobytes a trial.

    Args:
        space: what is searched.
        budgets: hard limits.
        seed: decides all randomness.
        sampler: a key of `SAMPLERS`.

    Raises:
        UnknownPlugin: no such sampler.
        ImpossibleBudget: nothing keeps the budgets.
    """

    def __init__(
        self, space: SearchSpace, budgets: Sequence[Budget] = (), seed: int = 0, *, sampler: str = "tpe"
    ) -> None:
        if sampler not in SAMPLERS:
            raise UnknownPlugin(f"no Optuna sampler {sampler!r}; there are {', '.join(SAMPLERS)}")
        self.candidates = Candidates(space, budgets)
        self._sampler = _FreshSampler(sampler, self.candidates, seed)
        self._storage = InMemoryStorage()
        with _quiet():
            self._study = optuna.create_study(storage=self._storage, sampler=self._sampler, direction="maximize")
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
        self._attrs: dict[int, dict[str, Any]] = {}  # of trials in flight: what `ask` left behind

    def ask(self, number: int) -> Encoding:
        """A row for trial `number`."""
        before = dict(self._storage.get_study_system_attrs(self._study_id))
        with _quiet():
            trial = self._study.ask(self._sampler.distributions)
        after = self._storage.get_study_system_attrs(self._study_id)
        self._attrs[number] = {
            "trial": dict(self._storage.get_trial(trial._trial_id).system_attrs),
            "study": {k: v for k, v in after.items() if k not in before or before[k] != v},
        }
        row = np.array([trial.params[name] for name in self._sampler.distributions], dtype=np.uint8)
        self.candidates.mark(row)
        return row

    def tell(self, trial: Trial) -> None:
        """The study learns the reward, what the trial had reached when it was pruned, or that it failed."""
        self._attrs.pop(trial.number, None)
        value, state = None, TrialState.FAIL
        if trial.state is nas_trial.TrialState.COMPLETE:
            value, state = trial.reward, TrialState.COMPLETE
        elif trial.pruned_at is not None and trial.reward is not None:
            # TPE ranks pruned trials below complete ones, by their step and last value; other samplers leave them out.
            known = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)
            self._storage.set_trial_intermediate_value(known, trial.pruned_at, trial.reward)
            state = TrialState.PRUNED
        with _quiet():
            self._study.tell(trial.number, value, state)

    def restore(self, trial: Trial) -> None:
        """The study gets the trial, and the sampler's attributes, as they were after the ask."""
        row = self.candidates.space.row(trial.encoding)
        attrs = trial.attrs
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params={name: int(v) for name, v in zip(self._sampler.distributions, row, strict=True)},
                distributions=self._sampler.distributions,
                system_attrs=dict(attrs.get("trial", {})),
            )
        )
        for key, value in attrs.get("study", {}).items():
            self._storage.set_study_system_attr(self._study_id, key, value)
        self._attrs[trial.number] = dict(attrs)
        self.candidates.mark(row)

    def attrs(self, number: int) -> Mapping[str, Any]:
        """Optuna's system attributes after the ask of a trial still in flight."""
        return self._attrs[number]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's log lines and its warnings of experimental features; the process's own settings are kept."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        logger.setLevel(level)
