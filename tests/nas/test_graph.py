from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.blocks import FAMILIES
from nas.errors import InvalidOp
from nas.graph import ACTIVATIONS, Graph, Op, Tensor


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A small network that uses every kind of op."""
    g = Graph((draw(st.sampled_from([1, 3, 4])), draw(st.integers(9, 20)), draw(st.integers(9, 20))))
    act = st.sampled_from(ACTIVATIONS)
    x = g.conv(g.input, 8, kernel=draw(st.sampled_from([1, 3, (3, 5)])), stride=draw(st.integers(1, 2)), act=draw(act))
    for i in range(draw(st.integers(1, 4))):
        x = _step(draw, g, x, f"b{i}", draw(act))
    return _finish(g, x)


def _step(draw: st.DrawFn, g: Graph, x: Tensor, path: str, act: str) -> Tensor:
    width = draw(st.sampled_from([8, 16]))
    stride = draw(st.integers(1, 2))
    match draw(st.integers(0, 4)):
        case 0:
            knobs = {"kernel": draw(st.sampled_from([3, 5, 7])), "expansion": draw(st.integers(1, 3)), "act": act}
            return FAMILIES["mbconv"].build(g, x, width, stride=stride, se=draw(st.booleans()), path=path, **knobs)
        case 1:
            return FAMILIES["shuffle_v2"].build(g, x, width, stride=stride, act=act, path=path)
        case 2:
            return g.max_pool(x, kernel=3, stride=stride, path=path)
        case 3:
            return g.avg_pool(x, kernel=(3, 1), stride=stride, path=path)
        case _:
            return g.conv(x, width, groups=4, act=act, norm=draw(st.booleans()), path=path)


def _finish(g: Graph, x: Tensor) -> Graph:
    g.linear(g.global_pool(x), 5)
    return g


@given(graphs())
def test_every_key_parses_back_to_its_op(g: Graph) -> None:
    for op in g.ops:
        assert Op.parse(op.key) == op


@given(graphs())
def test_graph_survives_json(g: Graph) -> None:
    back = Graph.from_dict(json.loads(json.dumps(g.to_dict())))
    assert back == g
    assert [n.path for n in back.nodes] == [n.path for n in g.nodes]
    assert (back.flops, back.params) == (g.flops, g.params)


def test_flops_and_params_of_known_layers() -> None:
    g = Graph((3, 224, 224))
    g.conv(g.input, 32, kernel=3, stride=2, act="relu6")
    op = next(g.ops)
    assert (op.flops, op.params) == (3 * 3 * 3 * 32 * 112 * 112, 3 * 3 * 3 * 32 + 2 * 32)
    g = Graph((8, 7, 7))
    g.linear(g.global_pool(g.depthwise(g.input, kernel=5)), 10)
    assert [(op.flops, op.params) for op in g.ops] == [(25 * 8 * 49, 25 * 8 + 16), (0, 0), (80, 90)]


@pytest.mark.parametrize(
    "key",
    [
        "conv",
        "conv:3x4x4>8x4x4",
        "conv:3x4x4>8x4x4:k1x1:s1x1:g2:bn",
        "conv:3x4x4>8x5x4:k1x1:s1x1:g1",
        "depthwise:4x4x4>8x4x4:k3x3:s1x1:bn",
        "add:4x4x4+4x4x4>4x4x5",
        "concat:4x4x4>4x4x4",
        "split:5x4x4>2x4x4+2x4x4",
        "shuffle:5x4x4>5x4x4:g2",
        "globalpool:4x4x4>4x1x2",
        "scale:4x4x4+5x1x1>4x4x4",
        "linear:4x1x1>2x1x2:bias",
        "conv:3x4x4>8x4x4:k1x1:s1x1:g1:bn:bias",
        "conv:3x4x4>8x4x4:k1x1:s1x1:g1:mish",
        "warp:3x4x4>3x4x4",
        "conv:0x4x4>8x4x4:k1x1:s1x1:g1",
        "maxpool:3x1x1>3x0x0:k3x3:s2x2",
    ],
)
def test_a_bad_key_is_one_clear_error(key: str) -> None:
    with pytest.raises(InvalidOp) as e:
        Op.parse(key)
    assert "\n" not in str(e.value)


def test_two_ops_cannot_share_a_path() -> None:
    g = Graph((3, 8, 8))
    x = g.conv(g.input, 4, path="a")
    with pytest.raises(InvalidOp, match="'a'"):
        g.conv(x, 4, path="a")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("input"),
        lambda d: d["nodes"][1].update(inputs=[[5, 0]]),
        lambda d: d["nodes"][1].update(inputs=[[-1, 0]]),
        lambda d: d["nodes"][0].update(op="conv"),
        lambda d: d.update(nodes=3),
    ],
)
def test_a_bad_graph_document_is_refused(spoil) -> None:  # type: ignore[no-untyped-def]
    g = Graph((3, 8, 8))
    g.linear(g.global_pool(g.conv(g.input, 4)), 2)
    data = g.to_dict()
    spoil(data)
    with pytest.raises(InvalidOp):
        Graph.from_dict(data)


def test_wiring_tells_a_residual_from_a_chain() -> None:
    def block(residual: bool) -> Graph:
        g = Graph((4, 8, 8))
        a = g.conv(g.input, 4, path="a")
        b = g.conv(a, 4, path="b")
        g.add(a if residual else g.input, b, path="c")
        return g

    assert block(True) != block(False)
    assert [n.op for n in block(True).nodes] == [n.op for n in block(False).nodes]
