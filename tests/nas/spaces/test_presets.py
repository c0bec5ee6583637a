from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from nas.cost import flops_model, params_model
from nas.errors import InvalidSpace, UnknownPlugin
from nas.space import SearchSpace
from nas.spaces import PRESETS, build_space, space_names

MOBILENET_V2 = {"s0.width": 16} | {
    f"s{i}.{knob}": value
    for i, (expansion, width, repeats) in enumerate(
        [(6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)], start=1
    )
    for knob, value in {"expansion": expansion, "width": width, "repeats": repeats, "kernel": 3}.items()
}


def test_light_nas_is_paddleslims_space(light_nas: SearchSpace) -> None:
    assert len(light_nas.genes) == 25
    assert light_nas.size == 7 * 60**6 * 8 * 8 * 8 * 10 * 10 * 12
    assert light_nas.size == pytest.approx(2.007e17, rel=1e-3)
    assert [g.name for g in light_nas.genes[:5]] == ["s0.width", "s1.expansion", "s1.width", "s1.repeats", "s1.kernel"]


def test_mobilenet_v2_comes_out_exactly(light_nas: SearchSpace) -> None:
    row = light_nas.encode(MOBILENET_V2)
    graph = light_nas.graph(row)
    assert graph.params == 3_504_872
    assert graph.flops == 300_774_272
    assert params_model(light_nas).one(row) == 3_504_872
    assert flops_model(light_nas).one(row) == 300_774_272


def test_all_of_nas_bench_macro_comes_out_exactly(macro: SearchSpace, benchmark_data: Path) -> None:
    with (benchmark_data / "nas_bench_macro" / "nas_bench_macro_cifar10.csv").open() as f:
        rows = list(csv.DictReader(f))
    x = macro.validate([[int(c) for c in row["arch"]] for row in rows])
    assert len(x) == macro.size == 6561
    np.testing.assert_array_equal(flops_model(macro)(x), [int(r["flops"]) for r in rows])
    np.testing.assert_array_equal(params_model(macro)(x), [int(r["params"]) for r in rows])
    for i in range(0, 6561, 500):
        graph = macro.graph(x[i])
        assert (graph.flops, graph.params) == (int(rows[i]["flops"]), int(rows[i]["params"]))


def test_nas_bench_macro_has_3969_distinct_networks(macro: SearchSpace) -> None:
    x = next(macro.enumerate())
    assert len(np.unique(macro.canonical(x), axis=0)) == 3969


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_takes_resolution_classes_and_channels(name: str) -> None:
    space = build_space(name, resolution=64, classes=7, channels=1)
    graph = space.graph(np.zeros(len(space.genes)))
    assert graph.input.shape == (1, 64, 64)
    assert graph.output.shape == (7, 1, 1)
    assert name in space_names()


def test_resolution_can_be_a_gene() -> None:
    space = build_space("mobilenetv2-small", resolution=(32, 48))
    assert space.genes[0].name == "resolution"
    x = space.sample(np.random.default_rng(0), 200)
    flops = flops_model(space)
    assert {space.graph(r).input.shape for r in x} == {(3, 32, 32), (3, 48, 48)}
    assert [space.graph(r).flops for r in x] == list(flops(x))


def test_unknown_space_lists_what_there_is() -> None:
    with pytest.raises(UnknownPlugin, match="light-nas, mobilenetv2-small, nas-bench-macro"):
        build_space("resnet")


@pytest.mark.parametrize("bad", [{"resolution": 0}, {"classes": 0}, {"channels": -1}, {"resolution": (32, 32)}])
def test_impossible_settings_are_named(bad: dict[str, int]) -> None:
    with pytest.raises(InvalidSpace, match=next(iter(bad))):
        build_space("light-nas", **bad)  # type: ignore[arg-type]
