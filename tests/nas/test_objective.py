from __future__ import annotations

import re

import numpy as np
import pytest

from nas.cost import flops_model, params_model
from nas.errors import ImpossibleBudget
from nas.objective import Budget, HardReward, SoftReward, inside
from nas.space import SearchSpace


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
    with pytest.raises(
        ImpossibleBudget, match=re.escape(f"smallest achievable is {least:.6g} multiply-adds")
    ) as raised:
        Budget("flops", least * 0.99, cost).check_possible()
    assert raised.value.smallest == {"flops": least}


def test_rewards() -> None:
    assert HardReward()(0.7, {}) == 0.7
    soft = SoftReward(target_ms=10.0)
    assert soft(0.7, {"latency_ms": 10.0}) == pytest.approx(0.7)
    assert soft(0.7, {"latency_ms": 20.0}) == pytest.approx(0.7 * 2**-0.07)
    assert soft(0.7, {"latency_ms": 5.0}) > 0.7
