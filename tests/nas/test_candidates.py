from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.candidates import Candidates
from nas.cost import flops_model, params_model
from nas.errors import SpaceExhausted
from nas.objective import Budget
from nas.space import Encoding, SearchSpace
from nas.spaces import build_space

MACRO = build_space("nas-bench-macro")
SMALL = build_space("mobilenetv2-small")
FLOPS = {s.name: flops_model(s) for s in (MACRO, SMALL)}
PARAMS = {s.name: params_model(s) for s in (MACRO, SMALL)}


def limited(space: SearchSpace, flops: float, params: float | None = None) -> Candidates:
    budgets = [Budget("flops", flops * FLOPS[space.name].maximum()[0], FLOPS[space.name])]
    if params is not None:
        budgets.append(Budget("params", params * PARAMS[space.name].maximum()[0], PARAMS[space.name]))
    return Candidates(space, budgets)


def exhaust(
    candidates: Candidates,
    propose: Callable[[Encoding, np.random.Generator], Encoding],
    row: Encoding,
    rng: np.random.Generator,
) -> None:
    while True:
        row = propose(row, rng)
        candidates.mark(row)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([MACRO, SMALL]),
    st.sampled_from([0.3, 0.6, 1.0]),
    st.sampled_from([None, 0.5]),
    st.lists(st.booleans(), min_size=5, max_size=25),
    st.integers(0, 2**32),
)
def test_nothing_over_budget_or_repeated_is_ever_proposed(
    space: SearchSpace, flops: float, params: float | None, moves: list[bool], seed: int
) -> None:
    candidates, rng = limited(space, flops, params), np.random.default_rng(seed)
    row, seen = space.sample(rng)[0], set[bytes]()
    for anywhere in moves:
        row = candidates.sample(rng) if anywhere else candidates.near(row, rng)
        assert candidates.fresh(row[None]).all()
        assert all(b.allows(row[None])[0] for b in candidates.feasible.budgets)
        key = space.canonical(row)[0].tobytes()
        assert key not in seen
        seen.add(key)
        candidates.mark(row)
        assert not candidates.fresh(row[None]).any()


@pytest.mark.parametrize("params", [None, 0.6])
def test_a_batch_is_judged_as_its_rows_are(params: float | None) -> None:
    candidates, rng = limited(MACRO, 0.6, params), np.random.default_rng(0)
    x = MACRO.sample(rng, 400)
    for row in x[:50]:
        candidates.mark(row)
    equal = np.concatenate([x, MACRO.canonical(x[:50])])
    fresh = candidates.fresh(equal)
    assert fresh.tolist() == [bool(candidates.fresh(row[None])[0]) for row in equal]
    assert 0 < fresh.sum() < len(equal)
    assert not fresh[:50].any()
    assert not fresh[-50:].any()
    assert candidates.fresh(x[:0]).tolist() == []


@pytest.mark.parametrize("how", ["sample", "near"])
def test_every_network_is_proposed_once_then_the_space_is_exhausted(how: str) -> None:
    candidates, rng = limited(MACRO, 0.4), np.random.default_rng(0)
    row = candidates.sample(rng)
    candidates.mark(row)
    propose = candidates.near if how == "near" else lambda _, rng: candidates.sample(rng)
    with pytest.raises(SpaceExhausted, match=r"every network of nas-bench-macro inside the budget .* of them"):
        exhaust(candidates, propose, row, rng)
    rows = np.concatenate(list(MACRO.enumerate()))
    inside = rows[candidates.feasible.contains(rows)]
    assert len(candidates) == len(np.unique(MACRO.canonical(inside), axis=0))


def test_near_is_at_the_smallest_distance_at_which_something_is_fresh() -> None:
    candidates, rng = limited(MACRO, 0.5), np.random.default_rng(0)
    every = np.concatenate(list(MACRO.enumerate()))
    row = candidates.sample(rng)
    candidates.mark(row)
    for _ in range(150):
        found = candidates.near(row, rng)
        fresh = every[candidates.fresh(every)]
        assert (found != row).sum() == (fresh != row).sum(axis=1).min()
        candidates.mark(found)


def test_a_row_far_over_budget_is_brought_inside() -> None:
    candidates = limited(SMALL, 0.1)
    top = FLOPS["mobilenetv2-small"].maximum()[1]
    assert not candidates.feasible.contains(top[None]).any()
    assert candidates.fresh(candidates.near(top, np.random.default_rng(0))[None]).all()


def test_the_last_networks_of_a_tight_joint_budget_are_found() -> None:
    least = {m: c.minimum() for m, c in (("flops", FLOPS[SMALL.name]), ("params", PARAMS[SMALL.name]))}
    budgets = [
        Budget("flops", least["flops"][0] * 1.02, FLOPS[SMALL.name]),
        Budget("params", least["params"][0] * 1.02, PARAMS[SMALL.name]),
    ]
    candidates, rng = Candidates(SMALL, budgets), np.random.default_rng(0)
    wanted = sum(len(x) for x in candidates.feasible.rows())
    assert wanted > 1
    with pytest.raises(SpaceExhausted):
        exhaust(candidates, lambda _, rng: candidates.sample(rng), least["flops"][1], rng)
    assert len(candidates) == wanted


def test_memory_per_trial_is_bounded(light_nas: SearchSpace) -> None:
    candidates = Candidates(light_nas)
    for row in light_nas.sample(np.random.default_rng(0), 4_000):
        candidates.mark(row)
    held = sys.getsizeof(candidates._seen) + sum(sys.getsizeof(key) for key in candidates._seen)
    assert held / len(candidates) <= 200
