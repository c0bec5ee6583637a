from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from nas.contracts import play, smooth_objective
from nas.cost import flops_model
from nas.errors import InvalidEncoding, NasError
from nas.objective import Budget
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.strategies.annealing import _PATIENCE, Annealing
from nas.trial import Trial


def hamming(a: Sequence[int], b: Sequence[int]) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def told(strategy: Annealing, number: int, reward: float | None) -> list[int]:
    row = strategy.ask(number)
    trial = Trial(number, tuple(int(v) for v in row))
    strategy.tell(trial.failed("x", 0.0) if reward is None else trial.complete(reward, reward, 0.0, {}))
    return [int(v) for v in row]


def chain(strategy: Annealing, number: int = 0) -> dict[str, Any]:
    found = strategy.state()["chains"][number]
    assert isinstance(found, dict)
    return found


def test_light_nas_rule_decides_what_is_accepted(small: SearchSpace) -> None:
    t0, theta, accepted, worse = 0.02, 0.99, 0, 0
    for seed in range(100):
        strategy, rewards, r = Annealing(small, (), seed, t0=t0, theta=theta, start=[0] * 17), default_rng(seed), -1.0
        for k in range(_PATIENCE):
            reward = float(rewards.normal(0.5, 0.02))
            row = told(strategy, k, reward)
            taken = chain(strategy)["accepted"] == row
            if reward >= r:
                assert taken
            else:
                accepted, worse = accepted + taken, worse + 1
            r = chain(strategy)["accepted_reward"]
            assert chain(strategy)["temperature"] == pytest.approx(t0 * theta**k)
            assert not taken or r == reward
    # Mean acceptance of worse rewards follows the formula, within 4 standard errors at p = 1/2.
    assert 0.2 < accepted / worse < 0.8


def test_the_acceptance_probability_is_exp_of_loss_over_temperature(macro: SearchSpace) -> None:
    taken = 0
    for seed in range(400):
        strategy = Annealing(macro, (), seed, t0=0.1, theta=0.5, start=[1] * 8)
        told(strategy, 0, 0.6)
        second = told(strategy, 1, 0.55)
        taken += chain(strategy)["accepted"] == second
    p = math.exp(-0.05 / (0.1 * 0.5))
    assert taken / 400 == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 400))


def test_the_warm_up_is_uniform_and_the_first_chain_starts_at_its_best(small: SearchSpace) -> None:
    strategy, rewards = Annealing(small, (), 1, t0=1e6), [0.3, 0.7, None, 0.2, 0.6, 0.1, 0.5, 0.4]
    rows = [told(strategy, k, reward) for k, reward in enumerate(rewards)]  # 17 genes: 8 trials
    assert min(hamming(a, b) for i, a in enumerate(rows) for b in rows[:i]) > 5
    assert chain(strategy)["accepted"] == rows[1]
    assert chain(strategy)["accepted_reward"] == 0.7
    last = told(strategy, 8, 0.1)  # at such a temperature anything is accepted, but only after the warm-up
    assert hamming(last, rows[1]) < 8
    assert chain(strategy)["accepted"] == last
    assert chain(strategy)["temperature"] == pytest.approx(1e6)


def test_a_start_needs_no_warm_up(small: SearchSpace) -> None:
    start = [0] * 17
    strategy = Annealing(small, (), 1, start=start)
    assert told(strategy, 0, 0.1) == start
    assert 1 <= hamming(told(strategy, 1, 0.0), start) <= 8


def test_fewer_genes_change_as_it_cools(small: SearchSpace) -> None:
    changed: dict[int, list[int]] = {1: [], 99: []}
    for seed in range(100):
        for number, found in changed.items():
            strategy = Annealing(small, (), seed, start=[1] * 17)
            told(strategy, 0, 0.5)
            found.append(hamming(strategy.ask(number).tolist(), [1] * 17))
    assert 1.9 < float(np.mean(changed[1])) < 2.9  # 1.3 + (17/8 - 1) · θ at first
    assert 1.1 < float(np.mean(changed[99])) < 1.55  # 1.3 at last


def test_genes_take_turns(small: SearchSpace) -> None:
    repeats = 0
    for seed in range(20):
        strategy, start = Annealing(small, (), seed, start=[1] * 17, theta=1e-9), [1] * 17
        told(strategy, 0, 0.9)
        rows = [told(strategy, k, 0.1 / k) for k in range(1, 7)]
        genes = [{i for i, (a, b) in enumerate(zip(start, row, strict=True)) if a != b} for row in rows]
        repeats += sum(bool(a & b) for a, b in pairwise(genes))
    assert repeats <= 5  # of 100; by chance it were about 10


def test_failed_and_pruned_trials_are_never_accepted(macro: SearchSpace) -> None:
    strategy = Annealing(macro, (), 0, t0=1e6, start=[1] * 8)
    told(strategy, 0, 0.5)
    told(strategy, 1, None)
    row = strategy.ask(2)
    strategy.tell(Trial(2, tuple(row.tolist())).pruned(0.9, 0.9, 1, 0.0, {}))
    assert chain(strategy)["accepted"] == [1] * 8
    assert chain(strategy)["accepted_reward"] == 0.5


def test_a_stuck_chain_restarts_at_one_of_the_best(small: SearchSpace) -> None:
    landed = set()
    for seed in range(30):
        strategy = Annealing(small, (), seed, t0=1e-9, start=[1] * 17)
        rows = [told(strategy, k, 0.9 - 0.01 * k) for k in range(_PATIENCE)]
        assert chain(strategy)["accepted"] == rows[0]
        told(strategy, _PATIENCE, 0.0)
        landed.add(rows.index(chain(strategy)["accepted"]))
    assert landed == {0, 1, 2}


def test_chains_open_one_by_one_and_take_turns(small: SearchSpace) -> None:
    strategy, rewards, opened = Annealing(small, (), 0, chains=3), default_rng(0), []
    for k in range(140):
        moved = [strategy.state()["chains"][i] for i in range(len(strategy.state()["chains"]))]
        told(strategy, k, float(rewards.normal(0.5, 0.1)))
        for i, before in enumerate(moved):
            assert i == k % len(moved) or chain(strategy, i) == before, f"trial {k} moved chain {i}"
        opened.append(len(strategy.state()["chains"]))
    assert [opened.index(n) for n in (1, 2, 3)] == [0, 8 + 40 - 1, 8 + 80 - 1]
    assert opened[-1] == 3
    assert json.loads(json.dumps(strategy.state())) == strategy.state()


def test_trials_tell_their_chain_its_temperature_and_what_it_held(small: SearchSpace) -> None:
    strategy, rewards, made = Annealing(small, (), 5, chains=2, theta=0.99), default_rng(1), list[Trial]()
    accepted, restarted = set(), set()
    for k in range(120):
        held = [(i, c["accepted"]) for i, c in enumerate(strategy.state()["chains"])]
        row = strategy.ask(k)
        attrs = strategy.attrs(k)
        assert json.loads(json.dumps(attrs)) == attrs
        index, before = held[k % len(held)]
        assert attrs["chain"] == index
        if k < 8:
            assert (attrs["temperature"], attrs["base"]) == (None, None)
        else:
            assert list(made[attrs["base"]].encoding) == before
        trial = Trial(k, tuple(row.tolist()), attrs=attrs)
        reward = float(rewards.normal(0.5, 0.02))
        made.append(trial.complete(reward, reward, 0.0, {}))
        strategy.tell(made[-1])
        if k > 10:  # T0 is settled
            assert chain(strategy, index)["temperature"] == attrs["temperature"]
        if chain(strategy, index)["accepted"] == list(trial.encoding):
            accepted.add(k)
        elif chain(strategy, index)["accepted"] != before:
            restarted.add((index, [list(t.encoding) for t in made].index(chain(strategy, index)["accepted"])))
    bases = [(t.attrs["chain"], t.attrs["base"]) for t in made if t.attrs["base"] is not None]
    seen = {m for index, m in bases if made[m].attrs["chain"] == index}
    last = {max(t.number for t in made if t.attrs["chain"] == i) for i in (0, 1)}  # nothing was proposed behind them
    back = {m for index, m in restarted if made[m].attrs["chain"] == index}
    assert accepted - set(range(8))
    assert back - accepted  # one that had been refused
    assert seen - set(range(8)) - last == {k for k in accepted | back if k >= 8} - last


def test_what_was_noted_is_known_again(small: SearchSpace) -> None:
    made = play(lambda: Annealing(small, seed=2), smooth_objective(small), 60, parallel=3)
    strategy, told = Annealing(small, seed=2), 0
    for trial in made:
        while told <= trial.number - 3:
            strategy.tell(made[told])
            told += 1
        strategy.restore(trial)
        assert strategy.attrs(trial.number) == trial.attrs
    with pytest.raises(KeyError):
        strategy.attrs(0)  # it has been told


def test_nothing_is_known_of_a_temperature_before_two_rewards(macro: SearchSpace) -> None:
    strategy, noted = Annealing(macro, start=[1] * 8), []
    for k in range(4):
        row = strategy.ask(k)
        noted.append(strategy.attrs(k))
        strategy.tell(Trial(k, tuple(row.tolist())).complete(0.5 + k / 10, 0.5 + k / 10, 0.0, {}))
    assert [a["temperature"] is None for a in noted] == [True, True, False, False]
    assert [a["base"] for a in noted] == [None, 0, 1, 2]
    given = Annealing(macro, start=[1] * 8, t0=0.5)
    given.ask(0)
    assert given.attrs(0) == {"temperature": 0.5, "chain": 0, "base": None}


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 5), st.sets(st.integers(0, 99), max_size=4))
def test_restarts_and_chains_repeat_exactly_when_killed(seed: int, chains: int, parallel: int, kills: set[int]) -> None:
    space = build_space("nas-bench-macro")

    def build() -> Annealing:
        return Annealing(space, (), seed, chains=chains)

    made = play(build, smooth_objective(space), 100, parallel=parallel)
    assert play(build, smooth_objective(space), 100, parallel=parallel, rebuild_before=kills) == made


def test_where_every_mutant_is_taken_the_nearest_new_network_is(macro: SearchSpace) -> None:
    cost = flops_model(macro)
    budget = Budget("flops", 0.3 * cost.maximum()[0], cost)
    made = play(lambda: Annealing(macro, [budget], 0), smooth_objective(macro), 2000)
    rows = macro.validate([t.encoding for t in made])
    inside = np.concatenate(list(macro.enumerate()))
    inside = inside[budget.allows(inside)]
    assert len(made) == len({r.tobytes() for r in macro.canonical(inside)}) < 2000
    assert budget.allows(rows).all()


def test_t0_is_calibrated_from_the_first_rewards_only(small: SearchSpace) -> None:
    strategy = Annealing(small, (), 0, theta=1.0)
    for k in range(10):
        told(strategy, k, 0.5 + 0.1 * (k % 2))
    assert chain(strategy)["temperature"] == pytest.approx(0.05 * 0.1)
    told(strategy, 10, 0.99)
    assert chain(strategy)["temperature"] == pytest.approx(0.05 * 0.1)


def test_start_is_the_first_proposal_and_must_keep_the_budget(macro: SearchSpace) -> None:
    assert Annealing(macro, (), 0, start="0,1,2,0,1,2,0,1").ask(0).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    cost = flops_model(macro)
    with pytest.raises(InvalidEncoding, match="over the budget"):
        Annealing(macro, [Budget("flops", 0.5 * cost.maximum()[0], cost)], 0, start=[2] * 8)
    with pytest.raises(InvalidEncoding, match="allowed 0 to 2"):
        Annealing(macro, (), 0, start=[3] * 8)


def test_an_earlier_search_gives_the_start(macro: SearchSpace) -> None:
    flops = flops_model(macro)
    budget = Budget("flops", 0.6 * flops.maximum()[0], flops)
    earlier = play(lambda: Annealing(macro, seed=3), smooth_objective(macro), 30)
    inside = [t for t in earlier if t.reward is not None and budget.allows(macro.row(t.encoding)[None])[0]]
    strategy = Annealing(macro, [budget])
    strategy.learn(earlier)
    assert strategy.ask(0).tolist() == list(max(inside, key=lambda t: t.reward or 0.0).encoding)
    given = Annealing(macro, start=[0] * 8)
    given.learn(earlier)
    assert given.ask(0).tolist() == [0] * 8
    nothing = Annealing(macro, seed=1)
    nothing.learn([])
    assert nothing.ask(0).tolist() == Annealing(macro, seed=1).ask(0).tolist()


@pytest.mark.parametrize(
    ("options", "text"),
    [({"t0": 0.0}, "t0"), ({"theta": 1.5}, "theta"), ({"t0": math.nan}, "t0"), ({"chains": 0}, "chains")],
)
def test_senseless_temperatures_are_refused(macro: SearchSpace, options: dict[str, Any], text: str) -> None:
    with pytest.raises(NasError, match=text):
        Annealing(macro, (), 0, **options)


@pytest.mark.slow
def test_on_nas_bench_macro_50_and_100_evaluations_come_as_near_as_promised(
    benchmark_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "benchmarks"))
    import search_efficiency

    monkeypatch.setattr(
        search_efficiency, "TABLE", benchmark_data / search_efficiency.TABLE.relative_to(search_efficiency.DATA)
    )
    benchmark = search_efficiency.Benchmark.load(None)
    seen = np.array([search_efficiency.gaps(benchmark, "annealing", seed, 100)[0] for seed in range(100)]).mean(axis=0)
    assert seen[24] <= 0.25
    assert seen[49] <= 0.12
    assert seen[99] <= 0.04
