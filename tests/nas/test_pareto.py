from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.pareto import hypervolume, pareto_front

TRIALS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8).map(lambda i: i / 8)), max_size=14)


def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return (a[0] <= b[0] and a[1] > b[1]) or (a[0] < b[0] and a[1] >= b[1])


@settings(deadline=None)
@given(TRIALS)
def test_the_front_is_what_no_other_beats_the_first_of_equals(trials: list[tuple[float, float]]) -> None:
    wanted = [i for i, t in enumerate(trials) if not any(beats(other, t) for other in trials) and t not in trials[:i]]
    found = pareto_front([c for c, _ in trials], [r for _, r in trials]).tolist()
    assert found == sorted(wanted, key=lambda i: trials[i][0])


@settings(deadline=None)
@given(TRIALS, st.integers(0, 8), st.integers(0, 9))
def test_the_hypervolume_is_the_mean_best_reward_over_budgets(
    trials: list[tuple[float, float]], smallest: int, span: int
) -> None:
    largest = smallest + span
    # Costs are whole numbers: between two of them all budgets are answered alike.
    budgets = np.arange(smallest, largest) + 0.5
    best = [max([0.0, *(r for c, r in trials if c <= budget)]) for budget in budgets]
    costs, rewards = [c for c, _ in trials], [r for _, r in trials]
    found = hypervolume(costs, rewards, smallest=smallest, largest=largest)
    assert found == pytest.approx(np.mean(best) if span else 0.0)
    assert isinstance(found, float)


def test_a_front_by_example() -> None:
    costs, rewards = [5.0, 1.0, 3.0, 3.0, 4.0], [0.9, 0.2, 0.6, 0.7, 0.5]
    assert pareto_front(costs, rewards).tolist() == [1, 3, 0]
    assert hypervolume(costs, rewards, smallest=0.0, largest=10.0) == pytest.approx(0.1 * (0.2 * 2 + 0.7 * 2 + 0.9 * 5))
    assert hypervolume(costs, rewards, smallest=2.0, largest=4.0) == pytest.approx((0.2 + 0.7) / 2)
    assert hypervolume([], [], smallest=0.0, largest=1.0) == 0
