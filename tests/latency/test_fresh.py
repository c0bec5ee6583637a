from __future__ import annotations

import numpy as np
import pytest

from latency.fresh import fresh_encodings, fresh_graphs
from nas.cost import flops_model
from nas.spaces import build_space


@pytest.mark.parametrize("name", ["mobilenetv2-small", "light-nas"])
def test_fresh_networks_are_distinct_and_reach_down_to_the_cheap_ones(name: str) -> None:
    space = build_space(name)
    x = fresh_encodings(space, 48, seed=0)
    assert len({row.tobytes() for row in space.canonical(x)}) == 48
    flops = flops_model(space)
    median = np.median(flops(space.sample(np.random.default_rng(1), 500)))
    assert flops(x).min() < 0.5 * median
    assert (flops(x) >= median).sum() > 5


def test_they_follow_the_seed() -> None:
    space = build_space("nas-bench-macro")
    np.testing.assert_array_equal(fresh_encodings(space, 10, seed=3), fresh_encodings(space, 10, seed=3))
    assert not np.array_equal(fresh_encodings(space, 10, seed=3), fresh_encodings(space, 10, seed=4))
    assert len(fresh_graphs(space, 10, seed=3)) == 10
