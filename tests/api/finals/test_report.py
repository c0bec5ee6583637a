from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t as student_t

from api.export.card import points
from api.finals.contestants import Contestant
from api.finals.report import Result, compare, judge, spread
from nas.graph import Graph
from nas.spaces.recipe import SpaceSpec
from nas.trial import Trial

Hits = NDArray[np.bool_]


def _graph() -> Graph:
    g = Graph((3, 8, 8))
    g.linear(g.global_pool(g.conv(g.input, 4)), 2)
    return g


def _hits(accuracies: list[float], pictures: int = 1000) -> list[Hits]:
    """Right on the first ones."""
    return [np.arange(pictures) < round(a * pictures) for a in accuracies]


def _result(label: str, val: list[float], test: list[float], *, trial: int | None = None) -> Result:
    made = None if trial is None else Trial(trial, (0,))
    contestant = Contestant(label, SpaceSpec("a space"), (0,), _graph(), {"latency_ms": 1.5}, made)
    return Result(contestant, tuple(range(len(val))), tuple(val), tuple(_hits(test)), known=0.25)


def test_the_winner_is_compared_with_the_baseline_of_the_best_validation_accuracy() -> None:
    winner = _result("trial 4", [0.9, 0.9, 0.9], [0.90, 0.91, 0.92], trial=4)
    lucky = _result("lucky", [0.5, 0.5, 0.5], [0.99, 0.99, 0.99])  # on the test pictures only
    best = _result("best", [0.8, 0.8, 0.8], [0.85, 0.85, 0.88])
    report = compare(winner, [winner, lucky, best])
    comparison = report["comparison"]
    assert comparison["baseline"] == "best"
    assert comparison["margins"] == pytest.approx([5, 6, 4])
    assert comparison["mean"] == pytest.approx(5)
    assert comparison["sd"] == pytest.approx(1)
    assert comparison["verdict"] == "wins"
    assert [n["role"] for n in report["networks"]] == ["winner", "baseline", "baseline"]
    assert report["networks"][1]["winner_is_better_by"]["verdict"] == "loses"
    assert report["networks"][0]["params"] == _graph().params
    assert report["networks"][0]["predicted_ms"] == 1.5
    assert report["networks"][0]["known_at_start"] == 0.25


@pytest.mark.parametrize(
    ("own", "other", "verdict"),
    [
        ([0.9, 0.8, 0.7], [0.8, 0.9, 0.7], "level"),
        ([0.7, 0.7, 0.7], [0.8, 0.81, 0.82], "loses"),
        ([0.8], [0.2], "one seed"),  # nothing is known of the luck of trainings
        ([0.81, 0.81, 0.81], [0.809, 0.809, 0.809], "level"),  # a picture of a thousand, the same each time
    ],
)
def test_verdicts(own: list[float], other: list[float], verdict: str) -> None:
    winner = _result("trial 0", own, own, trial=0)
    report = compare(winner, [winner, _result("other", other, other)])
    assert report["comparison"]["verdict"] == verdict


def test_the_interval_holds_the_luck_of_trainings_and_of_pictures() -> None:
    own, other = _hits([0.9, 0.91, 0.95]), _hits([0.9, 0.9, 0.9])
    luck = student_t.ppf(0.975, 2) * np.std([0, 1, 5], ddof=1) / np.sqrt(3)
    each = np.mean([a.astype(float) - b for a, b in zip(own, other, strict=True)], axis=0)
    pictures = 196 * each.std() / np.sqrt(1000)
    assert judge(own, other)["half_width"] == pytest.approx(np.hypot(luck, pictures))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_networks_are_rarely_told_apart(seeds: int) -> None:
    """Two networks of one true accuracy per training, which varies with luck, on one drawn test set."""
    rng = np.random.default_rng(seeds)
    wrong = 0
    for _ in range(1500):
        hard = rng.random(300)  # of each picture
        luck = rng.normal(0, 0.02, (2, seeds))
        hits = [[hard + rng.normal(0, 0.05, 300) < 0.85 + x for x in of_one] for of_one in luck]
        wrong += judge(*hits)["verdict"] != "level"
    assert wrong / 1500 < 0.06


def test_without_baselines_nothing_is_compared() -> None:
    winner = _result("trial 0", [0.9], [0.9], trial=0)
    finalist = _result("trial 1", [0.8], [], trial=1)
    report = compare(winner, [winner, finalist])
    assert report["comparison"] is None
    assert report["networks"][1]["role"] == "finalist"
    assert report["networks"][1]["test_accuracy"] is None


@pytest.mark.parametrize(("accuracies", "text"), [([], "-"), ([0.5], "50.00"), ([0.5, 0.6], "55.00 ± 7.07")])
def test_people_read_percent_and_the_spread_of_seeds(accuracies: list[float], text: str) -> None:
    assert spread(accuracies) == text


def test_people_read_points_with_their_interval() -> None:
    assert points({"mean": 3.456, "half_width": 1.2}) == "+3.46 ± 1.20"
