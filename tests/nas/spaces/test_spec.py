from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas.cost import flops_model
from nas.errors import InvalidSpace
from nas.spaces import build_space
from nas.spaces.spec import parse_space

GOOD = """
name: mine
input: {channels: 1, height: 24, width: 40}
classes: 4
stem: {width: 8, kernel: 3, stride: 2, act: hswish}
stages:
  - {family: mbconv, expansion: [1, 3], width: [8, 16], repeats: [1, 2], kernel: [3, 7], se: [false, true]}
  - {family: [mbconv, shuffle_v2], width: [16, 32], stride: 2, act: [relu, hswish]}
head: {width: 64, act: hswish}
"""

STRIDES = """
input: {channels: 3, resolution: [32, 64]}
classes: 4
stem: {width: 8}
stages:
  - {width: [8, 16], stride: [1, 2]}
  - {width: [16, 24], stride: [1, 2], repeats: [1, 2]}
  - {width: 32, stride: [1, 2]}
head: {width: 0}
reduction: 8
"""


def test_a_file_becomes_a_space(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    space = build_space(str(path))
    assert space.name == "mine"
    assert [g.name for g in space.genes] == [
        "s0.expansion", "s0.width", "s0.repeats", "s0.kernel", "s0.se", "s1.family", "s1.width", "s1.act",
    ]  # fmt: skip
    graph = space.graph(np.ones(8))
    assert graph.input.shape == (1, 24, 40)
    assert graph.output.shape == (4, 1, 1)
    assert {"split", "shuffle"} & {op.kind for op in graph.ops} or "concat" in {op.kind for op in graph.ops}
    assert build_space(str(path), classes=9, channels=3).graph(np.zeros(8)).output.shape == (9, 1, 1)


def test_searched_strides_keep_the_total_reduction() -> None:
    space = parse_space(STRIDES, "strides.yaml")
    assert [g.name for g in space.genes[:2]] == ["resolution", "strides"]
    assert set(space.genes[1].choices) == {"1-2-2", "2-1-2", "2-2-1"}
    x = space.sample(np.random.default_rng(0), 300)
    for row in x[:100]:
        graph = space.graph(row)
        last = next(n for n in graph.nodes if n.op.kind == "globalpool").op.inputs[0]
        assert last[1] * 8 == graph.input.shape[1]
    flops = flops_model(space)
    assert [space.graph(r).flops for r in x] == list(flops(x))
    everything = np.concatenate(list(space.enumerate()))
    costs = flops(everything)
    assert flops.minimum()[0] == costs.min() == flops.one(flops.minimum()[1])
    assert flops.maximum()[0] == costs.max() == flops.one(flops.maximum()[1])


def test_searched_strides_list_only_ops_some_network_has() -> None:
    space = parse_space(STRIDES, "strides.yaml")
    used = {op.key for row in np.concatenate(list(space.enumerate())) for op in space.graph(row).ops}
    assert {op.key for op in space.ops()} == used


def test_a_knob_without_effect_gives_equal_networks_equal_rows() -> None:
    """SE means nothing to a ShuffleNetV2 unit, so its two choices are one network there."""
    text = GOOD.replace("act: [relu, hswish]}", "act: relu, se: [false, true]}")
    space = parse_space(text, "x.yaml")
    decoded = space.decode(np.zeros(8))
    a = space.encode(decoded | {"s1.family": "shuffle_v2", "s1.se": True})
    b = space.encode(decoded | {"s1.family": "shuffle_v2", "s1.se": False})
    c = space.encode(decoded | {"s1.family": "mbconv", "s1.se": True})
    assert space.graph(a) == space.graph(b)
    rows = space.canonical(np.stack([a, b, c]))
    assert rows[0].tolist() == rows[1].tolist() != rows[2].tolist()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("classes: 4", "classes: four"), "classes"),
        (("kernel: [3, 7]", "kernel: [3, 4]"), r"stages\[0\].kernel must be odd"),
        (("expansion: [1, 3]", "expansion: [1, 1]"), r"stages\[0\].expansion lists a choice twice"),
        (("width: [16, 32]", "width: []"), r"stages\[1\].width"),
        (("width: [16, 32]", "width: [16, 31]"), "even width"),
        (("[mbconv, shuffle_v2]", "[mbconv, ghost]"), r"stages\[1\].family must be one of mbconv, shuffle_v2"),
        (("se: [false, true]", "see: [false, true]"), r"stages\[0\].see is not a key"),
        (("stride: 2, act: [relu", "stride: [1, 2], act: [relu"), "reduction"),
        (("stem: {width: 8", "stem: {width: 0"), "stem.width"),
        (("head: {width: 64", "head: {wide: 64"), "head.wide"),
        (("input: {channels: 1, height: 24", "input: {channels: 1, heigth: 24"), "input.height is missing"),
        (("stages:", "steps:"), "stages is missing"),
        (("name: mine", "name: [mine"), "not valid YAML"),
        (("act: hswish}\nstages", "act: mish}\nstages"), "stem.act"),
    ],
)
def test_errors_name_the_key(change: tuple[str, str], names: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(InvalidSpace, match=names) as e:
        parse_space(GOOD.replace(*change), "mine.yaml")
    assert "mine" in str(e.value)
    assert "\n" not in str(e.value)


def test_unreachable_reduction_lists_what_can_be_reached() -> None:
    with pytest.raises(InvalidSpace, match=r"\[2, 4, 8, 16\]"):
        parse_space(STRIDES.replace("reduction: 8", "reduction: 32"), "x.yaml")


def test_nothing_to_search_is_an_error() -> None:
    with pytest.raises(InvalidSpace, match="nothing to search"):
        parse_space("input: {resolution: 32}\nstages: [{width: 8}]", "x.yaml")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpace, match=r"nowhere\.yaml"):
        build_space(str(tmp_path / "nowhere.yaml"))
