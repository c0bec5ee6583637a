from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm

from nas.surrogate.acquisition import Front, expected_improvement, upper_bound

Floats = NDArray[np.float64]

POINTS = st.lists(st.tuples(st.integers(-4, 4), st.integers(1, 9)), min_size=1, max_size=8)
LARGEST = 12.0


def area(points: list[tuple[float, float]], floor: float, value: Floats, cost: float) -> Floats:
    """(n,) under the best value known at each log cost, cut into pieces, once a network of `value` (n,) joins."""
    start, end = np.log(0.5), np.log(LARGEST)
    cuts = np.unique(np.clip([start, end, np.log(cost), *(np.log(c) for _, c in points)], start, end))
    total = np.zeros(len(value))
    for left, right in pairwise(cuts):
        middle = (left + right) / 2
        best = max([floor, *(v for v, c in points if np.log(c) <= middle)])
        total += (right - left) * (np.maximum(value, best) if np.log(cost) <= middle else best)
    return total


def gain(points: list[tuple[float, float]], value: Floats, cost: float) -> Floats:
    """(n,) by how much a network of `value` (n,) makes it grow."""
    floor = min(v for v, _ in points)
    return area(points, floor, value, cost) - area(points, floor, np.full(len(value), -np.inf), cost)


def front(points: list[tuple[float, float]]) -> Front:
    values, costs = np.array(points, dtype=np.float64).T
    return Front.of(values, costs, LARGEST)


def test_the_bound_is_so_many_deviations_above_the_mean() -> None:
    assert upper_bound(np.array([1.0, 2.0]), np.array([0.5, 0.1]), 2.0).tolist() == [2.0, 2.2]


@settings(deadline=None)
@given(st.floats(-3, 3), st.floats(0.05, 3), st.floats(-3, 3))
def test_expected_improvement_is_the_integral(mean: float, sd: float, best: float) -> None:
    density = norm(mean, sd).pdf
    wanted = quad(lambda f: (f - best) * density(f), best, max(best, mean) + 12 * sd, points=[mean, best], limit=200)[0]
    found = expected_improvement(np.array([mean]), np.array([sd]), np.array([best]))
    assert found[0] == pytest.approx(wanted, abs=1e-7)


@settings(deadline=None)
@given(POINTS, st.integers(-5, 6), st.sampled_from([0.6, 1.0, 2.5, 3.0, 8.9, 9.0, 11.9]))
def test_the_gain_of_a_sure_value_is_what_the_area_grows_by(
    points: list[tuple[float, float]], value: float, cost: float
) -> None:
    found = front(points).gain(np.array([float(value)]), np.array([1e-9]), np.array([cost]))
    assert found[0] == pytest.approx(gain(points, np.array([float(value)]), cost)[0], abs=1e-6)


@settings(deadline=None)
@given(POINTS, st.floats(-5, 5), st.floats(0.1, 3), st.sampled_from([0.6, 2.5, 3.0, 9.0]))
def test_the_gain_is_what_the_area_is_expected_to_grow_by(
    points: list[tuple[float, float]], mean: float, sd: float, cost: float
) -> None:
    values = mean + sd * np.linspace(-8, 8, 801)
    wanted = np.trapezoid(gain(points, values, cost) * norm(mean, sd).pdf(values), values)
    found = front(points).gain(np.array([mean]), np.array([sd]), np.array([cost]))
    assert found[0] == pytest.approx(wanted, abs=2e-3)


@settings(deadline=None)
@given(POINTS)
def test_a_batch_is_judged_as_its_rows_are(points: list[tuple[float, float]]) -> None:
    mean, sd, costs = np.array([0.0, 3.0, -2.0]), np.array([1.0, 0.1, 2.0]), np.array([0.7, 3.0, 20.0])
    together = front(points).gain(mean, sd, costs)
    alone = [front(points).gain(mean[i : i + 1], sd[i : i + 1], costs[i : i + 1])[0] for i in range(3)]
    assert together == pytest.approx(np.array(alone))
    assert together[2] == 0  # beyond the end of the axis
    assert (together >= 0).all()


def test_a_network_as_dear_as_the_dearest_known_one_can_still_gain() -> None:
    points = [(0.0, 1.0), (1.0, 4.0)]
    values, costs = np.array(points).T
    assert Front.of(values, costs, 4.0).gain(np.array([2.0]), np.array([0.1]), np.array([4.0]))[0] > 0


def test_the_staircase_holds_the_networks_that_no_other_beats() -> None:
    found = front([(1.0, 4.0), (0.0, 2.0), (0.5, 4.0), (0.5, 5.0), (3.0, 6.0)])
    assert np.exp(found.edges) == pytest.approx([2.0, 4.0, 6.0, LARGEST])
    assert found.heights.tolist() == [0.0, 1.0, 3.0]
    assert found.floor == 0.0
