from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.errors import ExportError
from api.export.drawing import WIDTH, draw_network
from api.networks.stages import MOST_STAGES, find_stages
from nas.graph import Graph
from nas.spaces import build_space
from nas.spaces.families import build_mobilenet_v2, build_shufflenet_v2

SVG = "{http://www.w3.org/2000/svg}"
SPACES = {name: build_space(name) for name in ("light-nas", "mobilenetv2-small", "nas-bench-macro")}


def _chain(layers: int) -> Graph:
    """A network whose paths tell nothing, as an imported one's."""
    graph = Graph((3, 64, 64))
    x = graph.input
    for i in range(layers):
        x = graph.conv(x, 8 + i, kernel=3, stride=2 if i % 6 == 0 else 1, act="relu", path=f"Conv_{i}<&>")
    graph.linear(graph.global_pool(x), 5)
    return graph


def _titles(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}title")]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(SPACES)), st.integers(0, 2**32 - 1), st.booleans())
def test_any_network_fits_the_page(name: str, seed: int, timed: bool) -> None:
    space, rng = SPACES[name], np.random.default_rng(seed)
    graph = space.graph(space.sample(rng, 1)[0])
    ms = rng.exponential(1, len(graph.nodes)).tolist() if timed else None
    root = ElementTree.fromstring(draw_network(graph, ms))
    height = float(root.get("height", "0"))
    for rect in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(key, "0")) for key in ("x", "y", "width", "height"))
        assert min(x, y) >= 0
        assert w > 0
        assert x + w <= WIDTH + 0.1
        assert y + h <= height
    slabs = [(float(r.get("x", "0")), float(r.get("width", "0"))) for r in _slabs(root)]
    assert all(x + w <= after + 0.1 for (x, w), (after, _) in pairwise(slabs))
    assert len(slabs) == sum(len(stage.blocks) for stage in find_stages(graph))


def _slabs(root: ElementTree.Element) -> list[ElementTree.Element]:
    """The blocks: rects whose tooltip has a line per op."""
    told = [(rect, rect.find(f"{SVG}title")) for rect in root.iter(f"{SVG}rect")]
    return [rect for rect, title in told if title is not None and "\n" in (title.text or "")]


def test_blocks_are_to_scale() -> None:
    graph = build_mobilenet_v2((3, 224, 224), 1000)
    slabs = _slabs(ElementTree.fromstring(draw_network(graph)))
    blocks = [block for stage in find_stages(graph) for block in stage.blocks]
    assert len(slabs) == len(blocks) == 20  # stem, 17 inverted residuals, last, classifier
    for slab, block in zip(slabs[:-1], blocks[:-1], strict=True):
        c, h, _ = block.output
        for side, ratio in (("width", c / 32), ("height", h / 112)):
            stem = float(slabs[0].get(side, "0"))
            assert float(slab.get(side, "0")) == pytest.approx(stem * ratio**0.5, rel=0.01)


def test_words_and_marks_tell_what_the_blocks_are() -> None:
    svg = draw_network(build_mobilenet_v2((3, 224, 224), 1000))
    texts = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert {"3×224×224 → 1000 classes", "s3 ×4", "64 ch", "14×14", "k3 e6", "k3 e1", "301 M"} <= set(texts)
    assert sum(title.endswith(": residual") for title in _titles(svg)) == 10
    shuffled = draw_network(build_shufflenet_v2((3, 224, 224), 1000))
    assert "k3 shuffle" in shuffled
    assert not any(title.endswith(": residual") for title in _titles(shuffled))


def test_every_op_has_a_tooltip_in_each_bar() -> None:
    space = SPACES["mobilenetv2-small"]
    graph = space.graph(space.sample(np.random.default_rng(0), 1)[0])
    ms = [0.5 + i for i in range(len(graph.nodes))]
    titles = _titles(draw_network(graph, ms))
    for node, time in zip(graph.nodes, ms, strict=True):
        own = [t for t in titles if t.startswith(f"{node.path}: {node.op.kind}") and "\n" not in t]
        assert len(own) == 2
        assert all(t.endswith(f"{time:.3g} ms") for t in own)
    assert f"{sum(ms):.3g} ms" in draw_network(graph, ms)


def test_the_bars_divide_their_whole_length_by_the_shares() -> None:
    graph = build_mobilenet_v2((3, 224, 224), 1000)
    stages = {stage.name: sum(graph.nodes[n].op.flops for n in stage.nodes) for stage in find_stages(graph)}
    root = ElementTree.fromstring(draw_network(graph))
    widths = {}
    for rect in root.iter(f"{SVG}rect"):
        title = rect.find(f"{SVG}title")
        name, _, share = (title.text or "").partition(": ") if title is not None else ("", "", "")
        if share.endswith(" %"):
            widths[name] = float(rect.get("width", "0"))
    whole = sum(widths.values())
    assert widths.keys() == stages.keys()
    for name, flops in stages.items():
        assert widths[name] / whole == pytest.approx(flops / graph.flops, abs=2e-3)


def test_a_network_with_numbered_layers_is_divided_by_resolution() -> None:
    graph = _chain(40)
    stages = find_stages(graph)
    assert [stage.name for stage in stages][:3] == ["32×32", "16×16", "8×8"]
    assert len(stages) <= MOST_STAGES
    assert [n for stage in stages for n in stage.nodes] == list(range(len(graph.nodes)))
    svg = draw_network(graph)
    assert any(title.startswith("Conv_7<&>: conv 3×3") for title in _titles(svg))


def test_it_follows_the_page_and_runs_nothing() -> None:
    svg = draw_network(_chain(3))
    assert "prefers-color-scheme:dark" in svg
    assert "<script" not in svg
    assert "onload" not in svg
    assert "href" not in svg


def test_times_of_another_network_are_refused() -> None:
    with pytest.raises(ExportError, match=r"^2 times are given for a network of 5 ops$"):
        draw_network(_chain(3), [1.0, 2.0])
