from __future__ import annotations

import re

import numpy as np
import pytest

from nas.cost import CostModel, flops_model, params_model
from nas.errors import ImpossibleBudget
from nas.objective import GRAPH_COSTS, METRICS, Budget, HardReward, SoftReward, inside
from nas.space import SearchSpace
from nas.spaces import build_space


def test_a_budget_allows_its_own_limit(macro: SearchSpace) -> None:
    cost = flops_model(macro)
    x = macro.sample(np.random.default_rng(0), 100)
    limit = float(np.median(cost(x)))
    assert Budget("flops", limit, cost).allows(x).tolist() == (cost(x) <= limit).tolist()
    least, row = cost.minimum()
    assert Budget("flops", least, cost).allows(row[None]).all()


def test_inside_means_every_budget(macro: SearchSpace) -> None:
    x = macro.sample(np.random.default_rng(0), 200)
    budgets = [
        Budget(m, float(np.median(c(x))), c)
        for m, c in (("flops", flops_model(macro)), ("params", params_model(macro)))
    ]
    ok = inside(budgets, x)
    assert ok.tolist() == (budgets[0].allows(x) & budgets[1].allows(x)).tolist()
    assert ok.any()
    assert inside([], x).all()


def test_an_impossible_budget_tells_the_smallest_achievable_value(macro: SearchSpace) -> None:
    cost = flops_model(macro)
    least = cost.minimum()[0]
    Budget("flops", least, cost).check_possible()
    with pytest.raises(ImpossibleBudget, match=r"smallest achievable is \S+ multiply-adds") as raised:
        Budget("flops", least * 0.99, cost).check_possible()
    assert raised.value.smallest == {"flops": least}


@pytest.mark.parametrize("least", [3.21126401, 0.0327680000001, 300_774_272.0, 1.5, 9.999999, 1e-7 / 3])
def test_the_value_told_is_possible_when_it_is_given(macro: SearchSpace, least: float) -> None:
    cost = CostModel(macro, [np.full(s.rows, least) for s in macro.compiled.sites], unit="MB", combine="max")
    assert cost.minimum()[0] == cost.maximum()[0] == least
    with pytest.raises(ImpossibleBudget) as raised:
        Budget("peak_memory_mb", least * 0.9, cost).check_possible()
    found = re.search(r"smallest achievable is (\S+) MB", str(raised.value))
    assert found is not None
    assert float(found[1]) == pytest.approx(least, rel=2e-5)
    Budget("peak_memory_mb", float(found[1]), cost).check_possible()


def test_every_metric_but_latency_follows_from_the_networks() -> None:
    assert set(GRAPH_COSTS) == set(METRICS) - {"latency_ms"}
    space = build_space("mobilenetv2")
    assert {metric: build(space).unit for metric, build in GRAPH_COSTS.items()} == {m: METRICS[m] for m in GRAPH_COSTS}


def test_rewards() -> None:
    assert HardReward()(0.7, {}) == 0.7
    soft = SoftReward(target_ms=10.0)
    assert soft(0.7, {"latency_ms": 10.0}) == pytest.approx(0.7)
    assert soft(0.7, {"latency_ms": 20.0}) == pytest.approx(0.7 * 2**-0.07)
    assert soft(0.7, {"latency_ms": 5.0}) > 0.7
