from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency.disturbance import Drift, Limits, drift, drifts, spoiled, throttling


def state(clock_s: float = 100.0, **change: Any) -> dict[str, Any]:
    """A Raspberry Pi, pinned to one core and at rest but for us: one core's seconds go by as the clock's do."""
    work = {
        "clock_s": clock_s,
        "own_s": clock_s,
        "used_s": clock_s + 1.0,
        "other_s": 50.0 + 0.01 * clock_s,
        "cores": 1,
        "mhz_ticks": {"policy0": {"600": 900, "1500": int(100 * clock_s)}},
        "stopped_s": 0.0,
        "swapped_pages": 7,
    }
    told = {
        "governor": ["performance"],
        "mhz": [1500],
        "limit_mhz": [1500],
        "celsius": [60.0],
        "cpu_celsius": 60.0,
        "limit_celsius": None,
        "slowed_by": {},
        "throttled": "0x50000",
        "load": [1.0, 1.0, 1.0],
        "free_bytes": 10**9,
    }
    for key, value in change.items():
        (work if key in work else told)[key] = value
    return {**told, "work": work}


def test_a_quiet_pass_is_kept() -> None:
    assert spoiled(state(), state(110.0)) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"governor": ["ondemand"]}, "the CPU governor changed from performance to ondemand"),
        ({"throttled": "0x50001"}, "the firmware reports under-voltage now"),
        ({"throttled": "0xd0008"}, "the firmware reports the soft temperature limit now"),
        ({"throttled": "0xd0000"}, "the firmware reports the soft temperature limit during the pass"),
        ({"slowed_by": {"cpufreq-cpu0": 2}}, "the kernel slows the CPU down to cool it (cpufreq-cpu0 at 2)"),
        ({"cpu_celsius": 80.5}, "the CPU is at 80 °C, its limit is 80 °C"),
        ({"cpu_celsius": 75.5, "limit_celsius": 75.0}, "the CPU is at 76 °C, its limit is 75 °C"),
        ({"limit_mhz": [1000]}, "the highest frequency allowed changed from 1500 to 1000 MHz"),
        (
            {"mhz_ticks": {"policy0": {"600": 900, "1000": 200, "1500": 10_800}}},
            "the frequency changed: 20% of the time it was not 1500 MHz",
        ),
        ({"used_s": 112.0}, "other programs had our cores for 1 s of 10 s"),
        ({"other_s": 58.0}, "other programs had the other cores for 7 s of 10 s"),
        ({"stopped_s": 2.0}, "the CPU quota of our control group stopped us for 2 s of 10 s"),
        ({"swapped_pages": 1007}, "1000 pages of memory were swapped"),
    ],
)
def test_what_spoils_a_pass(change: dict[str, Any], reason: str) -> None:
    assert spoiled(state(), state(110.0, **change)) == reason


@pytest.mark.parametrize(
    "change",
    [
        {"throttled": "0x50000"},  # of before
        {"cpu_celsius": 84.0, "limit_celsius": 85.0},
        {"mhz_ticks": {"policy0": {"600": 906, "1500": 10_994}}},  # 6 ticks of 10 ms while ramping up
        {"mhz": [1450]},
        {"used_s": 111.3},
        {"other_s": 52.0},
        {"swapped_pages": 20},
        {"load": [9.0, 9.0, 9.0]},  # an average of the last minute, ourselves included
    ],
)
def test_what_does_not(change: dict[str, Any]) -> None:
    assert spoiled(state(), state(110.0, **change)) is None


def test_a_frequency_that_is_low_but_stays_is_no_change() -> None:
    """Capped by its owner: the whole profile is at that frequency."""
    ticks = {"policy0": {"600": 900 + 1000, "1500": 10_000}}
    assert spoiled(state(), state(110.0, mhz_ticks=ticks)) is None


def test_of_an_x86_frequency_only_a_large_fall_counts() -> None:
    """Without counts there is one reading after each pass, and turbo moves that on a quiet machine."""

    def told(clock_s: float, mhz: int) -> dict[str, Any]:
        return state(clock_s, mhz=[mhz], mhz_ticks={})

    assert spoiled(told(100, 3800), told(110, 3300)) is None
    assert spoiled(told(100, 2600), told(110, 3800)) is None
    assert spoiled(told(100, 3800), told(110, 2600)) == "the frequency fell from 3800 to 2600 MHz"


def test_where_nothing_is_pinned_others_may_use_the_cores_left() -> None:
    free = {"cores": 4}
    assert spoiled(state(**free), state(110.0, used_s=113.0, **free)) is None
    told = spoiled(state(**free), state(110.0, used_s=118.0, **free))
    assert told == "other programs had the cores for 7 s of 10 s"
    assert spoiled(state(**free), state(110.0, used_s=113.0, **free), threads=4) is not None


def test_counters_are_not_trusted_below_their_resolution() -> None:
    before = state()
    after = state(100.1, used_s=101.14, mhz_ticks={"policy0": {"600": 904, "1500": 10_006}})
    assert spoiled(before, after) is None


def test_limits_can_be_set() -> None:
    assert spoiled(state(), state(110.0, other_s=58.0), limits=Limits(others_elsewhere=2.0)) is None


@given(st.data())
def test_a_board_may_leave_out_anything(data: Any) -> None:
    """Old records, and boards that tell little."""
    before, after = state(), state(110.0)
    for told in (before, after):
        for key in data.draw(st.sets(st.sampled_from(sorted(set(told) - {"governor", "work"})))):
            del told[key]
        for key in data.draw(st.sets(st.sampled_from(sorted(told["work"])))):
            del told["work"][key]
    kept = copy.deepcopy((before, after))
    spoiled(before, after)
    assert (before, after) == kept
    assert spoiled({}, {}) is None


@pytest.mark.parametrize(
    ("bits", "now", "past"),
    [
        (0, [], []),
        (0x50005, ["under-voltage", "throttling"], ["under-voltage", "throttling"]),
        (0x80008, ["the soft temperature limit"], ["the soft temperature limit"]),
        (0x20000, [], ["capped frequency"]),
    ],
)
def test_throttling_bits(bits: int, now: list[str], past: list[str]) -> None:
    assert (throttling(bits), throttling(bits, since_boot=True)) == (now, past)


# Drift.


def noisy(rng: np.random.Generator, count: int, ns: float = 1e6, spread: float = 0.01) -> list[float]:
    return list(ns * np.exp(rng.normal(0, spread, count)))


def test_a_drift_is_found_with_its_size() -> None:
    rng = np.random.default_rng(1)
    found = drift(noisy(rng, 20), noisy(rng, 20, 1.03e6))
    assert found.significant
    assert abs(found.ratio - 1.03) < 3 * found.se
    assert 0.001 < found.se < 0.01


def test_chance_alone_is_seldom_called_a_drift() -> None:
    rng = np.random.default_rng(2)
    for count in (2, 3, 4, 5, 8, 20):
        called = sum(drift(noisy(rng, max(count, 3)), noisy(rng, count)).significant for _ in range(500))
        assert called <= 15, count  # 1 % is meant; 3 % of a 500 would be 15


def test_the_error_told_is_the_error_made() -> None:
    rng = np.random.default_rng(3)
    found = [drift(noisy(rng, 12), noisy(rng, 12)) for _ in range(400)]
    assert np.std([each.ratio for each in found]) == pytest.approx(np.mean([each.se for each in found]), rel=0.2)


@given(st.integers(0, 11), st.floats(0.2, 5.0), st.integers(0, 1000))
def test_one_outlier_makes_no_drift(place: int, factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    quiet = 1e6 * np.exp(0.01 * np.tanh(rng.normal(0, 1, 12)))  # bounded: what is real must not depend on the seed
    later = 1e6 * np.exp(0.01 * np.tanh(rng.normal(0, 1, 12)))
    spoilt = later.copy()
    spoilt[place] *= factor
    clean, dirty = drift(list(quiet), list(later)), drift(list(quiet), list(spoilt))
    assert abs(math.log(dirty.ratio / clean.ratio)) < 0.01
    assert dirty.se < 3 * clean.se + 1e-4


def test_a_visit_counts_once_however_many_runs_it_has() -> None:
    """Runs of one visit share what disturbed it; taken for independent they would make any visit a drift."""
    rng = np.random.default_rng(4)

    def samples(start_s: int) -> list[tuple[float, float]]:
        return [
            (float(start_s + t), ns * f) for t, ns in enumerate(noisy(rng, 4)) for f in np.linspace(0.9999, 1.0001, 25)
        ]

    together = [drifts([*samples(0), *samples(10)], [10.0])[0] for _ in range(50)]
    assert sum(each.significant for each in together) <= 3
    one = drifts([(0.0, 5.0), (0.0, 6.0), (0.0, 100.0), (1.0, 6.0)], [1.0])
    assert one == [Drift(pytest.approx(1.0), math.inf, False)]


def test_intervals_are_compared_with_the_first() -> None:
    rng = np.random.default_rng(5)
    samples = [
        (t, ns)
        for k, f in enumerate((1.0, 1.0, 1.05))
        for t, ns in zip(np.arange(k, k + 1, 0.1), noisy(rng, 10, 1e6 * f), strict=True)
    ]
    rng.shuffle(samples)
    second, third = drifts([(float(t), float(ns)) for t, ns in samples], [0.95, 1.95])
    assert not second.significant
    assert third.significant
    assert third.ratio == pytest.approx(1.05, abs=0.02)


def test_exact_time_shows_real_drift_but_not_trifles() -> None:
    """An emulator that counts instructions repeats itself to the nanosecond."""
    assert drift([1000.0] * 3, [1000.0] * 3) == Drift(1.0, 0.0, False)
    assert not drift([100_000.0] * 3, [100_010.0] * 3).significant
    assert drift([1000.0] * 3, [1010.0] * 3).significant


@pytest.mark.parametrize(("earlier", "later"), [([], [1.0]), ([1.0], []), ([], []), ([1.0], [2.0])])
def test_too_little_to_tell(earlier: list[float], later: list[float]) -> None:
    found = drift(earlier, later)
    assert not found.significant
    assert found.se == math.inf
