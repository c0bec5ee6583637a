from __future__ import annotations

import pytest

from nas.blocks.shuffle_v2 import shuffle_v2
from nas.errors import InvalidOp
from nas.graph import Graph


def test_the_basic_unit_passes_half_of_the_channels() -> None:
    g = Graph((24, 14, 14))
    out = shuffle_v2(g, g.input, 24, path="u")
    assert out.shape == (24, 14, 14)
    kinds = [n.op.kind for n in g.nodes]
    assert kinds == ["split", "conv", "depthwise", "conv", "concat", "shuffle"]
    concat = g.nodes[4]
    assert concat.inputs[0].node == 0  # the kept half comes straight from the split
    assert concat.inputs[0].port == 0
    assert g.nodes[1].inputs[0].port == 1


@pytest.mark.parametrize(("c_out", "stride"), [(48, 2), (48, 1), (24, 2)])
def test_both_branches_see_everything_where_the_shape_changes(c_out: int, stride: int) -> None:
    g = Graph((24, 14, 14))
    assert shuffle_v2(g, g.input, c_out, stride=stride, path="u").shape == (c_out, 14 // stride, 14 // stride)
    assert sum(n.op.kind == "depthwise" for n in g.nodes) == 2
    assert "split" not in {n.op.kind for n in g.nodes}


def test_shufflenet_v2_1x_has_the_papers_parameters() -> None:
    """ShuffleNetV2 1.0x at 224: 2 278 604 parameters in torchvision's, 146 M multiply-adds in the paper."""
    g = Graph((3, 224, 224))
    x = g.conv(g.input, 24, kernel=3, stride=2, act="relu", path="stem")
    x = g.max_pool(x, kernel=3, stride=2, path="pool1")
    for s, (width, repeats) in enumerate(((116, 4), (232, 8), (464, 4))):
        for b in range(repeats):
            x = shuffle_v2(g, x, width, stride=2 if b == 0 else 1, path=f"s{s}.b{b}")
    x = g.conv(x, 1024, act="relu", path="last")
    g.linear(g.global_pool(x), 1000)
    assert g.params == 2_278_604
    assert 140e6 < g.flops < 150e6


def test_an_odd_width_is_refused() -> None:
    g = Graph((24, 14, 14))
    with pytest.raises(InvalidOp, match="even width"):
        shuffle_v2(g, g.input, 25, path="u")
