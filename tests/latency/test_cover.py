from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency.cover import cover_space, isolated_graph
from latency.engines import get_engine
from nas.graph import Graph, Op, Place
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.spaces.staged import Head, Stage, Stem, staged_space

ENGINE = get_engine("ncnn")


def keys_of(graphs: list[Graph]) -> set[str]:
    return {ENGINE.engine_key(op) for g in graphs for op in g.ops}


def keys_of_space(space: SearchSpace) -> set[str]:
    return {ENGINE.engine_key(op) for op in space.ops()}


def choices(*values: object) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True).map(tuple)


STAGES = st.builds(
    Stage,
    width=choices(8, 12, 16),
    family=st.sampled_from([("mbconv",), ("mbconv", "shuffle_v2")]),
    expansion=choices(1, 2, 3),
    repeats=choices(1, 2, 3),
    kernel=choices(3, 5),
    se=choices(False, True),
    stride=st.sampled_from([(1,), (2,)]),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(STAGES, min_size=1, max_size=3), st.sampled_from([(3, 16, 16), (1, 24, 16)]))
def test_every_op_of_a_space_is_covered_and_no_network_is_needless(stages: list[Stage], shape: tuple) -> None:
    if not any(len(getattr(s, k)) > 1 for s in stages for k in ("width", "family", "repeats", "kernel")):
        stages = [*stages, Stage(width=(8, 16))]
    space = staged_space("any", inputs=[shape], stem=Stem(8), stages=stages, head=Head(5, width=16))
    cover = cover_space(space, ENGINE)
    graphs = cover.graphs(space)
    assert keys_of(graphs) == keys_of_space(space)
    for i in range(len(graphs)):
        assert keys_of(graphs[:i] + graphs[i + 1 :]) < keys_of_space(space) or len(graphs) == 1


@settings(max_examples=10, deadline=None)
@given(st.lists(STAGES, min_size=1, max_size=2), st.randoms(use_true_random=False))
def test_what_is_there_already_is_not_covered_again(stages: list[Stage], random: Random) -> None:
    space = staged_space(
        "any", inputs=[(3, 16, 16)], stem=Stem(8), stages=[*stages, Stage(width=(8, 16))], head=Head(5, width=16)
    )
    have = {key for key in keys_of_space(space) if random.random() < 0.5}
    cover = cover_space(space, ENGINE, have)
    assert keys_of(cover.graphs(space)) | have >= keys_of_space(space)
    assert len(cover.graphs(space)) <= len(cover_space(space, ENGINE).graphs(space))
    assert not cover_space(space, ENGINE, keys_of_space(space)).graphs(space)


def test_where_strides_are_searched_every_op_is_covered_too() -> None:
    stages = [Stage(width=(8, 16), stride=(1, 2), expansion=(2,)) for _ in range(3)]
    space = staged_space(
        "strides", inputs=[(3, 32, 32)], stem=Stem(8), stages=stages, head=Head(5, width=16), reduction=8
    )
    cover = cover_space(space, ENGINE)
    in_networks = keys_of([space.graph(x) for x in cover.encodings])
    alone = {ENGINE.kernel_key(place) for place in cover.isolated}
    assert in_networks | alone == keys_of_space(space)
    assert not in_networks & alone
    assert keys_of(cover.graphs(space)) >= keys_of_space(space)


@pytest.mark.parametrize(
    ("name", "most"),
    [("nas-bench-macro", 4), ("mobilenetv2-small", 50), pytest.param("light-nas", 225, marks=pytest.mark.slow)],
)
def test_the_shipped_spaces_need_few_networks(name: str, most: int) -> None:
    space = build_space(name)
    cover = cover_space(space, ENGINE)
    assert not cover.isolated
    assert len(cover.encodings) <= most
    assert keys_of(cover.graphs(space)) == keys_of_space(space)


def test_among_equals_the_cheap_network_is_taken() -> None:
    stages = [Stage(width=(8, 16, 24), expansion=(3,))]
    space = staged_space("cheap", inputs=[(3, 16, 16)], stem=Stem(8), stages=stages, head=Head(5, width=16))
    cover = cover_space(space, ENGINE)
    flops = [space.graph(x).flops for x in cover.encodings]
    # The first holds one op more (width 8 has a residual); the others are equal in number.
    assert flops[1:] == sorted(flops[1:])
    again = cover_space(space, ENGINE)
    np.testing.assert_array_equal(cover.encodings, again.encodings)


@pytest.mark.parametrize(
    "key",
    [
        "conv:8x4x4>6x2x2:k3x3:s2x2:g2:bn:relu",
        "depthwise:8x4x4>8x4x4:k5x5:s1x1:bn:relu6",
        "linear:8x4x4>5x1x1:bias",
        "add:8x4x4+8x4x4>8x4x4",
        "concat:8x4x4+4x4x4>12x4x4",
        "split:12x4x4>8x4x4+4x4x4",
        "shuffle:8x4x4>8x4x4:g2",
        "scale:8x4x4+8x1x1>8x4x4",
        "globalpool:8x4x4>8x1x1",
        "maxpool:8x4x4>8x2x2:k3x3:s2x2",
    ],
)
def test_any_op_can_stand_alone(key: str) -> None:
    op = Op.parse(key)
    graph = isolated_graph(Place(op, None, (None,) * len(op.inputs)))
    assert graph.nodes[-1].op == op
    assert graph.nodes[-1].path == "op"
    ENGINE.build(graph)
