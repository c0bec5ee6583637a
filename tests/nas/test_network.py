from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nas.blocks import FAMILIES
from nas.errors import InvalidOp
from nas.graph import ACTIVATIONS, Graph
from nas.network import Network


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random networks of both families, with a classifier."""
    g = Graph((draw(st.sampled_from([1, 3])), draw(st.integers(8, 20)), draw(st.integers(8, 20))))
    act = st.sampled_from(ACTIVATIONS)
    x = g.conv(g.input, draw(st.sampled_from([4, 8])), kernel=3, stride=2, act=draw(act), path="stem")
    for i in range(draw(st.integers(1, 3))):
        path, c, stride = f"s1.b{i}", draw(st.sampled_from([x.shape[0], 6, 8])), draw(st.sampled_from([1, 2]))
        kernel = draw(st.sampled_from([3, 5]))
        if draw(st.booleans()):
            x = FAMILIES["shuffle_v2"].build(g, x, c, stride=stride, kernel=kernel, act=draw(act), path=path)
        else:
            knobs = {"expansion": draw(st.integers(1, 3)), "se": draw(st.booleans()), "act": draw(act)}
            x = FAMILIES["mbconv"].build(g, x, c, stride=stride, kernel=kernel, path=path, **knobs)
    g.linear(g.global_pool(x, path="pool"), draw(st.integers(2, 5)), path="classifier")
    return g


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_has_exactly_the_parameters_of_its_graph(graph: Graph) -> None:
    network = Network(graph).eval()
    assert sum(p.numel() for p in network.parameters()) == graph.params
    with torch.inference_mode():
        assert network(torch.randn(2, *graph.input.shape)).shape == (2, graph.output.shape[0])


def test_parameters_are_named_by_path() -> None:
    g = Graph((3, 8, 8))
    x = g.conv(g.input, 4, kernel=3, path="stem")
    g.linear(FAMILIES["mbconv"].build(g, x, 4, path="s2.b1"), 2, path="classifier")
    names = set(dict(Network(g).named_parameters()))
    assert {"stem.weight", "stem.norm.weight", "s2.b1.dw.weight", "s2.b1.dw.norm.bias", "classifier.bias"} <= names


def _chain(*paths: str) -> Network:
    g = Graph((2, 4, 4))
    x = g.input
    for path in paths:
        x = g.conv(x, 2, path=path)
    return Network(g)


@pytest.mark.parametrize("paths", [("a.b", "a"), ("a", "a.norm"), ("train",), ("a", "a.weight")])
def test_a_path_that_cannot_name_weights_is_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(InvalidOp, match=rf"path '{paths[-1]}' cannot name weights"):
        _chain(*paths)


def _run(graph: Graph, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = Network(graph).eval()(x)
    return result


@pytest.mark.parametrize(
    ("act", "reference"),
    [
        ("none", lambda x: x),
        ("relu", lambda x: x.clamp(min=0)),
        ("relu6", lambda x: x.clamp(0, 6)),
        ("hswish", lambda x: x * (x + 3).clamp(0, 6) / 6),
        ("hsigmoid", lambda x: (x + 3).clamp(0, 6) / 6),
        ("sigmoid", lambda x: 1 / (1 + (-x).exp())),
        ("swish", lambda x: x / (1 + (-x).exp())),
    ],
)
def test_activations(act: str, reference) -> None:
    g = Graph((2, 5, 5))
    g.add(g.input, g.input, act=act)
    x = torch.linspace(-5, 5, 50).reshape(1, 2, 5, 5)
    torch.testing.assert_close(_run(g, x), reference(2 * x))


def test_pools_leave_the_padding_out() -> None:
    x = -torch.ones(1, 1, 4, 4)
    for name in ("avg_pool", "max_pool"):
        g = Graph((1, 4, 4))
        getattr(g, name)(g.input, kernel=3, stride=2)
        assert torch.equal(_run(g, x), -torch.ones(1, 1, 2, 2))


def test_split_concat_and_shuffle_move_channels() -> None:
    g = Graph((6, 2, 2))
    a, b = g.split(g.input, (2, 4))
    g.shuffle(g.concat((b, a)), 2)
    x = torch.arange(6.0).reshape(1, 6, 1, 1).expand(1, 6, 2, 2)
    # split and concat: 2 3 4 5 0 1; two groups of three transposed: 2 5 3 0 4 1
    assert _run(g, x)[0, :, 0, 0].tolist() == [2, 5, 3, 0, 4, 1]


def test_scale_multiplies_channels_and_linear_reads_channels_first() -> None:
    g = Graph((2, 3, 3))
    g.linear(g.scale(g.input, g.global_pool(g.input)), 4, path="fc")
    network = Network(g).eval()
    x = torch.randn(5, 2, 3, 3)
    with torch.no_grad():
        want = functional.linear((x * x.mean((2, 3), keepdim=True)).reshape(5, -1), network.weighted()["fc"].weight)
        torch.testing.assert_close(network(x), want)


def test_the_seed_decides_the_weights_and_nothing_else_does() -> None:
    g = Graph((3, 8, 8))
    g.conv(g.input, 64, kernel=3, path="stem")
    torch.manual_seed(1)
    one = Network(g, seed=5).state_dict()["stem.weight"]
    torch.manual_seed(2)
    assert torch.equal(one, Network(g, seed=5).state_dict()["stem.weight"])
    assert not torch.equal(one, Network(g, seed=6).state_dict()["stem.weight"])
    assert float(one.std()) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.05)


@settings(max_examples=20, deadline=None)
@given(graphs())
def test_activations_are_what_the_network_computes_op_by_op(graph: Graph) -> None:
    network = Network(graph).eval()
    x = torch.randn(2, *graph.input.shape)
    told = network.activations(x)
    assert list(told) == [node.path for node in graph.nodes]
    for node in graph.nodes:
        channels = sum(c for c, _, _ in node.op.outputs)
        assert told[node.path].shape == (2, channels, *node.op.outputs[0][1:])
    with torch.inference_mode():
        logits = network(x)
    assert np.allclose(told[graph.nodes[-1].path].reshape(2, -1), logits, atol=1e-5)
    again = network.activations(x, told)
    assert all(np.array_equal(again[path], value) for path, value in told.items())


def test_an_error_in_given_activations_stays_with_its_op() -> None:
    network = _chain("a", "b", "c").eval()
    x = torch.randn(1, 2, 4, 4)
    right = network.activations(x)
    wrong = {**right, "a": right["a"] + 1}
    told = network.activations(x, wrong)
    assert np.array_equal(told["a"], right["a"])  # what the op makes of its input
    assert not np.allclose(told["b"], right["b"])  # fed with the wrong one
    assert np.array_equal(told["c"], right["c"])
