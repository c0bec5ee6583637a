from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency.detrend import detrend
from latency.passes import Pass
from latency.session import Runs


def passes(speed: np.ndarray, networks: int = 40, noise: float = 0.005, seed: int = 0) -> list[Pass]:
    """Shuffled passes over networks of 1 to 2 ms, at the given log speed per visit."""
    rng = np.random.default_rng(seed)
    usual = np.linspace(1e6, 2e6, networks)
    made, at = [], 0
    for index in range(len(speed) // networks):
        runs = {}
        for i in rng.permutation(networks):
            ns = int(usual[i] * np.exp(speed[at] + rng.normal(0, noise)))
            # Every fourth network has stamps.
            runs[f"n{i}"] = Runs((), ((ns // 4, ns - ns // 4),)) if i % 4 == 0 else Runs((ns,), ())
            at += 1
        made.append(Pass(index, index, runs, {}, 1.0))
    return made


def spread(found: list[Pass], name: str) -> float:
    times = [sum(r.totals) for p in found for n, r in p.runs.items() if n == name]
    return float(np.std(np.log(times)))


def test_phases_of_another_speed_are_taken_out() -> None:
    rng = np.random.default_rng(1)
    speed = np.repeat(rng.choice([-0.2, 0.0, 0.15], 24), 40)
    raw = passes(speed)
    steady = detrend(raw)
    for name in ("n0", "n7", "n39"):
        assert spread(raw, name) > 0.1
        assert spread(steady, name) < 0.04
    assert [list(p.runs) for p in steady] == [list(p.runs) for p in raw]
    stamps = steady[0].runs["n0"].timed[0]
    assert stamps[0] / sum(stamps) == pytest.approx(0.25, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 0.02), st.integers(0, 100))
def test_on_a_quiet_board_medians_stay(noise: float, seed: int) -> None:
    raw = passes(np.zeros(40 * 12), noise=noise, seed=seed)
    for name in ("n1", "n20"):
        before, after = (np.median([p.runs[name].totals for p in f]) for f in (raw, detrend(raw)))
        assert after == pytest.approx(before, rel=0.6 * noise + 1e-5)


def test_few_networks_are_left_as_they_are() -> None:
    raw = passes(np.linspace(0, 0.3, 4 * 10), networks=4)
    assert detrend(raw) == raw
    assert detrend([]) == []


def test_records_out_of_order_are_put_in_order() -> None:
    raw = passes(np.repeat([0.0, 0.2, -0.1, 0.0, 0.1, 0.0], 40))
    assert detrend(raw[::-1]) == detrend(raw)


def test_a_runs_total_is_the_whole_or_the_sum_of_its_intervals() -> None:
    assert Runs((7, 8), ()).totals == (7, 8)
    assert Runs((), ((1, 2, 3), (4, 5, 6))).totals == (6, 15)
