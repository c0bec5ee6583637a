from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nas.cost import CostModel, flops_model
from nas.space import Encodings, SearchSpace
from nas.spaces import build_space
from nas.spaces.staged import Head, Stage, Stem, staged_space
from nas.surrogate.chains import Visited, anneal
from nas.surrogate.features import Features
from nas.surrogate.process import Draws, Posterior

MACRO = build_space("nas-bench-macro")
# Strides and the resolution are searched, too: 648 networks.
STRIDED = staged_space(
    "strided",
    inputs=[(3, 16, 16), (3, 24, 24)],
    stem=Stem(8),
    stages=[
        Stage(width=(8, 12), stride=(1, 2), expansion=(1, 2, 3)),
        Stage(width=(8, 16), stride=(1, 2), repeats=(1, 2, 3)),
        Stage(width=(8, 16, 24), stride=(1, 2)),
    ],
    head=Head(10, width=0),
    reduction=8,
)
FEATURES = {s.name: Features(s) for s in (MACRO, STRIDED)}
FLOPS = {s.name: flops_model(s) for s in (MACRO, STRIDED)}
VARIANCES = np.array([0.4, 0.2, 0.3, 0.15, 0.1, 0.05])
FUNCTIONS, CHAINS = 4, 8


def every_network(space: SearchSpace) -> Encodings:
    return np.unique(space.canonical(np.concatenate(list(space.enumerate()))), axis=0)


EVERY = {s.name: every_network(s) for s in (MACRO, STRIDED)}


def functions(space: SearchSpace, seed: int) -> Draws:
    """The mean and some draws after a few made-up trials."""
    rng = np.random.default_rng(seed)
    known = FEATURES[space.name](space.canonical(space.sample(rng, 12)))
    posterior = Posterior(known, rng.normal(size=12), np.zeros(12), VARIANCES)
    return posterior.draw(rng, FUNCTIONS - 1)


class Fence:
    """Allows what costs at most each chain's ceiling (chains,), and remembers what it was asked."""

    def __init__(self, cost: CostModel, ceilings: NDArray[np.float64]) -> None:
        self.cost, self.ceilings, self.asked = cost, ceilings, list[Encodings]()

    def __call__(self, x: Encodings) -> NDArray[np.bool_]:
        self.asked.append(x.copy())
        return self.cost(x) <= self.ceilings


def climb(
    space: SearchSpace, draws: Draws, seed: int, shares: list[float], *, steps: int = 80, keep: int = 20
) -> tuple[Visited, Fence, Encodings]:
    """Each function's chains under a ceiling of their own, a share of the networks; their starts are uniform below."""
    rng, cost, every = np.random.default_rng(seed), FLOPS[space.name], EVERY[space.name]
    ceilings = np.repeat(np.quantile(cost(every), shares), CHAINS)
    starts = np.array([rng.choice(every[cost(every) <= ceiling]) for ceiling in ceilings])
    fence = Fence(cost, ceilings)
    return anneal(FEATURES[space.name], draws, fence, starts, rng, steps=steps, keep=keep), fence, starts


SHARES = st.lists(st.sampled_from([0.01, 0.1, 0.5, 1.0]), min_size=FUNCTIONS, max_size=FUNCTIONS)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([MACRO, STRIDED]), st.integers(0, 2**32), SHARES, st.sampled_from([0, 1, 25]))
def test_chains_stay_where_they_may_and_tell_what_they_met(
    space: SearchSpace, seed: int, shares: list[float], steps: int
) -> None:
    draws = functions(space, seed)
    met, fence, starts = climb(space, draws, seed, shares, steps=steps)
    assert (FLOPS[space.name](met.rows) <= fence.ceilings[::CHAINS][met.function]).all()
    assert (space.canonical(met.rows) == met.rows).all()
    values = draws(FEATURES[space.name](met.rows))[met.function, np.arange(len(met.rows))]
    np.testing.assert_allclose(met.value, values, atol=1e-4)
    asked = np.array([starts, *fence.asked])
    for i in range(FUNCTIONS):
        rows, value = met.rows[met.function == i], met.value[met.function == i]
        assert 1 <= len(rows) <= 20
        assert len({row.tobytes() for row in rows}) == len(rows)
        assert (np.diff(value) <= 0).all()
        mine = asked[:, i * CHAINS : (i + 1) * CHAINS].reshape(-1, asked.shape[2])
        assert {row.tobytes() for row in rows} <= {row.tobytes() for row in mine}
        best = draws(FEATURES[space.name](starts[i * CHAINS : (i + 1) * CHAINS]))[i].max()
        assert value.max() >= best - 1e-4
    assert (np.diff(met.function) >= 0).all()
    assert len(fence.asked) == steps


@pytest.mark.parametrize("space", [MACRO, STRIDED], ids=lambda s: s.name)
@pytest.mark.parametrize("shares", [[1.0] * FUNCTIONS, [0.1, 0.3, 0.5, 1.0]], ids=["everywhere", "below ceilings"])
def test_the_best_network_of_all_is_among_those_met(space: SearchSpace, shares: list[float]) -> None:
    missed, every, cost = 0, EVERY[space.name], FLOPS[space.name]
    ceilings = np.quantile(cost(every), shares)
    for seed in range(6):
        draws = functions(space, seed)
        met, _, _ = climb(space, draws, seed, shares, steps=300)
        values = np.where(cost(every) <= ceilings[:, None], draws(FEATURES[space.name](every)), -np.inf)
        for i, best in enumerate(values.argmax(axis=1)):
            found = met.value[met.function == i].max()
            assert found <= values[i].max() + 1e-4
            missed += found < values[i, best] - 1e-4
    assert missed <= 2  # of 24


def test_the_same_generator_climbs_the_same_way() -> None:
    draws = functions(STRIDED, 0)
    first, again, other = (climb(STRIDED, draws, seed, [0.5] * FUNCTIONS)[0] for seed in (1, 1, 2))
    assert first.rows.tolist() == again.rows.tolist()
    assert first.value.tolist() == again.value.tolist()
    assert first.rows.tolist() != other.rows.tolist()


def test_equal_networks_are_met_once() -> None:
    """In a space where much is equal, chains that start at another form of a network stand on its canonical one."""
    rng, draws = np.random.default_rng(0), functions(MACRO, 0)
    row = MACRO.row([0, 1, 0, 2, 0, 1, 0, 0])
    others = np.concatenate(list(MACRO.enumerate()))
    equal = others[(MACRO.canonical(others) == MACRO.canonical(row)).all(axis=1)]
    assert len(equal) > 1
    starts = np.resize(equal, (FUNCTIONS * CHAINS, equal.shape[1]))
    met = anneal(FEATURES[MACRO.name], draws, lambda x: np.zeros(len(x), np.bool_), starts, rng, steps=9, keep=5)
    assert met.rows.tolist() == [MACRO.canonical(row)[0].tolist()] * FUNCTIONS
    assert met.function.tolist() == list(range(FUNCTIONS))


def test_it_climbs_better_than_chance() -> None:
    """Where there are far more networks than moves, the best met are better than the best of as many uniform ones."""
    space = build_space("mobilenetv2-small")
    features, rng = Features(space), np.random.default_rng(0)
    known = features(space.sample(rng, 12))
    draws = Posterior(known, rng.normal(size=12), np.zeros(12), VARIANCES).draw(rng, FUNCTIONS - 1)
    starts, steps = space.sample(rng, FUNCTIONS * CHAINS), 200
    met = anneal(features, draws, lambda x: np.ones(len(x), np.bool_), starts, rng, steps=steps, keep=8)
    chance = draws(features(space.sample(rng, CHAINS * (steps + 1))))
    for i in range(FUNCTIONS):
        assert met.value[met.function == i].max() > chance[i].max() + 0.2 * chance[i].std()
