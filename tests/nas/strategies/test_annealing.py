from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nas.cost import flops_model
from nas.errors import InvalidEncoding, NasError
from nas.objective import Budget
from nas.space import SearchSpace
from nas.strategies.annealing import Annealing
from nas.trial import Trial


def told(strategy: Annealing, number: int, reward: float | None) -> list[int]:
    row = strategy.ask(number)
    trial = Trial(number, tuple(int(v) for v in row))
    strategy.tell(trial.failed("x", 0.0) if reward is None else trial.complete(reward, reward, 0.0, {}))
    return [int(v) for v in row]


def test_light_nas_rule_decides_what_is_accepted(small: SearchSpace) -> None:
    t0, theta, accepted, worse = 0.02, 0.99, 0, 0
    for seed in range(60):
        strategy, rewards, r = Annealing(small, (), seed, t0=t0, theta=theta), np.random.default_rng(seed), 0.0
        expected = []
        for k in range(20):
            reward = float(rewards.normal(0.5, 0.02))
            row = told(strategy, k, reward)
            taken = strategy.state()["accepted"] == row
            if reward >= r:
                assert taken
            else:
                expected.append(math.exp((reward - r) / (t0 * theta**k)))
                accepted, worse = accepted + taken, worse + 1
            r = strategy.state()["accepted_reward"]
            assert strategy.state()["temperature"] == pytest.approx(t0 * theta**k)
            assert not taken or r == reward
    # Mean acceptance of worse rewards follows the formula, within 4 standard errors at p = 1/2.
    assert 0.2 < accepted / worse < 0.8


def test_the_acceptance_probability_is_exp_of_loss_over_temperature(macro: SearchSpace) -> None:
    taken = 0
    for seed in range(400):
        strategy = Annealing(macro, (), seed, t0=0.1, theta=0.5)
        told(strategy, 0, 0.6)
        second = told(strategy, 1, 0.55)
        taken += strategy.state()["accepted"] == second
    p = math.exp(-0.05 / (0.1 * 0.5))
    assert taken / 400 == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 400))


def test_the_first_reward_is_accepted_and_proposals_change_one_gene_of_the_accepted(small: SearchSpace) -> None:
    cost = flops_model(small)
    strategy = Annealing(small, [Budget("flops", 0.3 * cost.maximum()[0], cost)], 1, t0=0.001)
    for k, reward in enumerate([0.1, 0.2, None, 0.05, 0.3, 0.1]):
        before = strategy.state()["accepted"]
        row = told(strategy, k, reward)
        if before is not None:
            assert sum(a != b for a, b in zip(before, row, strict=True)) == 1
        if reward is None:
            assert strategy.state()["accepted"] == before
    assert strategy.state()["accepted_reward"] == 0.3


def test_t0_is_calibrated_from_the_first_rewards_only(small: SearchSpace) -> None:
    strategy = Annealing(small, (), 0, theta=1.0)
    rewards = [0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.6]
    for k, reward in enumerate(rewards):
        told(strategy, k, reward)
    assert strategy.state()["temperature"] == pytest.approx(0.1 * 0.1)
    told(strategy, 10, 0.99)
    assert strategy.state()["temperature"] == pytest.approx(0.1 * 0.1)


def test_start_is_the_first_proposal_and_must_keep_the_budget(macro: SearchSpace) -> None:
    assert Annealing(macro, (), 0, start="0,1,2,0,1,2,0,1").ask(0).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    cost = flops_model(macro)
    with pytest.raises(InvalidEncoding, match="over the budget"):
        Annealing(macro, [Budget("flops", 0.5 * cost.maximum()[0], cost)], 0, start=[2] * 8)
    with pytest.raises(InvalidEncoding, match="allowed 0 to 2"):
        Annealing(macro, (), 0, start=[3] * 8)


@pytest.mark.parametrize(
    ("options", "text"), [({"t0": 0.0}, "t0"), ({"theta": 1.5}, "theta"), ({"t0": math.nan}, "t0")]
)
def test_senseless_temperatures_are_refused(macro: SearchSpace, options: dict[str, float], text: str) -> None:
    with pytest.raises(NasError, match=text):
        Annealing(macro, (), 0, **options)


@pytest.mark.slow
def test_on_nas_bench_macro_100_evaluations_come_within_6_hundredths_of_a_point(benchmark_data: Path) -> None:
    script = Path(__file__).resolve().parents[3] / "benchmarks" / "search_efficiency.py"
    command = [sys.executable, str(script), "--seeds", "100", "--strategies", "annealing", "--json"]
    environment = {**os.environ, "LIGHTNAS_BENCHMARK_DATA": str(benchmark_data)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout)["seen@100"] <= 0.06
