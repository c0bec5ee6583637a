from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.cost import CostModel, flops_model, params_model
from nas.errors import ImpossibleBudget
from nas.feasible import FeasibleSet, sets
from nas.feasible.bounds import least_inside
from nas.feasible.chain import Chain
from nas.feasible.programme import Axis, Limit, Programme, Rounding
from nas.memory import peak_memory_model
from nas.objective import GRAPH_COSTS, Budget
from nas.space import Encodings, SearchSpace
from nas.spaces import build_space
from nas.spaces.staged import Head, Stage, Stem, staged_space

MACRO = build_space("nas-bench-macro")
SMALL = build_space("mobilenetv2-small")
# Two genes that several sites feel: the stride pattern, and the resolution as a gene.
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


@pytest.fixture(params=["listed", "counted"])
def counted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether small sets, too, are left to the programme."""
    if request.param == "counted":
        monkeypatch.setattr(sets, "_LISTED", -1)
    return request.param == "counted"


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """A small space: 1 to 3 stages; strides, resolution and all knobs may be searched."""

    def some(*values: Any, most: int = 2) -> tuple[Any, ...]:
        return tuple(draw(st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)))

    strided = draw(st.booleans())
    stages = [
        Stage(
            width=some(8, 12, 16, most=3),
            expansion=some(1, 2, 3),
            repeats=some(1, 2, 3),
            kernel=some(3, 5),
            stride=(1, 2) if strided else (1,),
        )
        for _ in range(draw(st.integers(2 if strided else 1, 3)))
    ]
    # At least one gene, so that there is something to choose.
    stages[0] = Stage(width=(8, 16), expansion=stages[0].expansion, stride=stages[0].stride)
    inputs = [(3, side, side) for side in some(8, 16, 24)]
    return staged_space(
        "drawn",
        inputs=inputs,
        stem=Stem(8),
        stages=stages,
        head=Head(4, width=0),
        reduction=draw(st.sampled_from((4, 2 ** len(stages)))) if strided else None,
    )


def made_up(space: SearchSpace, seed: int, combine: Literal["sum", "max"] = "sum") -> CostModel:
    """Milliseconds out of nothing: no whole numbers, an offset and a scale."""
    rng = np.random.default_rng(seed)
    tables = []
    for site in space.compiled.sites:  # equal networks cost the same
        same = np.arange(site.rows) // site.choices * site.choices + site.canonical
        tables.append(rng.lognormal(size=site.rows)[same])
    return CostModel(space, tables, unit="ms", offset=0.3, scale=1.7, combine=combine)


def cost_of(space: SearchSpace, metric: str) -> CostModel:
    return made_up(space, 0) if metric == "latency_ms" else GRAPH_COSTS[metric](space)


def at(cost: CostModel, share: float) -> float:
    low, high = cost.minimum()[0], cost.maximum()[0]
    return low + share * (high - low)


def budget(space: SearchSpace, share: float, metric: str = "flops") -> Budget:
    cost = cost_of(space, metric)
    return Budget(metric, at(cost, share), cost)


def every_network(space: SearchSpace) -> Encodings:
    rows = np.concatenate(list(space.enumerate()))
    return np.asarray(np.unique(space.canonical(rows), axis=0))


def networks(space: SearchSpace, budgets: list[Budget]) -> Encodings:
    rows = every_network(space)
    for b in budgets:
        rows = rows[b.allows(rows)]
    return rows


def as_set(rows: Encodings) -> set[bytes]:
    return {row.tobytes() for row in rows}


SHARES = st.lists(st.sampled_from([0.001, 0.02, 0.1, 0.3, 0.7, 1.0]), min_size=0, max_size=3)
METRICS = ("flops", "latency_ms", "params", "model_mb", "peak_memory_mb")


# Random spaces, one to three budgets, against brute force -----------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.one_of(spaces(), st.sampled_from(SPACES)), SHARES, st.permutations(METRICS), st.booleans())
def test_refusal_walk_and_counts_agree_with_brute_force(
    space: SearchSpace, shares: list[float], metrics: list[str], listed: bool
) -> None:
    budgets = [budget(space, s, m) for s, m in zip(shares, metrics, strict=False)]
    wanted = networks(space, budgets)
    with pytest.MonkeyPatch.context() as patch:
        if not listed:
            patch.setattr(sets, "_LISTED", -1)
        if not len(wanted):
            with pytest.raises(ImpossibleBudget):
                FeasibleSet(space, budgets)
            return
        feasible = FeasibleSet(space, budgets)
        found = np.concatenate(list(feasible.rows()))
        assert len(found) == len(wanted)
        assert as_set(found) == as_set(wanted)
        low, high = feasible.bracket
        assert low <= len(wanted) <= high <= feasible.at_most
        assert low <= feasible.count <= high
        assert feasible.everything == len(every_network(space))
        assert feasible.share == (low / feasible.everything, high / feasible.everything)
        assert not listed or low == high
        assert as_set(feasible.draw(np.random.default_rng(0), 40)) <= as_set(wanted)


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(spaces(), st.sampled_from(SPACES)),
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_budgets_on_maxima_are_exact_without_a_list(
    space: SearchSpace, shares: list[float], summed: bool, seed: int
) -> None:
    maxima = [made_up(space, seed + i, "max") for i in range(len(shares))]
    if len(maxima) < 3:
        maxima[-1] = peak_memory_model(space)
    budgets = [Budget("peak_memory_mb", at(cost, share), cost) for cost, share in zip(maxima, shares, strict=True)]
    if summed:
        budgets[0] = budget(space, shares[0], "latency_ms")
    wanted = networks(space, budgets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sets, "_LISTED", -1)
        if not len(wanted):
            with pytest.raises(ImpossibleBudget):
                FeasibleSet(space, budgets)
            return
        feasible = FeasibleSet(space, budgets)
        assert as_set(np.concatenate(list(feasible.rows()))) == as_set(wanted)
        assert as_set(feasible.draw(np.random.default_rng(0), 40)) <= as_set(wanted)
        low, high = feasible.bracket
        assert low <= len(wanted) <= high
        assert feasible.everything == len(every_network(space))
        for cost in (made_up(space, seed + 9, "max"), *maxima):
            found, truth = feasible.distribution(cost), cost(wanted)
            assert found.total == pytest.approx(feasible.count)
            if not summed:
                assert low == high == len(wanted)
                assert found.exact
                assert found.at_most(truth).tolist() == [(truth <= v).sum() for v in truth]
                assert found.quantile(1.0) == truth.max()
            assert set(found.values) <= set(cost.in_unit(np.concatenate(cost.tables)))


@pytest.mark.parametrize("summed", [False, True])
def test_a_maximum_is_uniform_inside_and_its_steps_are_steps(summed: bool, counted: bool) -> None:
    peak = peak_memory_model(STRIDED)
    limit = float(np.quantile(peak(every_network(STRIDED)), 0.4, method="lower"))
    budgets = [Budget("peak_memory_mb", limit, peak)] + [budget(STRIDED, 0.5)] * summed
    wanted, feasible = networks(STRIDED, budgets), FeasibleSet(STRIDED, budgets)
    assert 20 < len(wanted) < 0.6 * len(every_network(STRIDED))
    rows, times = np.unique(feasible.draw(np.random.default_rng(0), 40 * len(wanted)), axis=0, return_counts=True)
    assert as_set(rows) == as_set(wanted)
    assert ((times - 40) ** 2 / 40).sum() < len(wanted) + 6 * np.sqrt(2 * len(wanted))
    truth = peak(wanted)
    levels = np.unique(truth)
    found = feasible.distribution(peak)
    between = (levels[1:] + levels[:-1]) / 2
    assert found.at_most(between) == pytest.approx(found.at_most(levels[:-1]))
    near = found.at_most(levels) / found.total
    assert near == pytest.approx([(truth <= v).mean() for v in levels], abs=0.05 if summed and counted else 1e-9)


def test_the_exact_minimum_of_a_maximum_is_possible_and_less_is_not(small: SearchSpace) -> None:
    cost = peak_memory_model(small)
    least = cost.minimum()[0]
    inside = FeasibleSet(small, [Budget("peak_memory_mb", least, cost)])
    low, high = inside.bracket
    assert low == high > 1
    assert (cost(inside.draw(np.random.default_rng(0), 50)) == least).all()
    with pytest.raises(ImpossibleBudget, match=r"smallest achievable is 0\.032768 MB") as raised:
        FeasibleSet(small, [Budget("peak_memory_mb", least * 0.999, cost)])
    assert raised.value.smallest == {"peak_memory_mb": least}


def test_a_peak_takes_no_bins_from_the_other_budgets(light_nas: SearchSpace) -> None:
    peak = peak_memory_model(light_nas)
    alone, flops = Budget("peak_memory_mb", 5.0, peak), budget(light_nas, 0.05)
    x = light_nas.sample(np.random.default_rng(0), 20_000)
    low, high = FeasibleSet(light_nas, [alone]).share
    assert low == high == pytest.approx(alone.allows(x).mean(), abs=0.01)
    both = FeasibleSet(light_nas, [alone, flops])
    assert both.bracket[1] < 1.02 * both.bracket[0]
    assert both.contains(both.propose(np.random.default_rng(0), 500)).mean() > 0.95


@settings(deadline=None, max_examples=40)
@given(spaces(), st.lists(st.floats(0.01, 1.0), min_size=1, max_size=2), st.integers(2, 40), st.integers(0, 2**32))
def test_rounding_down_counts_a_superset_up_a_subset_and_nearest_lies_between(
    space: SearchSpace, shares: list[float], bins: int, seed: int
) -> None:
    budgets = [budget(space, s, m) for s, m in zip(shares, ("latency_ms", "flops"), strict=False)]
    limits = [Limit(b.cost.tables, (b.limit - b.cost.offset) / b.cost.scale) for b in budgets]
    chain, truth = Chain(space), len(networks(space, budgets))
    totals = [
        Programme(chain, [Axis(chain, limit, bins, rounding) for limit in limits]).total()
        for rounding in (Rounding.UP, Rounding.NEAREST, Rounding.DOWN)
    ]
    assert totals == sorted(totals)
    assert totals[0] <= truth <= totals[2]


@settings(deadline=None, max_examples=40)
@given(spaces(), SHARES, st.permutations(METRICS), st.sampled_from(METRICS), st.booleans())
def test_distributions_sum_to_the_count_and_lie_near_the_truth(
    space: SearchSpace, shares: list[float], metrics: list[str], metric: str, listed: bool
) -> None:
    budgets = [budget(space, s, m) for s, m in zip(shares, metrics, strict=False)]
    wanted = networks(space, budgets)
    if not len(wanted):
        return
    cost = cost_of(space, metric)
    truth = cost(wanted)
    with pytest.MonkeyPatch.context() as patch:
        if not listed:
            patch.setattr(sets, "_LISTED", -1)
        feasible = FeasibleSet(space, budgets)
        found, histogram = feasible.distribution(cost), feasible.histogram(cost, 7)
        assert found.total == pytest.approx(feasible.count)
        assert histogram.counts.sum() == pytest.approx(feasible.count)
        assert (histogram.counts >= 0).all()
        assert len(histogram.counts) == 7
        if listed:
            assert found.exact
            if len(found.values) > 1:
                assert histogram.counts.tolist() == np.histogram(truth, histogram.edges)[0].tolist()
            assert found.at_most(truth).tolist() == [(truth <= v).sum() for v in truth]
            assert found.quantile(0.5) == np.sort(truth)[(len(truth) - 1) // 2]
        else:
            assert histogram.edges[-1] >= truth.max() * (1 - 1e-9)
        edges = np.linspace(cost.minimum()[0], cost.maximum()[0], 4)
        assert feasible.histogram(cost, edges).counts.sum() == pytest.approx(feasible.count)


@settings(deadline=None, max_examples=40)
@given(spaces(), SHARES, st.permutations(METRICS), st.integers(0, 2**32))
def test_neighbours_are_those_of_brute_force(
    space: SearchSpace, shares: list[float], metrics: list[str], seed: int
) -> None:
    budgets = [budget(space, s, m) for s, m in zip(shares, metrics, strict=False)]
    if not len(networks(space, budgets)):
        return
    feasible = FeasibleSet(space, budgets)
    row = space.sample(np.random.default_rng(seed))[0]
    near = feasible.neighbours(row)
    assert ((near != row).sum(axis=1) == 1).all()
    assert feasible.contains(near).all()
    keys = as_set(space.canonical(near)) if len(near) else set()
    assert len(keys) == len(near)
    every = space.neighbours(row)
    for b in budgets:
        every = every[b.allows(every)]
    wanted = as_set(space.canonical(every)) if len(every) else set()
    assert keys == wanted - {space.canonical(row)[0].tobytes()}


@settings(deadline=None, max_examples=30)
@given(spaces(), st.floats(0.05, 0.95))
def test_a_lagrangian_bound_is_never_above_the_truth(space: SearchSpace, share: float) -> None:
    flops, other = budget(space, share), made_up(space, 1)
    inside = networks(space, [flops])
    bound = least_inside(Chain(space), other.tables, Limit(flops.cost.tables, flops.limit))
    least = ((other(inside) - other.offset) / other.scale).min()
    assert bound <= least * (1 + 1e-9)


# Uniform samples ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
@pytest.mark.parametrize("shares", [(0.1,), (0.5,), (0.4, 0.5)], ids=str)
def test_samples_are_inside_and_uniform(space: SearchSpace, shares: tuple[float, ...], counted: bool) -> None:
    budgets = [budget(space, s, m) for s, m in zip(shares, ("flops", "latency_ms"), strict=False)]
    wanted = networks(space, budgets)
    feasible = FeasibleSet(space, budgets)
    x = feasible.draw(np.random.default_rng(0), 20 * len(wanted) + 2_000)
    assert (space.canonical(x) == x).all()
    rows, times = np.unique(x, axis=0, return_counts=True)
    assert as_set(rows) == as_set(wanted)
    expected = len(x) / len(wanted)
    chi2 = ((times - expected) ** 2 / expected).sum()
    assert chi2 < len(wanted) + 6 * np.sqrt(2 * len(wanted))
    proposed = feasible.propose(np.random.default_rng(1), 2_000)
    assert feasible.contains(proposed).mean() > 0.8


def test_samples_of_a_large_space_keep_two_budgets(light_nas: SearchSpace) -> None:
    feasible = FeasibleSet(light_nas, [budget(light_nas, 0.05), budget(light_nas, 0.2, "params")])
    low, high = feasible.bracket
    assert 0.7 * high < low < high
    x = feasible.draw(np.random.default_rng(0), 500)
    assert x.shape == (500, 25)
    assert feasible.contains(x).all()
    assert len(np.unique(x, axis=0)) == 500
    uniform = light_nas.sample(np.random.default_rng(0), 20_000)
    uniform = uniform[feasible.contains(uniform)]
    assert len(uniform) / 20_000 == pytest.approx(feasible.count / light_nas.size, rel=0.15)
    for gene, choices in enumerate(light_nas.cardinalities):
        ours, theirs = (np.bincount(rows[:, gene], minlength=choices) / len(rows) for rows in (x, uniform))
        assert np.abs(ours - theirs).max() < 0.15


def test_light_nas_is_counted_and_sampled_inside_a_millionth(light_nas: SearchSpace) -> None:
    feasible = FeasibleSet(light_nas, [budget(light_nas, 0.002)])
    low, high = feasible.share
    assert 1e-6 < low <= high < 1e-5
    assert high < 1.1 * low
    assert feasible.contains(feasible.propose(np.random.default_rng(0), 200)).mean() > 0.9
    assert FeasibleSet(light_nas, []).bracket == (light_nas.size, light_nas.size)


def test_many_stride_patterns_share_their_tails() -> None:
    space = staged_space(
        "patterns",
        inputs=[(3, 64, 64), (3, 96, 96)],
        stem=Stem(8),
        stages=[Stage(width=(8, 16), kernel=(3, 5), stride=(1, 2)) for _ in range(8)],
        head=Head(10, width=0),
        reduction=32,
    )
    scenarios = len(list(space.scenarios()))
    chain = Chain(space)
    assert scenarios == 70
    assert len(chain.tails) < scenarios * len(space.sites) / 2
    assert Programme(chain, ()).total() == space.size
    flops = budget(space, 0.3)
    rows = space.sample(np.random.default_rng(0), 4_000)
    low, high = FeasibleSet(space, [flops]).share
    assert low - 0.03 < flops.allows(rows).mean() < high + 0.03


# Distributions ------------------------------------------------------------------------------------------------------


def test_the_distribution_of_a_large_set_agrees_with_its_samples(small: SearchSpace) -> None:
    ms = made_up(small, 2)
    shares = np.array([0.02, 0.1, 1 / 3, 0.5, 0.9, 0.98])
    for budgets in ([], [budget(small, 0.15)], [budget(small, 0.15), budget(small, 0.4, "params")]):
        feasible = FeasibleSet(small, budgets)
        x = feasible.draw(np.random.default_rng(0), 20_000)
        for cost in (flops_model(small), ms):
            found = feasible.distribution(cost)
            values = cost(x)
            near = np.interp(found.quantile(shares), np.sort(values), np.linspace(0, 1, len(values)))
            assert near == pytest.approx(shares, abs=0.03)
            assert found.at_most(found.quantile(0.4)) == pytest.approx(0.4 * feasible.count)
            assert found.values[0] == pytest.approx(cost.minimum()[0])


# Refusal ------------------------------------------------------------------------------------------------------------


def test_the_exact_minimum_is_possible_and_less_is_not(small: SearchSpace) -> None:
    cost = flops_model(small)
    least, row = cost.minimum()
    only = FeasibleSet(small, [Budget("flops", least, cost)])
    assert np.concatenate(list(only.rows())).tolist() == [row.tolist()]
    assert only.bracket == (1.0, 1.0)
    assert only.draw(np.random.default_rng(0), 3).tolist() == [row.tolist()] * 3
    with pytest.raises(ImpossibleBudget, match="smallest achievable") as raised:
        FeasibleSet(small, [Budget("flops", least - 1, cost)])
    assert raised.value.smallest == {"flops": least}


def test_the_cheapest_network_is_inside_a_budget_of_exactly_its_cost() -> None:
    for seed in range(20):  # no whole numbers: sums differ in their last digit with the order of their terms
        cost = made_up(MACRO, seed)
        least, row = cost.minimum()
        feasible = FeasibleSet(MACRO, [Budget("latency_ms", max(least, cost.one(row)), cost)])
        assert feasible.bracket == (1.0, 1.0)
        assert feasible.draw(np.random.default_rng(0), 2).tolist() == [row.tolist()] * 2


def inverse(flops: CostModel) -> CostModel:
    """The dearest network costs nothing in this unit, the cheapest the most: flops and it can't both be small."""
    return CostModel(flops.space, [-t for t in flops.tables], unit="ms", offset=flops.maximum()[0])


def test_budgets_that_only_conflict_together_are_refused_with_what_was_reached() -> None:
    flops = flops_model(SMALL)
    against = inverse(flops)
    for share in (0.3, 0.45, 0.499):
        each = [Budget("flops", at(flops, share), flops), Budget("latency_ms", at(against, share), against)]
        with pytest.raises(ImpossibleBudget, match=r"has flops <= .* and latency_ms <= .* together") as raised:
            FeasibleSet(SMALL, each)
        assert set(raised.value.smallest) == {"flops", "latency_ms"}
        assert "\n" not in str(raised.value)


def test_a_narrow_band_between_two_budgets_is_found_and_drawn_from() -> None:
    flops = flops_model(SMALL)
    against = inverse(flops)
    narrow = [Budget("flops", at(flops, 0.502), flops), Budget("latency_ms", at(against, 0.502), against)]
    feasible = FeasibleSet(SMALL, narrow)
    assert feasible.bracket[0] >= 1
    found = feasible.descend(np.random.default_rng(0), feasible.contains)
    assert found is not None
    assert feasible.contains(found[None]).all()
    assert feasible.contains(feasible.draw(np.random.default_rng(0), 20)).all()


def test_a_budget_that_every_network_keeps_changes_nothing(small: SearchSpace) -> None:
    flops, params = budget(small, 0.1), Budget("params", 1e12, params_model(small))
    assert FeasibleSet(small, [flops, params]).bracket == FeasibleSet(small, [flops]).bracket
    assert FeasibleSet(small, [params]).bracket == (small.size, small.size)
