from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nas.contracts import check_strategy
from nas.contracts import play_out as play
from nas.cost import CostModel, flops_model, params_model
from nas.errors import ImpossibleBudget, NasError, SpaceExhausted
from nas.objective import Budget
from nas.pareto import hypervolume
from nas.space import Encoding, Encodings, SearchSpace
from nas.spaces import build_space
from nas.spaces.staged import Head, Stage, Stem, staged_space
from nas.strategies import build_strategy, guided
from nas.strategies.guided import STARTUP, Guided
from nas.strategies.uniform import Uniform
from nas.strategy import Strategy
from nas.trial import Trial, TrialState

MACRO = build_space("nas-bench-macro")
SMALL = build_space("mobilenetv2-small")
FLOPS = {s.name: flops_model(s) for s in (MACRO, SMALL)}
PARAMS = {s.name: params_model(s) for s in (MACRO, SMALL)}

Ends = Callable[[Trial], Trial]


def smooth(space: SearchSpace) -> Callable[[Encodings], np.ndarray[Any, Any]]:
    """(n,) accuracies in [0, 1]: more FLOPs help ever less, and each gene has a best choice of its own."""
    cost, rng = flops_model(space), np.random.default_rng(5)
    best = rng.random(len(space.genes))
    weight = rng.random(len(space.genes)) / len(space.genes)
    low, high = np.log(cost.minimum()[0]), np.log(cost.maximum()[0])

    def accuracy(x: Encodings) -> np.ndarray[Any, Any]:
        x = space.canonical(x)
        size = (np.log(cost(x)) - low) / (high - low)
        off = (x / (space.cardinalities - 1) - best) ** 2
        return np.asarray(0.4 + 0.5 * (1 - (1 - size) ** 2) - 0.4 * (off * weight).sum(axis=1))

    return accuracy


def noisy(space: SearchSpace, seed: int, noise: float = 0.005) -> Ends:
    """Complete trials whose accuracy is that of `smooth`, more or less."""
    accuracy = smooth(space)

    def end(trial: Trial) -> Trial:
        luck = np.random.default_rng([seed, trial.number]).normal(0, noise)
        found = float(np.clip(accuracy(space.validate(trial.encoding))[0] + luck, 0, 1))
        return trial.complete(found, found, 0.0, {})

    return end


def mixed(space: SearchSpace, seed: int) -> Ends:
    """Every fourth or so fails, and as many are stopped at one of two rungs."""
    complete = noisy(space, seed, 0.02)

    def end(trial: Trial) -> Trial:
        fate = np.random.default_rng([seed, trial.number, 1]).random()
        if fate < 0.25:
            return trial.failed("made up", 0.0)
        done = complete(trial)
        accuracy = done.accuracy or 0.0
        rungs = {"1": accuracy * 0.7, "2": accuracy * 0.9}
        if fate < 0.5:
            step = 1 if fate < 0.35 else 2
            reached = {k: v for k, v in rungs.items() if int(k) <= step}
            return trial.pruned(rungs[str(step)], rungs[str(step)], step, 0.0, {"rungs": reached})
        return trial.complete(accuracy, accuracy, 0.0, {"rungs": rungs})

    return end


def budget(space: SearchSpace, share: float, metric: str = "flops") -> Budget:
    cost = {"flops": flops_model, "params": params_model}[metric](space)
    low, high = cost.minimum()[0], cost.maximum()[0]
    return Budget(metric, low + share * (high - low), cost)


def every_network(space: SearchSpace, budgets: Sequence[Budget]) -> set[bytes]:
    rows = np.concatenate(list(space.enumerate()))
    for b in budgets:
        rows = rows[b.allows(rows)]
    return keys(space, rows)


def keys(space: SearchSpace, rows: Any) -> set[bytes]:
    return {row.tobytes() for row in space.canonical(rows)} if len(rows) else set()


@st.composite
def tiny_spaces(draw: st.DrawFn) -> SearchSpace:
    """At most 32 encodings; strides, resolution and all knobs may be searched."""

    def some(*values: Any) -> tuple[Any, ...]:
        return tuple(draw(st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)))

    strided = draw(st.booleans())
    stages = [
        Stage(width=some(8, 12, 16), expansion=some(1, 2), kernel=some(3, 5), stride=(1, 2) if strided else (1,))
        for _ in range(draw(st.integers(2 if strided else 1, 2)))
    ]
    stages[0] = Stage(width=(8, 16, 24), kernel=stages[0].kernel, stride=stages[0].stride)
    inputs = [(3, side, side) for side in some(8, 16)]
    space = staged_space(
        "tiny",
        inputs=inputs,
        stem=Stem(8),
        stages=stages,
        head=Head(4, width=0),
        reduction=4 if strided else None,
    )
    assume(space.size <= 32)
    return space


# The contract --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["free", "two budgets", "front", "front inside a budget"])
def test_it_keeps_the_contract(case: str) -> None:
    """One budget: in test_contract."""
    budgets = {
        "free": [],
        "two budgets": [budget(SMALL, 0.1), budget(SMALL, 0.3, "params")],
        "front": [],
        "front inside a budget": [budget(SMALL, 0.1)],
    }[case]
    front, parallel = FLOPS[SMALL.name] if "front" in case else None, 1 if case == "free" else 3
    check_strategy(lambda: Guided(SMALL, budgets, 3, front=front), SMALL, budgets, trials=11, parallel=(parallel,))


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_every_network_inside_is_proposed_once_and_nothing_else(data: st.DataObject) -> None:
    space = data.draw(tiny_spaces())
    shares = data.draw(st.lists(st.sampled_from([0.0, 0.1, 0.4, 1.0]), max_size=2))
    budgets = [budget(space, share, metric) for share, metric in zip(shares, ("flops", "params"), strict=False)]
    front = flops_model(space) if data.draw(st.integers(0, 2), "front") == 0 else None
    parallel, seed = data.draw(st.integers(1, 4), "parallel"), data.draw(st.integers(0, 2**32), "seed")
    kills = data.draw(st.sets(st.integers(0, 32), max_size=2), "kills")

    def build() -> Guided:
        return Guided(space, budgets, seed, front=front)

    wanted = every_network(space, budgets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guided, "_LISTED", data.draw(st.sampled_from([0, 4096]), "listed"))
        patch.setattr(guided, "_KNOWN", data.draw(st.sampled_from([8, 512]), "known"))
        patch.setattr(guided, "_FITTED", data.draw(st.sampled_from([6, 128]), "fitted"))
        if not wanted:
            with pytest.raises(ImpossibleBudget):
                build()
            return
        made = play(build, mixed(space, seed), len(wanted) + 1, parallel=parallel, rebuild_before=kills)
    rows = space.validate([t.encoding for t in made])
    assert len(rows) == len(wanted)
    assert keys(space, rows) == wanted
    assert all(b.allows(rows).all() for b in budgets)
    for trial in made:
        if trial.attrs:
            assert made[trial.attrs["recommended"]].state is TrialState.COMPLETE
            assert trial.attrs["recommended"] <= trial.number - parallel
            assert 0 <= trial.attrs["expected_regret"] < math.inf


@pytest.mark.parametrize("front", [False, True], ids=["one", "front"])
def test_the_last_networks_of_many_are_found(front: bool) -> None:
    inside = [budget(MACRO, 0.2)]
    wanted = every_network(MACRO, inside)
    cost = FLOPS[MACRO.name] if front else None
    made = play(lambda: Guided(MACRO, inside, 0, front=cost), mixed(MACRO, 0), 500)
    assert 30 < len(wanted) < 500
    assert len(made) == len(wanted)
    assert keys(MACRO, [t.encoding for t in made]) == wanted


@settings(deadline=None, max_examples=12)
@given(
    st.sampled_from([MACRO, SMALL]),
    st.sampled_from([None, 0.1, 0.4]),
    st.booleans(),
    st.integers(0, 2**32),
    st.integers(1, 4),
    st.sets(st.integers(0, 15), max_size=2),
    st.integers(0, 9),
)
def test_killed_anywhere_it_goes_on_the_same(
    space: SearchSpace, share: float | None, front: bool, seed: int, parallel: int, kills: set[int], earlier: int
) -> None:
    """With failures, trials stopped at rungs and trials of an earlier search."""
    budgets = [] if share is None else [budget(space, share)]
    before = play(lambda: Uniform(space, (), seed + 1), mixed(space, seed + 1), earlier)

    def build() -> Guided:
        found = Guided(space, budgets, seed, front=FLOPS[space.name] if front else None)
        found.learn(before)
        return found

    made = play(build, mixed(space, seed), 16, parallel=parallel)
    assert play(build, mixed(space, seed), 16, parallel=parallel, rebuild_before=kills) == made


def test_after_many_trials_a_rebuilt_one_has_the_same_variances(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were fitted some trials ago."""
    monkeypatch.setattr(guided, "_FITTED", 30)
    monkeypatch.setattr(guided, "_KNOWN", 40)

    def build() -> Guided:
        return Guided(MACRO, (), 0)

    made = play(build, mixed(MACRO, 0), 65)
    assert play(build, mixed(MACRO, 0), 65, rebuild_before={21, 43, 64}) == made


def test_one_possible_network_is_proposed_though_all_is_known_of_it() -> None:
    cost = FLOPS[MACRO.name]
    only = [Budget("flops", cost.minimum()[0], cost)]
    for front in (None, cost):
        strategy = Guided(MACRO, only, 0, front=front)
        strategy.learn(play(lambda: Uniform(MACRO, (), 1), noisy(MACRO, 1), 8))
        assert strategy.ask(0).tolist() == cost.minimum()[1].tolist()
        with pytest.raises(SpaceExhausted):
            strategy.ask(1)


# What it is for ------------------------------------------------------------------------------------------------------


def regret(space: SearchSpace, build: Callable[[int], Strategy], trials: int, seeds: int, best: float) -> float:
    """How far the best network seen is below the best of all, mean over seeds."""
    accuracy, found = smooth(space), []
    for seed in range(seeds):
        made = play(lambda: build(seed), noisy(space, seed), trials)  # noqa: B023
        found.append(best - accuracy(space.validate([t.encoding for t in made])).max())
    return float(np.mean(found))


@pytest.mark.parametrize("space", [MACRO, SMALL], ids=lambda s: s.name)
@pytest.mark.parametrize("share", [None, 0.3], ids=["free", "budget"])
def test_it_is_far_better_than_chance(space: SearchSpace, share: float | None) -> None:
    budgets = [] if share is None else [budget(space, share)]
    some = space.sample(np.random.default_rng(0), 20_000)
    for b in budgets:
        some = some[b.allows(some)]
    best = float(smooth(space)(some).max())
    seeds, trials = 4, 25
    ours = regret(space, lambda seed: Guided(space, budgets, seed), trials, seeds, best)
    chance = regret(space, lambda seed: Uniform(space, budgets, seed), trials, seeds, best)
    assert ours < 0.4 * chance


def test_the_first_networks_are_uniform_and_nothing_is_believed_before() -> None:
    made = play(lambda: Guided(SMALL, (), 4), noisy(SMALL, 0), STARTUP + 1)
    chance = play(lambda: Uniform(SMALL, (), 4), noisy(SMALL, 0), STARTUP + 1)
    assert [t.encoding for t in made[:STARTUP]] == [t.encoding for t in chance[:STARTUP]]
    assert [bool(t.attrs) for t in made] == [False] * STARTUP + [True]
    late = play(lambda: Guided(SMALL, (), 4, startup=9), noisy(SMALL, 0), 10)
    assert [bool(t.attrs) for t in late] == [False] * 9 + [True]


def test_failures_teach_nothing_and_do_not_end_the_start() -> None:
    made = play(lambda: Guided(SMALL, (), 4), lambda trial: trial.failed("x", 0.0), 12)
    assert not any(t.attrs for t in made)


def test_uncertainty_attracts_as_much_as_it_is_told_to() -> None:
    """The surer one looks near what it knows: fewer genes change from the best trial so far."""

    def distance(beta: float) -> float:
        changed = []
        for seed in range(2):
            made = play(lambda: Guided(SMALL, (), seed, beta=beta), noisy(SMALL, seed), 18)  # noqa: B023
            for n in range(STARTUP, 18):
                best = max(made[:n], key=lambda t: t.reward or 0.0)
                changed.append(np.count_nonzero(np.subtract(made[n].encoding, best.encoding)))
        return float(np.mean(changed))

    assert distance(0.0) < 0.7 * distance(20.0)


def test_several_in_flight_are_different_and_hardly_worse() -> None:
    some = SMALL.sample(np.random.default_rng(0), 20_000)
    best, accuracy = float(smooth(SMALL)(some).max()), smooth(SMALL)
    made = play(lambda: Guided(SMALL, (), 0), noisy(SMALL, 0), 32, parallel=6)
    assert len(keys(SMALL, [t.encoding for t in made])) == 32
    chance = play(lambda: Uniform(SMALL, (), 0), noisy(SMALL, 0), 32)
    ours, theirs = (best - accuracy(SMALL.validate([t.encoding for t in m])).max() for m in (made, chance))
    assert ours < 0.5 * theirs


def test_what_is_in_flight_is_kept_away_from() -> None:
    """Unlike a failed network, which teaches nothing."""
    flying, failed = list[int](), list[int]()
    for seed in range(12):
        made = play(lambda: Guided(MACRO, (), seed, beta=3.0), noisy(MACRO, seed), 12)  # noqa: B023
        for busy, distances in ((True, flying), (False, failed)):
            strategy = Guided(MACRO, (), seed, beta=3.0)
            for trial in made[:-1]:
                strategy.restore(trial)
                strategy.tell(trial)
            strategy.restore(made[-1])
            if not busy:
                strategy.tell(made[-1].failed("x", 0.0))
            distances.append(int((strategy.ask(12) != made[-1].encoding).sum()))
    assert np.mean(flying) > np.mean(failed) + 0.3


# The front -----------------------------------------------------------------------------------------------------------


def test_a_front_is_better_covered_by_a_search_for_it() -> None:
    cost, accuracy = FLOPS[SMALL.name], smooth(SMALL)
    low, high = cost.minimum()[0], cost.maximum()[0]

    def volume(build: Callable[[int], Strategy]) -> float:
        """In log cost, as the front counts, mean over seeds."""
        found = []
        for seed in range(2):
            x = SMALL.validate([t.encoding for t in play(lambda: build(seed), noisy(SMALL, seed), 24)])  # noqa: B023
            found.append(hypervolume(np.log(cost(x)), accuracy(x), smallest=np.log(low), largest=np.log(high)))
        return float(np.mean(found))

    whole = volume(lambda seed: Guided(SMALL, (), seed, front=cost))
    best = volume(lambda seed: Guided(SMALL, (), seed))
    chance = volume(lambda seed: Uniform(SMALL, (), seed))
    assert whole > max(best, chance) + 0.03


# What it believes ----------------------------------------------------------------------------------------------------


def test_beliefs_are_those_that_come_with_the_next_trial() -> None:
    strategy, ends, told = Guided(SMALL, (), 2), mixed(SMALL, 2), list[Trial]()
    for number in range(20):
        before = strategy.beliefs(number)
        row = strategy.ask(number)
        attrs = strategy.attrs(number)
        assert json.loads(json.dumps(attrs)) == attrs
        if before is None:
            assert attrs == {}
        else:
            assert attrs == {"recommended": before.recommended, "expected_regret": before.expected_regret}
            assert told[before.recommended].state is TrialState.COMPLETE
            assert before.expected_regret >= 0
        told.append(ends(Trial(number, tuple(row.tolist()))))
        strategy.tell(told[-1])
    assert strategy.beliefs(20) is not None


def test_regret_falls_and_what_is_recommended_is_good() -> None:
    early, late, found = [], [], []
    accuracy = smooth(MACRO)
    best = float(accuracy(np.concatenate(list(MACRO.enumerate()))).max())
    for seed in range(5):
        made = play(lambda: Guided(MACRO, (), seed), noisy(MACRO, seed, 0.02), 41)  # noqa: B023
        early.append(made[8].attrs["expected_regret"])
        late.append(made[40].attrs["expected_regret"])
        chosen = made[made[40].attrs["recommended"]]
        found.append(best - accuracy(MACRO.validate(chosen.encoding))[0])
    assert np.mean(late) < 0.6 * np.mean(early)
    assert np.mean(found) < 0.015  # less than the noise of one trial
    assert 0.2 * np.mean(late) < np.mean(found) < 5 * np.mean(late)  # and about as expected


def test_luck_is_not_taken_for_merit() -> None:
    """Where one evaluation says little, what is recommended is truly better than what came out highest."""
    accuracy, ours, highest = smooth(MACRO), [], []
    for seed in range(40):
        random, strategy = np.random.default_rng(seed), Guided(MACRO, (), 0)
        rows = MACRO.sample(random, 100)
        true = accuracy(rows)
        told = true + random.normal(0, 0.02, 100)
        for number, (row, reward) in enumerate(zip(rows, told.tolist(), strict=True)):
            trial = Trial(number, tuple(row.tolist()))
            strategy.restore(trial)
            strategy.tell(trial.complete(reward, reward, 0.0, {}))
        found = strategy.beliefs(100)
        assert found is not None
        ours.append(true.max() - true[found.recommended])
        highest.append(true.max() - true[told.argmax()])
    assert np.mean(ours) < 0.8 * np.mean(highest)


def test_what_was_stopped_or_belongs_to_an_earlier_search_is_not_recommended() -> None:
    earlier = play(lambda: Uniform(MACRO, (), 1), noisy(MACRO, 1), 20)
    strategy = Guided(MACRO, (), 0)
    strategy.learn(earlier)
    assert strategy.beliefs(0) is None
    for number in range(5):
        trial = Trial(number, tuple(strategy.ask(number).tolist()))
        assert strategy.attrs(number) == {}
        strategy.tell(trial.pruned(0.99, 0.99, 1, 0.0, {"rungs": {"1": 0.99}}))
    trial = Trial(5, tuple(strategy.ask(5).tolist()))
    strategy.tell(trial.complete(0.1, 0.1, 0.0, {}))
    found = strategy.beliefs(6)
    assert found is not None
    assert found.recommended == 5


# An earlier search ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.0, -0.3], ids=["same level", "another level"])
def test_an_earlier_search_makes_the_first_proposals_better(level: float) -> None:
    inside, accuracy = [budget(SMALL, 0.3)], smooth(SMALL)
    ours, without, chance = list[float](), list[float](), list[float]()
    for seed in range(3):
        earlier = [
            t.complete(0.0, (t.reward or 0.0) + level, 0.0, {})
            for t in play(lambda: Uniform(SMALL, (), seed + 50), noisy(SMALL, seed + 50), 30)  # noqa: B023
        ]

        def build(*, knowing: bool, seed: int = seed, earlier: list[Trial] = earlier) -> Guided:
            found = Guided(SMALL, inside, seed)
            if knowing:
                found.learn(earlier)
            return found

        for found, knowing in ((ours, True), (without, False)):
            made = play(lambda: build(knowing=knowing), noisy(SMALL, seed), STARTUP - 1)  # noqa: B023
            rows = SMALL.validate([t.encoding for t in made])
            assert inside[0].allows(rows).all()
            found.append(accuracy(rows).mean())
        chance.append(accuracy(SMALL.validate([t.encoding for t in earlier])).std())
    assert np.mean(ours) > np.mean(without) + 0.5 * np.mean(chance)


def test_an_earlier_search_on_another_level_does_not_confuse() -> None:
    """Its data set was harder, say: by how much follows from a few trials."""
    ends, x = noisy(MACRO, 0), MACRO.sample(np.random.default_rng(9), 300)
    strategy = Guided(MACRO, (), 0)
    earlier = [ends(t) for t in play(lambda: Uniform(MACRO, (), 1), ends, 40)]
    strategy.learn([t.complete(0.0, (t.reward or 0.0) - 0.3, 0.0, {}) for t in earlier])
    for number, row in enumerate(MACRO.sample(np.random.default_rng(1), 8)):
        trial = Trial(number, tuple(row.tolist()))
        strategy.restore(trial)
        strategy.tell(ends(trial))
    view = strategy._look(np.random.default_rng(0))
    expected = view.targets.reward(view.posterior.predict(strategy.features(x))[0])
    assert np.abs(expected - smooth(MACRO)(x)).mean() < 0.04


def test_networks_of_an_earlier_search_may_be_proposed_again() -> None:
    rows = np.concatenate(list(MACRO.enumerate()))
    order = np.argsort(smooth(MACRO)(rows))
    ends = noisy(MACRO, 0)
    earlier = [ends(Trial(n, tuple(rows[i].tolist()))) for n, i in enumerate(order[:: len(order) // 60])]
    earlier.append(ends(Trial(99, tuple(rows[order[-1]].tolist()))))
    strategy = Guided(MACRO, (), 0)
    strategy.learn(earlier)
    made = play(lambda: strategy, ends, 10)
    assert keys(MACRO, [t.encoding for t in made]) & keys(MACRO, [t.encoding for t in earlier])


def test_an_earlier_search_of_another_space_is_refused() -> None:
    done = Trial(0, (0,) * 17).complete(0.5, 0.5, 0.0, {})
    with pytest.raises(NasError, match="nas-bench-macro: an encoding has 8 integer genes, got 17"):
        Guided(MACRO).learn([done])


def test_failed_and_unfinished_trials_of_an_earlier_search_teach_nothing() -> None:
    strategy, running = Guided(MACRO, (), 0), Trial(0, (0,) * 8)
    strategy.learn([running, running.failed("x", 0.0)] * 9)
    row: Encoding = strategy.ask(0)
    assert row.tolist() == Guided(MACRO, (), 0).ask(0).tolist()


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"startup": 1}, r"startup must be at least 2 trials, not 1"),
        ({"beta": -1.0}, r"beta must be at least 0, not -1"),
        ({"beta": math.nan}, r"beta must be at least 0, not nan"),
        ({"beta": math.inf}, r"beta must be at least 0, not inf"),
        ({"theta": 0.5}, r"strategy guided cannot be built with theta"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(NasError, match=text):
        build_strategy("guided", MACRO, **options)


def test_an_impossible_budget_is_refused() -> None:
    cost: CostModel = FLOPS[MACRO.name]
    with pytest.raises(ImpossibleBudget, match="smallest achievable"):
        Guided(MACRO, [Budget("flops", cost.minimum()[0] - 1, cost)])
