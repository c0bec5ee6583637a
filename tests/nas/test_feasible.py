from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.cost import CostModel, flops_model, params_model
from nas.errors import ImpossibleBudget
from nas.feasible import FeasibleSet
from nas.objective import Budget
from nas.space import Encodings, SearchSpace
from nas.spaces import build_space
from nas.spaces.staged import Head, Stage, Stem, staged_space

MACRO = build_space("nas-bench-macro")
SMALL = build_space("mobilenetv2-small")
# Two genes that several sites feel: the stride pattern, and the resolution as a gene; 768 encodings.
STRIDED = staged_space(
    "strided",
    inputs=[(3, 16, 16), (3, 24, 24)],
    stem=Stem(8),
    stages=[
        Stage(width=(8, 12), stride=(1, 2), expansion=(1, 2)),
        Stage(width=(8, 16), stride=(1, 2), repeats=(1, 2)),
        Stage(width=(8, 16), stride=(1, 2), kernel=(3, 5)),
    ],
    head=Head(10, width=0),
    reduction=8,
)
SPACES = (MACRO, STRIDED)


def at(cost: CostModel, share: float) -> float:
    low, high = cost.minimum()[0], cost.maximum()[0]
    return low + share * (high - low)


def budget(space: SearchSpace, share: float, metric: str = "flops") -> Budget:
    cost = (flops_model if metric == "flops" else params_model)(space)
    return Budget(metric, at(cost, share), cost)


def networks(space: SearchSpace, budgets: list[Budget]) -> Encodings:
    rows = np.concatenate(list(space.enumerate()))
    rows = np.unique(space.canonical(rows), axis=0)
    for b in budgets:
        rows = rows[b.allows(rows)]
    return rows


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(SPACES), st.lists(st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.7, 1.0]), min_size=0, max_size=2))
def test_enumeration_is_exact_and_counts_bracket_it(space: SearchSpace, shares: list[float]) -> None:
    budgets = [budget(space, s, m) for s, m in zip(shares, ("flops", "params"), strict=False)]
    wanted = networks(space, budgets)
    if not len(wanted):
        with pytest.raises(ImpossibleBudget):
            FeasibleSet(space, budgets)
        return
    feasible = FeasibleSet(space, budgets)
    found = np.concatenate(list(feasible.rows()))
    assert sorted(r.tobytes() for r in found) == sorted(r.tobytes() for r in wanted)
    low, high = feasible.bracket
    assert low <= len(wanted) <= high
    assert feasible.share[1] <= 1.0


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_samples_are_inside_and_uniform(space: SearchSpace, share: float) -> None:
    budgets = [budget(space, share)]
    wanted = networks(space, budgets)
    feasible = FeasibleSet(space, budgets)
    x = feasible.draw(np.random.default_rng(0), 20 * len(wanted) + 2_000)
    assert (space.canonical(x) == x).all()
    ok = feasible.contains(x)
    assert ok.mean() > 0.9
    _, times = np.unique(x[ok], axis=0, return_counts=True)
    assert len(times) == len(wanted)
    expected = ok.sum() / len(wanted)
    chi2 = ((times - expected) ** 2 / expected).sum()
    assert chi2 < len(wanted) + 6 * np.sqrt(2 * len(wanted))


def test_light_nas_is_counted_and_sampled_inside_a_millionth(light_nas: SearchSpace) -> None:
    feasible = FeasibleSet(light_nas, [budget(light_nas, 0.002)])
    low, high = feasible.share
    assert 1e-6 < low <= high < 1e-5
    assert high < 1.1 * low
    assert feasible.contains(feasible.draw(np.random.default_rng(0), 200)).mean() > 0.9
    assert FeasibleSet(light_nas, []).bracket[0] == pytest.approx(light_nas.size)


def test_the_exact_minimum_is_possible_and_less_is_not(small: SearchSpace) -> None:
    cost = flops_model(small)
    least, row = cost.minimum()
    only = FeasibleSet(small, [Budget("flops", least, cost)])
    assert np.concatenate(list(only.rows())).tolist() == [row.tolist()]
    with pytest.raises(ImpossibleBudget, match="smallest achievable") as raised:
        FeasibleSet(small, [Budget("flops", least - 1, cost)])
    assert raised.value.smallest == {"flops": least}


def test_budgets_that_only_conflict_together_are_refused_with_what_was_reached() -> None:
    flops = flops_model(SMALL)
    # The dearest network costs nothing in this unit, the cheapest the most: flops and it can't both be small.
    inverse = CostModel(SMALL, [-t for t in flops.tables], unit="ms", offset=flops.maximum()[0])
    each = [Budget("flops", at(flops, 0.3), flops), Budget("latency_ms", at(inverse, 0.3), inverse)]
    with pytest.raises(ImpossibleBudget, match=r"flops <= .* and latency_ms <= .* together") as raised:
        FeasibleSet(SMALL, each)
    assert set(raised.value.smallest) == {"flops", "latency_ms"}
    narrow = [Budget("flops", at(flops, 0.502), flops), Budget("latency_ms", at(inverse, 0.502), inverse)]
    feasible = FeasibleSet(SMALL, narrow)
    found = feasible.descend(np.random.default_rng(0), feasible.contains)
    assert found is not None
    assert feasible.contains(found[None]).all()
