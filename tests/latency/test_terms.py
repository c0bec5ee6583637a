from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency.terms import FIELDS, Terms, TermsError, TermsFit, features, terms_of
from nas.graph import Graph
from nas.spaces import build_space


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Feature rows of real networks, each op as long as its work and traffic say."""
    space = build_space("mobilenetv2-small")
    out = []
    for row in space.sample(np.random.default_rng(seed), count):
        ops = space.graph(row).ops
        out.append(np.sum([features(op, 1e-3 + op.flops * 2e-8 + op.params * 1e-7) for op in ops], axis=0))
    return np.array(out)


def test_features_tell_what_an_op_adds() -> None:
    g = Graph((8, 4, 4))
    x = g.conv(g.input, 16, act="relu")
    x = g.depthwise(x, kernel=3)
    x = g.global_pool(x)
    g.linear(x, 10)
    conv, depthwise, pool, linear = (features(op, 0.5) for op in g.ops)
    assert conv[:4] == (0.5, 0.0, 0.0, 1.0)
    assert depthwise[:3] == (0.0, 0.5, 0.0)
    assert pool[:3] == linear[:3] == (0.0, 0.0, 0.5)
    assert conv[4] == pytest.approx(8 * 16 * 4e-6)
    assert conv[5] == pytest.approx((8 + 16) * 16 * 4e-6)
    assert linear[4] == 0


@settings(max_examples=20, deadline=None)
@given(
    st.floats(0.5, 2.0),
    st.floats(0.5, 2.0),
    st.floats(0.0, 3e-4),
    st.floats(0.0, 0.02),
    st.floats(0.0, 0.02),
)
def test_the_terms_behind_measurements_are_found(
    conv: float, depthwise: float, kernel: float, weights: float, traffic: float
) -> None:
    a = rows(80)
    truth = Terms(conv, depthwise, 1.0, kernel, weights, traffic)
    offset_ms = 0.01
    measured = a @ np.array(astuple(truth)) + offset_ms
    found = TermsFit(a[:50], measured[:50], offset_ms=offset_ms).solve()
    predicted = a[50:] @ np.array(astuple(found.terms)) + offset_ms
    np.testing.assert_allclose(predicted, measured[50:], rtol=0.01)
    assert np.abs(found.residuals).max() < 0.02


def test_residuals_are_those_of_networks_left_out() -> None:
    a, rng = rows(30), np.random.default_rng(0)
    measured = a.sum(axis=1) * np.exp(rng.normal(0, 0.03, 30))
    whole = TermsFit(a, measured).solve()
    for i in (0, 7, 29):
        keep = np.arange(30) != i
        w = np.array(astuple(TermsFit(a[keep], measured[keep]).solve().terms))
        assert whole.residuals[i] == pytest.approx(np.log(measured[i] / (a[i] @ w)), abs=0.02)


def test_few_networks_move_little_but_the_scale() -> None:
    a, rng = rows(4), np.random.default_rng(0)
    measured = 3.0 * a[:, :3].sum(axis=1) * np.exp(rng.normal(0, 0.05, 4))
    found = TermsFit(a, measured).solve().terms
    assert found.conv == pytest.approx(3.0, rel=0.3)
    others = rows(20, seed=1)
    np.testing.assert_allclose(others @ np.array(astuple(found)), 3.0 * others[:, :3].sum(axis=1), rtol=0.3)


def test_a_prior_is_kept_where_nothing_speaks_against_it() -> None:
    prior = Terms(1.2, 0.9, 1.0, 1e-4, 0.01, 0.005)
    a = rows(8)
    measured = 1.1 * (a @ np.array(astuple(prior)))
    found = np.array(astuple(TermsFit(a, measured, prior=prior).solve().terms))
    np.testing.assert_allclose(found, 1.1 * np.array(astuple(prior)), rtol=0.02)


def test_a_part_is_never_negative() -> None:
    op = next(iter(build_space("mobilenetv2-small").graph(_zeros()).ops))
    assert Terms(conv=1.0, kernel_ms=-5.0).part_ms(op, 0.1) == 0.0


def _zeros() -> list[int]:
    return [0] * len(build_space("mobilenetv2-small").genes)


def test_stored_terms_are_read_back_and_bad_ones_refused() -> None:
    stored = dict(zip(FIELDS, (1.0, 2.0, 3.0, 0.1, 0.2, -0.3), strict=True))
    assert astuple(terms_of(stored)) == (1.0, 2.0, 3.0, 0.1, 0.2, -0.3)
    for bad in ({}, {**stored, "more": 1.0}, {**stored, "conv": "1"}, {**stored, "conv": float("inf")}):
        with pytest.raises(TermsError):
            terms_of(bad)  # type: ignore[arg-type]
