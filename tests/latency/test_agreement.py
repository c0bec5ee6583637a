from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency.agreement import TOLERANCES, compare, first_difference

HERE = np.array([[0.0, 10.0], [8.0, 2.0], [1.0, 9.0], [7.0, 0.0]], np.float32)
LABELS = np.array([1, 0, 1, 1])


def test_the_same_logits_agree() -> None:
    found = compare(HERE, HERE, LABELS, "fp32")
    assert found.agrees
    assert (found.pictures, found.same, found.accuracy_here, found.accuracy_board) == (4, 4, 0.75, 0.75)
    assert found.largest_difference == found.relative_difference == 0


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("times", "agrees"), [(0.9, True), (1.1, False)])
def test_how_far_off_a_logit_may_be(dtype: str, times: float, agrees: bool) -> None:
    board = HERE.copy()
    board[2, 1] -= times * TOLERANCES[dtype].logits * 10
    found = compare(board, HERE, LABELS, dtype)
    assert found.agrees is agrees
    assert (found.differing, found.worst) == (0 if agrees else 1, 2)
    assert found.relative_difference == pytest.approx(times * TOLERANCES[dtype].logits, rel=1e-4)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_beyond_any_tolerance_and_no_answer(dtype: str, value: float) -> None:
    board = HERE.copy()
    board[0] = value
    board[3, 0] += 100
    found = compare(board, HERE, LABELS, dtype)
    assert (found.differing, found.worst) == (2, 0)
    assert found.largest_difference == np.inf
    assert (found.same, found.accuracy_board) == (3, 0.5)


def test_where_both_are_not_finite_nothing_differs() -> None:
    here = HERE.copy()
    here[0, 0], here[1, 1] = np.nan, np.inf
    assert compare(here, here, LABELS, "fp32").agrees


def test_half_precision_may_lose_a_hundredth_of_the_answers_and_no_more() -> None:
    here = np.tile(np.array([[1.0, 0.97]], np.float32), (300, 1))
    here[0] = 10, 0
    labels = np.zeros(300, np.int64)
    for lost, agrees in ((3, True), (4, False)):
        board = here.copy()
        board[1 : 1 + lost] = 0.97, 1.0
        found = compare(board, here, labels, "fp16")
        assert (found.agrees, found.differing) == (agrees, 0)
        assert found.same == 300 - lost
        assert compare(board, here, labels, "fp32").agrees is False  # there 0.03 of 10 is too much


def test_answers_of_another_size_are_none() -> None:
    found = compare(HERE[:, :1], HERE, LABELS, "fp32")
    assert (found.same, found.largest_difference, found.differing) == (0, np.inf, 4)


ORDER = ("stem", "dw", "pw")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2), st.sampled_from(sorted(TOLERANCES)), st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 1e3])
)
def test_the_first_op_beyond_the_tolerance_is_named(at: int, dtype: str, seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    here = {path: (size * rng.normal(size=(1, 3, 2, 2))).astype(np.float32) for path in ORDER}
    step = TOLERANCES[dtype].op
    board = {path: (x + 0.9 * step * np.abs(x).max() * rng.uniform(-1, 1, x.shape)).ravel() for path, x in here.items()}
    board = {path: x.astype(np.float32) for path, x in board.items()}
    assert first_difference(board, here, ORDER, dtype) is None
    for path in ORDER[at:]:
        board[path][rng.integers(12)] += 2.5 * step * np.abs(here[path]).max()
    found = first_difference(board, here, ORDER, dtype)
    assert found is not None
    assert found.path == ORDER[at]
    assert step < found.relative < 4 * step
    assert "relative error" in found.detail


def test_values_that_are_not_finite_or_not_there() -> None:
    here = {"a": np.array([1.0, -40000.0], np.float32), "b": np.zeros(3, np.float32)}
    found = first_difference({"a": np.array([np.nan, 1], np.float32), "b": here["b"]}, here, ("a", "b"), "fp16")
    assert found is not None
    assert (found.path, found.relative, found.detail) == ("a", np.inf, "NaN where the values here are at most 4e+04")
    found = first_difference({"a": np.array([1, -np.inf], np.float32), "b": here["b"]}, here, ("a", "b"), "fp16")
    assert found is not None
    assert found.detail.startswith("infinity where")
    found = first_difference({"a": here["a"], "b": here["b"][:2]}, here, ("a", "b"), "fp32")
    assert found is not None
    assert (found.path, found.detail) == ("b", "2 values instead of 3")
    # An op that is off everywhere is not at fault for the dust of another engine.
    assert first_difference({"a": here["a"], "b": here["b"] + 1e-10}, here, ("a", "b"), "fp32") is None
