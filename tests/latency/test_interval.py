from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from latency.engines import get_engine
from latency.errors import InvalidTable
from latency.interval import has_intervals, interval_pct, log_bound, op_factor
from latency.predict import Prediction, latency_model, predict, predict_interval
from latency.table import Calibration, Entry, Identity, LatencyTable, Provenance
from nas.spaces import build_space

ENGINE = get_engine("ncnn")
SPACE = build_space("nas-bench-macro")


def table(residuals: tuple[float, ...], *, sigma: float = 0.0) -> LatencyTable:
    return LatencyTable(
        identity=Identity("b", "m", "x86_64", "ncnn", "1", "fp32", 1, (0,), ""),
        entries={ENGINE.engine_key(op): Entry(0.1, 0.1, 0 if sigma else 9, sigma) for op in SPACE.ops()},
        offset_ms=0.5,
        calibration=Calibration(1.0, len(residuals), 1.0, None, residuals=residuals),
        provenance=Provenance("", "", (), 1, 1, 1.0, ""),
    )


@pytest.mark.parametrize("networks", [8, 24, 48, 200])
def test_the_bound_covers_as_often_as_it_says(networks: int) -> None:
    rng = np.random.default_rng(networks)
    hits = []
    for _ in range(400):
        drawn = rng.normal(0.01, 0.03, networks)
        made = table(tuple(drawn))
        low, high = (log_bound(made, q) for q in (0.05, 0.95))
        hits.append(np.mean((low <= (new := rng.normal(0.01, 0.03, 200))) & (new <= high)))
    assert np.mean(hits) == pytest.approx(0.9, abs=0.012)


def test_the_upper_end_prices_a_whole_space_as_it_prices_one_network() -> None:
    made = table(tuple(np.random.default_rng(0).normal(0, 0.02, 40)))
    x = SPACE.sample(np.random.default_rng(1), 20)
    upper = latency_model(made, SPACE, quantile=0.95)(x)
    one = [predict_interval(made, SPACE.graph(row), 0.9) for row in x]
    np.testing.assert_allclose(upper, [p.high_ms for p in one])
    assert all(p.low_ms < p.ms < p.high_ms for p in one)
    assert one[0].ms == pytest.approx(predict(made, SPACE.graph(x[0])))
    np.testing.assert_allclose(upper / latency_model(made, SPACE)(x), math.exp(log_bound(made, 0.95)))
    assert interval_pct(made) == pytest.approx([100 * (p / one[0].ms - 1) for p in (one[0].low_ms, one[0].high_ms)])


def test_estimated_ops_widen_the_interval() -> None:
    residuals = tuple(np.random.default_rng(0).normal(0, 0.02, 40))
    graph = SPACE.graph(SPACE.sample(np.random.default_rng(1))[0])
    timed, guessed = (predict_interval(table(residuals, sigma=s), graph) for s in (0.0, 0.3))
    assert guessed.low_ms < timed.low_ms < timed.high_ms < guessed.high_ms
    assert op_factor(0.3, 0.95) > 1 > op_factor(0.3, 0.05)


def test_a_table_without_residuals_tells_no_interval() -> None:
    old = dataclasses.replace(table(()), version=1)
    assert not has_intervals(old)
    assert interval_pct(old) is None
    graph = SPACE.graph(SPACE.sample(np.random.default_rng(1))[0])
    assert predict_interval(old, graph) == Prediction(predict(old, graph), low_ms=None, high_ms=None, confidence=None)
    with pytest.raises(InvalidTable, match="profile the board again"):
        latency_model(old, SPACE, quantile=0.95)
