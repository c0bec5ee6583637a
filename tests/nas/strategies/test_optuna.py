from __future__ import annotations

import json
import logging
import warnings

import pytest

from nas.contracts import play, smooth_objective
from nas.cost import flops_model
from nas.errors import UnknownPlugin
from nas.objective import Budget
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.strategies.optuna import OptunaStrategy
from nas.trial import Trial


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_samplers_learn(macro: SearchSpace, sampler: str) -> None:
    objective = smooth_objective(macro)

    def late(strategy_seed: int) -> float:
        made = play(lambda: OptunaStrategy(macro, (), strategy_seed, sampler=sampler), objective, 100)
        rewards = [t.reward for t in made if t.reward is not None]
        return sum(rewards[-25:]) / 25 - sum(rewards[:10]) / 10

    assert sum(late(seed) for seed in range(3)) / 3 > 0.1


def test_nsga2_generations_are_logged(macro: SearchSpace) -> None:
    made = play(lambda: OptunaStrategy(macro, (), 0, sampler="nsga2"), smooth_objective(macro), 50)
    generations = [v for t in made for k, v in t.attrs["trial"].items() if "generation" in k]
    assert max(generations) >= 1
    assert any(t.attrs["study"] for t in made)


def test_what_breaks_a_budget_is_replaced_and_the_study_learns_the_replacement(macro: SearchSpace) -> None:
    cost = flops_model(macro)
    budgets = [Budget("flops", 0.35 * cost.maximum()[0], cost)]
    strategy = OptunaStrategy(macro, budgets, 0, sampler="tpe")
    for n in range(15):
        row = strategy.ask(n)
        assert budgets[0].allows(row[None]).all()
        assert list(strategy._study.trials[n].params.values()) == row.tolist()
        strategy.tell(Trial(n, tuple(int(v) for v in row)).complete(0.5, 0.5, 0.0, {}))
    assert len(strategy._study.trials) == 15


def test_failed_trials_are_told_as_failed(macro: SearchSpace) -> None:
    strategy = OptunaStrategy(macro, (), 0, sampler="tpe")
    row = strategy.ask(0)
    strategy.tell(Trial(0, tuple(int(v) for v in row)).failed("x", 0.0))
    assert strategy._study.trials[0].state.name == "FAIL"


def test_pruned_trials_are_told_with_what_they_reached(macro: SearchSpace) -> None:
    strategy = OptunaStrategy(macro, (), 0, sampler="tpe")
    row = strategy.ask(0)
    strategy.tell(Trial(0, tuple(int(v) for v in row)).pruned(0.6, 0.4, 2, 0.0, {"rungs": {"1": 0.5, "2": 0.6}}))
    told = strategy._study.trials[0]
    assert (told.state.name, told.value, told.intermediate_values) == ("PRUNED", 0.4, {2: 0.4})


def with_pruned(sampler: str, trials: int, *, rebuild: bool, pruned: bool = True) -> list[Trial]:
    """A third of the trials end complete, the others, where `pruned`, at steps 1 and 2."""
    space = build_space("nas-bench-macro")
    objective, made = smooth_objective(space), list[Trial]()

    def build() -> OptunaStrategy:
        return OptunaStrategy(space, (), 0, sampler=sampler)

    strategy = build()
    for n in range(trials):
        if rebuild:
            strategy = build()
            for trial in made:
                strategy.restore(trial)
                strategy.tell(trial)
        row = strategy.ask(n)
        attrs = json.loads(json.dumps(dict(strategy.attrs(n))))
        trial, value = Trial(n, tuple(int(v) for v in row), attrs=attrs), objective(row) or 0.0
        if not pruned or n % 3 == 0:
            trial = trial.complete(value, value, 0.0, {})
        else:
            trial = trial.pruned(value, value, n % 3, 0.0, {})
        made.append(trial)
        strategy.tell(trial)
    return made


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_with_pruned_trials_a_rebuilt_study_proposes_the_same(sampler: str) -> None:
    trials = 14 if sampler == "gp" else 40
    kept, rebuilt = (with_pruned(sampler, trials, rebuild=rebuild) for rebuild in (False, True))
    assert rebuilt == kept


def test_tpe_learns_from_pruned_trials() -> None:
    """It has a model after 10 trials, though only 4 of them are complete."""
    kept, first = with_pruned("tpe", 12, rebuild=False), with_pruned("tpe", 12, rebuild=False, pruned=False)
    assert [t.encoding for t in kept[:10]] == [t.encoding for t in first[:10]]
    space = build_space("nas-bench-macro")
    failing = OptunaStrategy(space, (), 0, sampler="tpe")
    for trial in kept[:11]:
        failing.restore(trial)
        failing.tell(trial if trial.pruned_at is None else trial.failed("x", 0.0))
    assert tuple(failing.ask(11).tolist()) != kept[11].encoding


def test_it_is_silent(macro: SearchSpace, capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("optuna").level
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # of what other tests left to the garbage collector
        play(lambda: OptunaStrategy(macro, (), 0, sampler="gp"), smooth_objective(macro), 12)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("optuna").level == level


def test_unknown_samplers_are_listed(macro: SearchSpace) -> None:
    with pytest.raises(UnknownPlugin, match="there are tpe, nsga2, gp"):
        OptunaStrategy(macro, sampler="cmaes")
