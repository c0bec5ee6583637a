from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.surrogate.targets import Targets, Told, memorable
from nas.trial import Trial

ROW = np.array([1, 2], dtype=np.uint8)
REWARDS = st.lists(st.integers(-1000, 1000).map(lambda i: i / 1000), min_size=1, max_size=30)


def complete(reward: float, **rungs: float) -> Told:
    return Told(0, ROW, reward, None, {step.removeprefix("at"): value for step, value in rungs.items()})


def pruned(reward: float, step: int) -> Told:
    return Told(1, ROW, reward, step, {str(step): reward})


def of(*rewards: float) -> Targets:
    return Targets.of([complete(r) for r in rewards])


# What is kept of a trial ---------------------------------------------------------------------------------------------


def test_what_is_kept_of_a_trial() -> None:
    running = Trial(7, (1, 2))
    done = running.complete(0.8, 0.4, 1.0, {"rungs": {"2": 0.5}, "history": [1, 2]})
    stopped = running.pruned(0.5, 0.5, 2, 1.0, {"rungs": {"2": 0.5}})
    assert Told.of(running, ROW) is None
    assert Told.of(running.failed("x", 1.0), ROW) is None
    assert Told.of(done, ROW) == Told(7, ROW, 0.4, None, {"2": 0.25})  # rewards, of accuracies at rungs
    assert Told.of(stopped, ROW) == Told(7, ROW, 0.5, 2, {"2": 0.5})
    assert Told.of(running.complete(0.8, 0.7, 1.0, {}), ROW, earlier=True) == Told(-1, ROW, 0.7, None, {})


def test_only_a_complete_trial_of_this_search_may_be_recommended() -> None:
    running = Trial(0, (1, 2))
    done, stopped = running.complete(0.8, 0.7, 1.0, {}), running.pruned(0.5, 0.4, 2, 1.0, {})

    def eligible(trial: Trial, **more: Any) -> bool:
        told = Told.of(trial, ROW, **more)
        return told is not None and told.eligible

    assert eligible(done)
    assert not eligible(stopped)
    assert not eligible(done, earlier=True)


# Targets -------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(REWARDS, st.sampled_from([1e-6, 0.01, 1.0, 300.0, 1e9]), st.floats(-3, 3))
def test_targets_rise_with_rewards_and_lead_back(rewards: list[float], scale: float, shift: float) -> None:
    told = scale * (np.array(rewards) + shift)
    targets = of(*told)
    order = np.argsort(told, kind="stable")
    assert (np.diff(targets.y[order])[np.diff(told[order]) > 0] > 0).all()
    assert (targets.y[told == told.max()] == targets.y.max()).all()
    np.testing.assert_allclose(targets.reward(targets.y), told, rtol=1e-9, atol=1e-9 * scale)
    assert not targets.extra.any()
    further = np.linspace(targets.y.min() - 1, targets.y.max() + 1, 50)
    assert (np.diff(targets.reward(further)) >= 0).all()


@settings(deadline=None)
@given(REWARDS, st.sampled_from([0.01, 300.0, 1e6]), st.sampled_from([-5.0, 0.0, 40.0]))
def test_any_unit_of_reward_makes_the_same_targets(rewards: list[float], scale: float, shift: float) -> None:
    there = scale * (np.array(rewards) + shift)
    np.testing.assert_allclose(of(*there).y, of(*rewards).y, atol=1e-6)


@settings(deadline=None)
@given(REWARDS)
def test_targets_are_standardised(rewards: list[float]) -> None:
    y = of(*rewards).y
    assert np.isfinite(y).all()
    assert y.mean() == pytest.approx(0, abs=1e-6)
    assert y.std() == pytest.approx(1 if len(set(rewards)) > 1 else 0)


@pytest.mark.parametrize("rewards", [[0.7], [0.7] * 5, [0.0] * 3, [-2.0] * 2])
def test_rewards_that_do_not_differ_say_nothing(rewards: list[float]) -> None:
    targets = of(*rewards)
    assert targets.y.tolist() == [0] * len(rewards)
    assert targets.extra.tolist() == [0] * len(rewards)
    assert targets.reward(targets.y) == pytest.approx(rewards)


def test_a_disaster_is_not_what_counts_most() -> None:
    """However bad the worst is, what is best and what is middling stay apart."""
    good = [0.90, 0.91, 0.92, 0.93, 0.94]
    gaps = [np.diff(of(*good, worst).y[[0, 4]])[0] for worst in (0.8, 0.1, 0.0)]
    linear = [(0.94 - 0.90) / np.std([*good, worst]) for worst in (0.8, 0.1, 0.0)]
    assert gaps[1] > 5 * linear[1]
    assert gaps[2] > 0.9 * gaps[1] > 0.4 * gaps[0]


# Pruned trials -------------------------------------------------------------------------------------------------------


def test_a_pruned_trial_counts_as_what_it_would_have_come_to() -> None:
    line = [complete(0.4 + 0.5 * rung, at2=rung) for rung in (0.5, 0.6, 0.7, 0.8)]
    targets = Targets.of([*line, pruned(0.3, 2), pruned(0.55, 2)])
    assert targets.reward(targets.y)[4:] == pytest.approx([0.55, 0.675])
    assert (targets.extra[:4] == 0).all()
    assert (targets.extra[4:] > 0).all()


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.3, 0.8), st.floats(0.01, 0.2)), min_size=1, max_size=12),
    st.lists(st.floats(0.0, 0.25), min_size=1, max_size=5),
)
def test_what_was_stopped_lies_below_what_went_on_and_keeps_its_order(
    done: list[tuple[float, float]], stopped: list[float]
) -> None:
    """Trained to the end each gains something; what was stopped for its rung would have gained, too."""
    told = [*(complete(rung + gain, at1=rung) for rung, gain in done), *(pruned(r, 1) for r in sorted(stopped))]
    targets = Targets.of(told)
    rewards = targets.reward(targets.y)
    assert (rewards[len(done) :] >= np.sort(stopped) + min(gain for _, gain in done) - 1e-9).all()
    assert rewards[len(done) :].max() < max(rung + gain for rung, gain in done)
    assert (np.diff(rewards[len(done) :]) >= -1e-9).all()
    assert (targets.extra[len(done) :] > 0).all()
    assert (targets.extra[: len(done)] == 0).all()


def test_each_rung_has_a_line_of_its_own() -> None:
    done = [complete(r, at1=r - 0.4, at4=r - 0.1) for r in (0.6, 0.7, 0.8, 0.9)]
    targets = Targets.of([*done, pruned(0.2, 1), pruned(0.2, 4)])
    assert targets.reward(targets.y)[4:] == pytest.approx([0.6, 0.3])


def test_few_complete_trials_give_a_shift_and_none_give_nothing() -> None:
    two = Targets.of([complete(0.7, at1=0.5), complete(0.9, at1=0.6), pruned(0.4, 1)])
    assert two.reward(two.y)[2] == pytest.approx(0.4 + 0.25)
    none = Targets.of([complete(0.7), complete(0.9), pruned(0.4, 1), pruned(0.3, 1)])
    assert none.reward(none.y) == pytest.approx([0.7, 0.9, 0.4, 0.3])
    only = Targets.of([pruned(0.4, 1), pruned(0.3, 1)])
    assert only.reward(only.y) == pytest.approx([0.4, 0.3])


def test_the_slope_of_those_that_went_on_is_not_believed_beyond_reason() -> None:
    for slope, believed in ((3.0, 1.0), (-1.0, 0.25)):
        done = [complete(0.6 + slope * (rung - 0.5), at1=rung) for rung in (0.4, 0.5, 0.6)] * 2
        targets = Targets.of([*done, pruned(0.2, 1)])
        assert targets.reward(targets.y)[-1] == pytest.approx(0.6 + believed * (0.2 - 0.5))


# Memory --------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 20).map(float), min_size=1, max_size=60), st.integers(2, 40))
def test_the_best_half_is_remembered_in_order(rewards: list[float], most: int) -> None:
    values = np.array(rewards)
    kept = memorable(values, most)
    assert len(kept) == min(most, len(values))
    assert (np.diff(kept) > 0).all()
    best = np.argsort(-values, kind="stable")[: most // 2]  # of equals the earliest
    assert set(best) <= set(kept.tolist())


def test_the_other_half_is_spread_over_all_the_others() -> None:
    """In the order they were made, whatever they came to."""
    kept = memorable(np.r_[np.ones(10), np.random.default_rng(0).random(990) / 2], 20)
    assert kept[:10].tolist() == list(range(10))
    assert kept[10:].tolist() == np.linspace(10, 999, 10).astype(int).tolist()
