from __future__ import annotations

import numpy as np
import pytest

from nas.cost import flops_model, params_model
from nas.errors import InvalidSpace
from nas.graph import Graph
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.spaces.families import build_mobilenet_v2, build_shufflenet_v2, default_reduction, make_divisible


def bare(graph: Graph) -> int:
    """Parameters without those of norms, as the tables of the MobileNetV2 authors count them."""
    return graph.params - sum(2 * op.outputs[0][0] for op in graph.ops if op.norm)


def test_mobilenet_v2_is_torchvisions() -> None:
    graph = build_mobilenet_v2((3, 224, 224), 1000)
    assert (graph.flops, graph.params) == (300_774_272, 3_504_872)


@pytest.mark.parametrize(
    ("width", "side", "mflops", "mparams"),
    [
        (1.4, 224, 582, 6.06),
        (1.3, 224, 509, 5.34),
        (1.0, 192, 221, 3.47),
        (1.0, 96, 56, 3.47),
        (0.75, 224, 209, 2.61),
        (0.5, 160, 50, 1.95),
        (0.5, 96, 18, 1.95),
        (0.35, 128, 20, 1.66),
        (0.35, 96, 11, 1.66),
    ],
)
def test_mobilenet_v2_by_width_and_resolution_is_the_authors(
    width: float, side: int, mflops: int, mparams: float
) -> None:
    """The table of their published checkpoints, which rounds down: tensorflow/models, slim, mobilenet_v2."""
    graph = build_mobilenet_v2((3, side, side), 1000, width, 32)
    assert graph.flops // 10**6 == mflops
    assert bare(graph) / 1e6 == pytest.approx(mparams, abs=0.0051)


@pytest.mark.parametrize(
    ("width", "params", "mflops"),
    [(0.5, 1_366_792, 41), (1.0, 2_278_604, 146), (1.5, 3_503_624, 299), (2.0, 7_393_996, 591)],
)
def test_shufflenet_v2_is_torchvisions_and_the_papers(width: float, params: int, mflops: int) -> None:
    graph = build_shufflenet_v2((3, 224, 224), 1000, width)
    assert graph.params == params
    assert graph.flops / 1e6 == pytest.approx(mflops, rel=0.015)  # the paper's counting is not published


def test_the_last_convolution_of_mobilenet_v2_never_shrinks() -> None:
    assert {n.path: n.op.outputs[0][0] for n in build_mobilenet_v2((3, 32, 32), 10, 0.1, 8).nodes}["last"] == 1280
    assert {n.path: n.op.outputs[0][0] for n in build_mobilenet_v2((3, 32, 32), 10, 1.4, 8).nodes}["last"] == 1792


def test_a_width_is_never_rounded_down_by_more_than_a_tenth() -> None:
    assert [make_divisible(c) for c in (1.6, 11.2, 12, 32, 44.8)] == [8, 16, 16, 32, 48]


@pytest.mark.parametrize(("side", "reduction"), [(32, 8), (48, 8), (64, 16), (96, 16), (128, 32), (224, 32)])
@pytest.mark.parametrize("name", ["mobilenetv2", "shufflenetv2"])
def test_small_pictures_are_reduced_less(name: str, side: int, reduction: int) -> None:
    assert default_reduction((3, side, side)) == reduction
    space = build_space(name, resolution=side, classes=3)
    for row in next(space.enumerate()):
        last = next(n for n in space.graph(row).nodes if n.path == "last")
        assert last.op.outputs[0][1:] == (side // reduction, side // reduction)


def test_the_earliest_strides_go_first() -> None:
    def strides(graph: Graph) -> dict[str, int]:
        return {n.path: n.op.stride[0] for n in graph.nodes if n.op.stride != (1, 1)}

    all_of_it = strides(build_shufflenet_v2((3, 128, 128), 2))
    halved, quartered = (strides(build_shufflenet_v2((3, 64, 64), 2, reduction=r)) for r in (16, 8))
    assert [p for p in all_of_it if p not in halved] == ["stem_pool"]
    assert [p for p in halved if p not in quartered] == ["stem"]
    mobile = [strides(build_mobilenet_v2((3, 64, 64), 2, reduction=r)) for r in (32, 16, 8)]
    assert list(mobile[0]) == ["stem", "s1.b0.dw", "s2.b0.dw", "s3.b0.dw", "s5.b0.dw"]
    assert list(mobile[1]) == list(mobile[0])[1:]
    assert list(mobile[2]) == list(mobile[0])[2:]
    early = [strides(build_mobilenet_v2((3, 64, 64), 2, reduction=r, downsampling="early")) for r in (32, 16, 8)]
    assert [list(e) for e in early] == [list(mobile[0]), list(mobile[0])[:4], list(mobile[0])[:3]]
    assert early[2]["stem"] == 2


@pytest.mark.parametrize(
    ("name", "build"), [("mobilenetv2", build_mobilenet_v2), ("shufflenetv2", build_shufflenet_v2)]
)
@pytest.mark.parametrize("sides", [(32,), (48, 64, 128)])
def test_a_space_holds_the_family(name: str, build, sides: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    space = build_space(name, resolution=sides, classes=7, channels=1)
    x = next(space.enumerate())
    genes = ["width", "downsampling"]
    assert [g.name for g in space.genes] == (genes if len(sides) == 1 else ["resolution", *genes])
    flops, params = flops_model(space)(x), params_model(space)(x)
    for i, row in enumerate(x):
        values, graph = space.decode(row), space.graph(row)
        side = values.get("resolution", sides[0])
        wanted = build((1, side, side), 7, values["width"], default_reduction((1, side, side)), values["downsampling"])
        assert graph == wanted
        assert [n.path for n in graph.nodes] == [n.path for n in wanted.nodes]
        assert (flops[i], params[i]) == (graph.flops, graph.params)


def test_large_pictures_leave_nothing_to_choose_where_to_halve() -> None:
    space = build_space("mobilenetv2", resolution=(128, 224))
    assert [g.name for g in space.genes] == ["resolution", "width"]
    assert len(np.unique(space.canonical(next(space.enumerate())), axis=0)) == space.size


def test_mobilenet_v2_is_the_one_in_light_nas(light_nas: SearchSpace) -> None:
    """Same paths, so that weights are matched between them."""
    values = {"s0.width": 16}
    for i, (c, n) in enumerate(((24, 2), (32, 3), (64, 4), (96, 3), (160, 3), (320, 1)), start=1):
        values |= {f"s{i}.expansion": 6, f"s{i}.width": c, f"s{i}.repeats": n, f"s{i}.kernel": 3}
    theirs, ours = light_nas.graph(light_nas.encode(values)), build_mobilenet_v2((3, 224, 224), 1000)
    assert ours == theirs
    assert [n.path for n in ours.nodes] == [n.path for n in theirs.nodes]


def test_what_is_not_published_is_refused() -> None:
    with pytest.raises(InvalidSpace, match=r"width 0\.75; there are 0\.25"):
        build_shufflenet_v2((3, 64, 64), 2, 0.75)
    with pytest.raises(InvalidSpace, match="power of two"):
        build_mobilenet_v2((3, 64, 64), 2, reduction=12)
