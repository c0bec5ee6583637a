from __future__ import annotations

import pytest

from nas.blocks.mbconv import mbconv
from nas.graph import Graph


def kinds(g: Graph) -> list[str]:
    return [f"{n.path}:{n.op.kind}" for n in g.nodes]


def test_inverted_residual_has_a_linear_bottleneck_and_a_residual() -> None:
    g = Graph((16, 14, 14))
    mbconv(g, g.input, 16, kernel=5, expansion=6, path="b")
    assert kinds(g) == ["b.expand:conv", "b.dw:depthwise", "b.project:conv", "b.add:add"]
    assert [n.op.act for n in g.nodes] == ["relu6", "relu6", "none", "none"]
    assert g.nodes[0].op.outputs[0] == (96, 14, 14)
    assert g.nodes[1].op.kernel == (5, 5)


def test_expansion_one_has_no_expanding_convolution() -> None:
    g = Graph((16, 14, 14))
    mbconv(g, g.input, 16, expansion=1, path="b")
    assert kinds(g) == ["b.dw:depthwise", "b.project:conv", "b.add:add"]


@pytest.mark.parametrize(("c_out", "stride"), [(24, 1), (16, 2), (24, 2)])
def test_no_residual_where_the_shape_changes(c_out: int, stride: int) -> None:
    g = Graph((16, 14, 14))
    out = mbconv(g, g.input, c_out, stride=stride, path="b")
    assert out.shape == (c_out, 14 // stride, 14 // stride)
    assert "add" not in {n.op.kind for n in g.nodes}


def test_squeeze_excite_is_a_quarter_wide_and_scales_the_hidden_channels() -> None:
    g = Graph((16, 14, 14))
    mbconv(g, g.input, 24, se=True, act="hswish", path="b")
    by_path = {n.path: n for n in g.nodes}
    assert by_path["b.se.reduce"].op.outputs[0] == (24, 1, 1)
    assert by_path["b.se.restore"].op.act == "hsigmoid"
    assert by_path["b.se.scale"].op.inputs == ((96, 14, 14), (96, 1, 1))
