from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.blocks import FAMILIES
from nas.fold import fold
from nas.graph import Graph
from nas.network import Network
from nas.weights.layers import Layer
from nas.weights.names import understand
from nas.weights.settling import settle
from nas.weights.slicing import Fit, fit

SEVERAL = settings(max_examples=60, deadline=None)


@st.composite
def plans(draw: st.DrawFn, kernels: Sequence[int] = (1, 3, 5)) -> list[dict[str, int | bool]]:
    """Blocks in stages of their own; equal widths in a row make residuals."""
    block = st.fixed_dictionaries(
        {
            "c": st.sampled_from([4, 6, 9]),
            "kernel": st.sampled_from(kernels),
            "expansion": st.integers(1, 3),
            "se": st.booleans(),
        }
    )
    return draw(st.lists(block, min_size=1, max_size=3))


def build(
    plan: Sequence[dict[str, int | bool]], *, stem: int = 5, channels: int = 3, last: int = 11, classes: int = 4
) -> Graph:
    g = Graph((channels, 8, 8))
    x = g.conv(g.input, stem, kernel=3, stride=2, act="relu6", path="stem")
    for b, block in enumerate(plan):
        knobs = {k: v for k, v in block.items() if k != "c"}
        x = FAMILIES["mbconv"].build(g, x, block["c"], path=f"s0.b{b}", **knobs)
    x = g.conv(x, last, act="relu6", path="last")
    g.linear(g.global_pool(x, path="pool"), classes, path="classifier")
    return g


graphs = st.builds(
    build,
    plans(),
    stem=st.sampled_from([3, 5]),
    channels=st.sampled_from([1, 3]),
    last=st.sampled_from([7, 11]),
    classes=st.sampled_from([3, 4]),
)


def trained(graph: Graph, seed: int = 1) -> Network:
    """In eval mode, every tensor drawn."""
    network = Network(graph, seed=seed).eval()
    g = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low, high in ((module.weight, 0.3, 2.0), (module.running_var, 0.1, 3.0)):
                assert value is not None
                value.data.uniform_(low, high, generator=g)
            for value in (module.bias, module.running_mean):
                assert value is not None
                value.data.normal_(generator=g)
    for module in network.weighted().values():
        if module.bias is not None:
            module.bias.data.normal_(generator=g)
    return network


def layers(network: Network) -> dict[str, Layer]:
    return understand(network.state_dict()).layers


def folded_layers(network: Network) -> dict[str, Layer]:
    return {p: Layer(torch.from_numpy(f.weight), torch.from_numpy(f.bias)) for p, f in fold(network).items()}


def unnormed(graph: Graph) -> Graph:
    data = graph.to_dict()
    nodes = [{**n, "op": n["op"].replace(":bn", ":bias")} for n in data["nodes"]]
    return Graph.from_dict({**data, "nodes": nodes})


def pictures(graph: Graph, n: int = 4) -> Tensor:
    return torch.randn((n, *graph.input.shape), generator=torch.Generator().manual_seed(9))


def outputs(network: Network, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return network.eval()(x)


# Equal networks -----------------------------------------------------------------------------------------------------


@SEVERAL
@given(graphs)
def test_an_equal_network_computes_exactly_the_same(graph: Graph) -> None:
    source, network = trained(graph), Network(graph, seed=2)
    found = fit(network, layers(source))
    assert found == Fit(tuple(network.weighted()), (), (), 1.0)
    assert torch.equal(outputs(network, pictures(graph)), outputs(source, pictures(graph)))


@SEVERAL
@given(graphs)
def test_norms_are_folded_and_unfolded_where_one_side_has_none(graph: Graph) -> None:
    source, x = trained(graph), pictures(graph)
    want = outputs(source, x)
    tolerance = 1e-5 * float(want.abs().max().clamp_min(1))
    plain = Network(unnormed(graph))
    assert fit(plain, layers(source)) == Fit(tuple(plain.weighted()), (), (), 1.0)
    torch.testing.assert_close(outputs(plain, x), want, atol=tolerance, rtol=0)
    network = Network(graph, seed=3)
    found = fit(network, folded_layers(source))
    assert (found.whole, found.share) == (tuple(network.weighted()), 1.0)
    assert found.unsettled == tuple(p for p, m in network.weighted().items() if m.norm is not None)
    torch.testing.assert_close(outputs(network, x), want, atol=tolerance, rtol=0)


# Other widths -------------------------------------------------------------------------------------------------------


def _widened(plan: list[dict[str, int | bool]], by: int) -> list[dict[str, int | bool]]:
    return [{**block, "c": block["c"] + by} for block in plan]


@SEVERAL
@given(plans(), st.integers(1, 3))
def test_slices_are_coherent_along_the_residual_chain(plan: list[dict[str, int | bool]], by: int) -> None:
    """A network put into a wider one whose other channels are silent computes the same there, and comes back whole."""
    plan = [{**block, "se": False} for block in plan]  # its width is rounded and may not follow
    narrow = trained(build(plan))
    wide = Network(build(_widened(plan, by), stem=5 + by, last=11 + by))
    with torch.no_grad():
        for value in wide.parameters():
            value.zero_()
    found = fit(wide, layers(narrow))
    assert found.sliced == tuple(wide.weighted())
    x = pictures(narrow.graph)
    torch.testing.assert_close(outputs(wide, x), outputs(narrow, x), atol=1e-4, rtol=1e-4)
    again = Network(narrow.graph, seed=4)
    fit(again, layers(wide))
    assert torch.equal(outputs(again, x), outputs(narrow, x))


def _own_and_given(own: Tensor, given_: Tensor) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The part of each of two weights that the other has as well: a prefix of channels, the middle of kernels."""
    mine, theirs = [], []
    for dimension, (a, b) in enumerate(zip(own.shape, given_.shape, strict=True)):
        start_a, start_b = (max(0, (a - b) // 2), max(0, (b - a) // 2)) if dimension > 1 else (0, 0)
        mine.append(slice(start_a, start_a + min(a, b)))
        theirs.append(slice(start_b, start_b + min(a, b)))
    return tuple(mine), tuple(theirs)


@SEVERAL
@given(graphs, graphs)
def test_what_both_have_is_copied_and_the_rest_stays_fresh(graph: Graph, other: Graph) -> None:
    source = trained(other)
    network, fresh = Network(graph, seed=2), Network(graph, seed=2)
    known = layers(source)
    found = fit(network, known)
    assert sorted([*found.whole, *found.sliced, *found.fresh]) == sorted(network.weighted())
    taken = 0
    for path, module in network.weighted().items():
        before = fresh.weighted()[path]
        if path in found.fresh:
            for a, b in zip(module.state_dict().values(), before.state_dict().values(), strict=True):
                assert torch.equal(a, b)
            continue
        given_ = known[path]
        mine, theirs = _own_and_given(module.weight, given_.weight)
        want = before.weight.detach().clone()
        want[mine[:2]] = 0  # the rim of a larger kernel
        want[mine] = given_.weight[theirs]
        assert torch.equal(module.weight, want), path
        taken += module.weight[mine].numel()
        out = mine[0].stop
        assert (module.norm is None) == (given_.norm is None)
        parts = [("bias", given_.bias)] if given_.norm is None else list(given_.norm._asdict().items())
        for name, value in parts:
            owner = module if module.norm is None else module.norm
            start = getattr(before if module.norm is None else before.norm, name)
            assert torch.equal(getattr(owner, name), torch.cat([value[:out], start[out:]])), (path, name)
            taken += out * (not name.startswith("running"))
        assert (path in found.whole) == (module.weight.shape == given_.weight.shape)
    assert found.share == taken / graph.params
    again = Network(graph, seed=2)
    assert fit(again, known) == found
    assert all(
        torch.equal(a, b) for a, b in zip(again.state_dict().values(), network.state_dict().values(), strict=True)
    )


def test_a_kernel_is_centred() -> None:
    five, three = (Network(build([{"c": 5, "kernel": k, "expansion": 1, "se": False}]), seed=k) for k in (5, 3))
    small = three.weighted()["s0.b0.dw"].weight.detach().clone()
    fit(five, layers(three))
    large = five.weighted()["s0.b0.dw"].weight.detach()
    assert torch.equal(large, nn.functional.pad(small, (1, 1, 1, 1)))
    x = pictures(five.graph)
    torch.testing.assert_close(outputs(five, x), outputs(three, x))
    large = torch.randn(large.shape, generator=torch.Generator().manual_seed(1))
    fit(three, {"s0.b0.dw": Layer(large)})
    assert torch.equal(three.weighted()["s0.b0.dw"].weight, large[:, :, 1:4, 1:4])


# What does not match ------------------------------------------------------------------------------------------------


def _chain(kind: str, c: int = 4) -> Graph:
    g = Graph((4, 6, 6))
    if kind == "linear":
        g.linear(g.input, 8, path="x")
    elif kind == "depthwise":
        g.depthwise(g.input, path="x")
    else:
        g.conv(g.input, c, kernel=2 if kind == "even" else 3, groups=2 if kind == "grouped" else 1, path="x")
    return g


@pytest.mark.parametrize(
    ("into", "source"),
    [
        ("conv", "depthwise"),
        ("depthwise", "conv"),
        ("conv", "linear"),
        ("linear", "conv"),
        ("conv", "even"),
        ("grouped", "conv"),
    ],
)
def test_other_kinds_do_not_match(into: str, source: str) -> None:
    network = Network(_chain(into))
    before = network.weighted()["x"].weight.detach().clone()
    assert fit(network, layers(trained(_chain(source)))) == Fit((), (), ("x",), 0.0)
    assert torch.equal(network.weighted()["x"].weight, before)


def test_a_grouped_convolution_matches_its_equal_only() -> None:
    source = layers(trained(_chain("grouped")))
    assert fit(Network(_chain("grouped")), source).whole == ("x",)
    assert fit(Network(_chain("grouped", c=8)), source).fresh == ("x",)


def test_another_family_at_the_same_place_has_no_match() -> None:
    def graph(family: str) -> Graph:
        g = Graph((3, 8, 8))
        x = g.conv(g.input, 8, path="stem")
        FAMILIES[family].build(g, x, 8, path="s0.b0")
        return g

    found = fit(Network(graph("shuffle_v2")), layers(trained(graph("mbconv"))))
    assert found.whole == ("stem",)
    assert len(found.fresh) == 3


def test_a_classifier_needs_as_many_classes() -> None:
    plan = [{"c": 6, "kernel": 3, "expansion": 2, "se": False}]
    source = layers(trained(build(plan, classes=4)))
    assert fit(Network(build(plan, classes=5)), source).fresh == ("classifier",)
    assert fit(Network(build(plan, classes=3)), source).fresh == ("classifier",)
    assert "classifier" in fit(Network(build(plan, classes=4, last=7)), source).sliced


def test_a_classifier_over_pixels_is_not_sliced() -> None:
    def graph(c: int) -> Graph:
        g = Graph((3, 4, 4))
        g.linear(g.conv(g.input, c, path="stem"), 5, path="classifier")
        return g

    source = layers(trained(graph(8)))
    assert fit(Network(graph(8)), source).whole == ("stem", "classifier")
    assert fit(Network(graph(4)), source).fresh == ("classifier",)


def test_it_is_told_in_a_line_and_as_json() -> None:
    plan = [{"c": 6, "kernel": 3, "expansion": 2, "se": False}]
    graph = build(plan, classes=5)
    found = fit(Network(graph), layers(trained(build([{**plan[0], "expansion": 3}]))))
    taken = graph.params - 5 * 12
    assert str(found) == (
        f"2 of 6 ops copied whole, 3 sliced, 1 fresh (classifier): {100 * taken / graph.params:.1f} % of the parameters"
    )
    assert json.loads(json.dumps(found.to_dict())) == {
        "whole": ["stem", "last"],
        "sliced": ["s0.b0.expand", "s0.b0.dw", "s0.b0.project"],
        "fresh": ["classifier"],
        "share": taken / graph.params,
    }
    assert "4 fresh (s0.b0.expand, s0.b0.dw, s0.b0.project, …)" in str(Fit((), (), (*found.sliced, "last"), 0.0))


# Folded norms made fit for training ---------------------------------------------------------------------------------


@SEVERAL
@given(graphs)
def test_settled_norms_change_nothing_in_inference_and_little_in_training(graph: Graph) -> None:
    source = trained(graph)
    x = pictures(graph, 64)
    want = outputs(source, x)
    network = Network(graph, seed=2)
    found = fit(network, folded_layers(source))
    settle(network, found.unsettled, x)
    assert network.training
    near = 1e-4 * float(want.abs().max().clamp_min(1))
    with torch.no_grad():  # on these very pictures a batch's statistics are those that were taken
        torch.testing.assert_close(network(x), want, atol=20 * near, rtol=0)
    network = Network(graph, seed=2)
    fit(network, folded_layers(source))
    settle(network, found.unsettled, x)
    torch.testing.assert_close(outputs(network, x), want, atol=near, rtol=0)
    fresh = Network(graph, seed=5).weighted()
    for path in found.unsettled:
        sizes = network.weighted()[path].weight.detach().square().mean((1, 2, 3)).sqrt()
        assert torch.allclose(sizes, sizes[0].expand_as(sizes), rtol=1e-3)
        if fresh[path].weight.numel() > 100:
            assert float(sizes[0]) == pytest.approx(float(fresh[path].weight.detach().square().mean().sqrt()), rel=0.5)
