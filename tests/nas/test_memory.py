from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency.engines.ncnn import NcnnEngine
from nas.cost import CostModel, costs, flops_model
from nas.fold import fold
from nas.graph import Graph, Shape
from nas.memory import model_mb, model_size_model, peak_memory_mb, peak_memory_model, weight_bytes
from nas.network import Network
from nas.space import Encodings, SearchSpace
from nas.spaces import build_space
from nas.spaces.families import build_mobilenet_v2, build_shufflenet_v2
from nas.spaces.staged import Head, Stage, Stem, staged_space


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """A small space with residuals, splits, excitations, searched strides and several resolutions."""

    def some(*values: Any, most: int = 2) -> tuple[Any, ...]:
        return tuple(draw(st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)))

    strided = draw(st.booleans())
    stages = [
        Stage(
            family=some("mbconv", "shuffle_v2"),
            width=some(8, 12, 16),
            repeats=some(1, 2, 3),
            kernel=some(3, 5),
            stride=(1, 2) if strided else (1,),
        )
        for _ in range(draw(st.integers(2, 3)))
    ]
    last = Stage(width=(8, 16), expansion=some(1, 2, 3), se=some(False, True), stride=(1, 2) if strided else (2,))
    inputs = [(3, side, side) for side in some(8, 12, 16)]
    reduction = draw(st.sampled_from((4, 8))) if strided else None
    return staged_space(
        "drawn", inputs=inputs, stem=Stem(8), stages=[*stages, last], head=Head(4, width=0), reduction=reduction
    )


def every(space: SearchSpace, most: int = 300) -> Encodings:
    rows = np.concatenate(list(space.enumerate()))
    return np.asarray(rows[np.random.default_rng(0).permutation(len(rows))[:most]])


def size(shape: Shape) -> int:
    return 4 * int(np.prod(shape))


def replayed(graph: Graph) -> int:
    """The peak by what the torch network keeps while it runs."""
    values, peak = {(-1, 0): size(graph.input.shape)}, 0
    for node, number, dead in Network(graph)._steps:
        made = {(number, port): size(shape) for port, shape in enumerate(node.op.outputs)}
        peak = max(peak, sum(values.values()) + sum(made.values()))
        values = {k: v for k, v in (values | made).items() if k not in dead}
    return peak


# Definitions --------------------------------------------------------------------------------------------------------


def test_a_chain_needs_what_is_read_and_what_is_written() -> None:
    g = Graph((3, 8, 8))
    x = g.conv(g.input, 16, stride=2, path="a")
    x = g.conv(x, 4, path="b")
    assert g.peak_memory_bytes == 4 * (3 * 64 + 16 * 16)
    g.linear(x, 200, path="c")
    assert g.peak_memory_bytes == 4 * (3 * 64 + 16 * 16)
    assert Graph((3, 8, 8)).peak_memory_bytes == 4 * 3 * 64


def test_a_residual_keeps_its_input_and_the_picture_goes_when_it_is_read() -> None:
    g = Graph((2, 4, 4))
    x = g.conv(g.input, 4, path="stem")
    hidden = g.conv(x, 24, path="expand")
    deep = g.depthwise(hidden, path="dw")
    out = g.conv(deep, 4, path="project")
    assert g.peak_memory_bytes == 4 * 16 * (24 + 24)  # nobody needs x any more
    g.add(x, out, path="add")
    assert g.peak_memory_bytes == 4 * 16 * (4 + 24 + 24)


def test_all_parts_of_a_split_live_until_they_are_read() -> None:
    g = Graph((8, 2, 2))
    left, right = g.split(g.input, (4, 4), path="split")
    right = g.conv(right, 40, path="wide")
    right = g.conv(right, 4, path="narrow")
    g.concat((left, right), path="concat")
    assert g.peak_memory_bytes == 4 * 4 * (4 + 40 + 4)


def test_what_nobody_reads_is_gone_at_once_and_the_picture_may_be_the_output() -> None:
    g = Graph((4, 2, 2))
    left, _ = g.split(g.input, (2, 2), path="split")
    assert g.peak_memory_bytes == 4 * 4 * 8
    g.conv(left, 5, path="conv")
    assert g.peak_memory_bytes == 4 * 4 * 8  # the right half is not kept beside the convolution
    assert g.peak_bytes(g.input) == 4 * 4 * (4 + 2 + 5)
    stretch = Graph((4, 2, 2))
    stretch.conv(stretch.conv(stretch.input, 8, path="a"), 1, path="b")
    assert (stretch.peak_bytes(), stretch.peak_bytes(stretch.input)) == (4 * 4 * 12, 4 * 4 * 13)


def test_known_networks() -> None:
    mobile = build_mobilenet_v2((3, 224, 224), 1000)
    # Stage 1's first block: 96 channels of 112x112 go in, 96 of 56x56 come out.
    assert mobile.peak_memory_bytes == 4 * 96 * (112 * 112 + 56 * 56) == 6_021_120
    assert peak_memory_mb(mobile) == 6.02112
    # A folded network has a bias where it had γ and β.
    biases = sum(op.outputs[0][0] for op in mobile.ops if op.norm)
    assert model_mb(mobile) * 1e6 == pytest.approx(4 * (mobile.params - biases) + 4 * 53, abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(spaces())
def test_the_peak_is_what_the_torch_network_keeps(space: SearchSpace) -> None:
    for row in every(space, 4):
        graph = space.graph(row)
        assert graph.peak_memory_bytes == replayed(graph)


@pytest.mark.parametrize(
    "graph",
    [
        build_mobilenet_v2((3, 32, 32), 10, 0.35, 8),
        build_shufflenet_v2((1, 32, 32), 7, 0.25, 8),
        build_space("nas-bench-macro").graph([1, 2, 0, 1, 2, 0, 2, 1]),
    ],
)
def test_the_model_is_as_large_as_its_ncnn_bin(graph: Graph) -> None:
    written = NcnnEngine().weights(graph, fold(Network(graph)))
    assert sum(map(weight_bytes, graph.ops)) == len(written)
    assert round(model_mb(graph) * 1e6) == len(written)
    assert model_mb(graph) == len(written) / 1e6


# Models -------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(spaces())
def test_models_price_what_the_graphs_have(space: SearchSpace) -> None:
    x = every(space)
    size_of, peak_of = model_size_model(space), peak_memory_model(space)
    graphs = [space.graph(row) for row in x]
    assert size_of(x).tolist() == [model_mb(g) for g in graphs]
    assert peak_of(x).tolist() == [peak_memory_mb(g) for g in graphs]
    together = costs([peak_of, flops_model(space), size_of], x)
    assert [c.tolist() for c in together] == [peak_of(x).tolist(), [g.flops for g in graphs], size_of(x).tolist()]
    assert (size_of.unit, peak_of.unit) == ("MB", "MB")


@settings(deadline=None, max_examples=25)
@given(spaces(), st.integers(0, 2**32))
def test_extremes_are_those_of_all_networks(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.concatenate(list(space.enumerate()))
    tables = [rng.normal(size=site.rows) for site in space.compiled.sites]
    drawn = CostModel(space, tables, unit="ms", offset=0.3, scale=1.7, combine="max")
    rows = space.site_rows(x)
    plain = np.max([t[rows[:, s]] for s, t in enumerate(tables)], axis=0)
    assert drawn(x).tolist() == (0.3 + 1.7 * plain).tolist()
    for model in (drawn, model_size_model(space), peak_memory_model(space)):
        values, (least, low), (most, high) = model(x), model.minimum(), model.maximum()
        assert (least, most) == (values.min(), values.max())
        assert (model.one(low), model.one(high)) == (least, most)


@pytest.mark.parametrize("name", ["nas-bench-macro", "mobilenetv2", "shufflenetv2", "mobilenetv2-small"])
def test_presets_agree_with_their_graphs(name: str) -> None:
    space = build_space(name, resolution=(32, 64) if "macro" not in name else None)
    x = space.sample(np.random.default_rng(0), 40)
    graphs = [space.graph(row) for row in x]
    assert peak_memory_model(space)(x).tolist() == [peak_memory_mb(g) for g in graphs]
    assert model_size_model(space)(x).tolist() == [model_mb(g) for g in graphs]


def test_megabytes_are_exact_so_that_a_budget_of_just_that_is_kept() -> None:
    space = build_space("mobilenetv2-small")
    x = space.sample(np.random.default_rng(0), 2000)
    for model, graph_mb in ((peak_memory_model(space), peak_memory_mb), (model_size_model(space), model_mb)):
        values = model(x)
        assert values.tolist() == [float(f"{v:.6f}") for v in values]
        assert values[0] == graph_mb(space.graph(x[0]))
