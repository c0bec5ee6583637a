from __future__ import annotations

import pytest

from api.networks.reference import find_mobilenet_v2
from nas.spaces import build_space
from nas.spaces.families import build_mobilenet_v2, default_reduction


@pytest.mark.parametrize("resolution", [224, 16])
def test_a_space_that_holds_mobilenet_v2(resolution: int) -> None:
    space = build_space("light-nas", resolution=resolution)
    found, row = find_mobilenet_v2(space)
    assert found is space
    graph = space.graph(row)
    assert graph.params == 3_504_872
    assert list(graph.ops) == list(build_mobilenet_v2((3, resolution, resolution), 1000).ops)
    assert space.decode(row)["s6.width"] == 320


def test_several_resolutions_mean_the_largest() -> None:
    space = build_space("light-nas", resolution=[96, 128, 64], classes=10)
    found, row = find_mobilenet_v2(space)
    assert (found, space.decode(row)["resolution"], space.graph(row).input.shape) == (space, 128, (3, 128, 128))


@pytest.mark.parametrize("name", ["mobilenetv2-small", "nas-bench-macro", "shufflenetv2"])
def test_a_space_without_it_has_it_beside_it(name: str) -> None:
    space = build_space(name, resolution=32, classes=7, channels=1)
    found, row = find_mobilenet_v2(space)
    graph, shape = found.graph(row), (1, 32, 32)
    assert (found.name, graph.input.shape, graph.output.shape) == ("mobilenetv2", shape, (7, 1, 1))
    assert list(graph.ops) == list(build_mobilenet_v2(shape, 7, reduction=default_reduction(shape)).ops)


def test_its_own_space() -> None:
    space = build_space("mobilenetv2", resolution=[32, 64])
    found, row = find_mobilenet_v2(space)
    assert found is space
    assert space.decode(row) == {"resolution": 64, "width": 1.0, "downsampling": "late"}
