from __future__ import annotations

import numpy as np
import pytest

from nas.cost import flops_model
from nas.feasible import FeasibleSet
from nas.objective import Budget
from nas.space import Encodings, SearchSpace
from nas.spaces import build_space
from nas.surrogate.ascent import ascend
from nas.surrogate.features import Features
from nas.surrogate.process import Draws, Posterior


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return build_space("mobilenetv2-small")


@pytest.fixture(scope="module")
def functions(space: SearchSpace) -> tuple[Features, Draws]:
    features, random = Features(space), np.random.default_rng(1)
    known = features(space.compiled.canonical(space.sample(random, 20)))
    variances = np.array([0.5, 0.3, 0.3, 0.1, 0.1, 0.1])
    return features, Posterior(known, random.normal(size=20), np.zeros(20), variances).draw(random, 3)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_no_single_change_inside_improves_where_it_ends(
    space: SearchSpace, functions: tuple[Features, Draws], share: float
) -> None:
    features, draws = functions
    cost = flops_model(space)
    inside = FeasibleSet(space, [Budget("flops", share * cost.maximum()[0], cost)])
    starts = inside.draw(np.random.default_rng(2), len(draws))
    met = ascend(features, draws, inside.contains, starts, rounds=60, keep=8)
    assert inside.contains(met.rows).all()
    np.testing.assert_array_equal(met.rows, space.canonical(met.rows))
    values = draws(features(met.rows))[met.function, np.arange(len(met.rows))]
    np.testing.assert_allclose(met.value, values, atol=1e-4)
    before = draws(features(starts)).diagonal()
    for number, row in enumerate(met.tops()):
        near = inside.neighbours(row)
        reached = draws(features(row[None]))[number, 0]
        assert reached >= before[number]
        assert draws(features(space.canonical(near)))[number].max() <= reached + 1e-4


def test_few_rounds_come_as_far_as_steepest_ascent_needs_many_for(
    space: SearchSpace, functions: tuple[Features, Draws]
) -> None:
    features, draws = functions
    everywhere = FeasibleSet(space)
    starts: Encodings = everywhere.draw(np.random.default_rng(3), len(draws))
    few = ascend(features, draws, everywhere.contains, starts, rounds=5, keep=2)
    most = ascend(features, draws, everywhere.contains, starts, rounds=60, keep=2)
    gained = [m.value[m.function == 0].max() for m in (few, most)]
    first = draws(features(starts))[0, 0]
    assert gained[0] - first > 0.8 * (gained[1] - first)
