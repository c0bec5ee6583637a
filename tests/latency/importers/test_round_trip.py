"""Graph -> file -> Graph is the identity, norms folded; and a file with random damage is refused in one line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from latency.engines import get_engine
from latency.errors import LatencyError
from latency.importers.ncnn import from_param
from latency.importers.onnx import from_onnx
from latency.priced import inference_form
from nas.blocks import FAMILIES
from nas.graph import ACTIVATIONS, Graph
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.spaces.staged import Head, Stage, Stem, staged_space

ToModel = Callable[[Graph], ModelProto]


def shuffle_space() -> SearchSpace:
    stages = [
        Stage(family=("mbconv", "shuffle_v2"), width=(16, 24), kernel=(3, 5), repeats=(1, 2, 3), stride=(2,)),
        Stage(family=("shuffle_v2",), width=(32, 48), repeats=(1, 2), stride=(1,)),
    ]
    return staged_space("shuffled", inputs=[(3, 32, 32)], stem=Stem(8), stages=stages, head=Head(10, width=64))


SPACES = {
    **{name: build_space(name) for name in ("light-nas", "mobilenetv2-small", "nas-bench-macro")},
    "shuffled": shuffle_space(),
}


def check(graph: Graph, to_model: ToModel) -> None:
    want = inference_form(graph)
    for found in (from_onnx(to_model(graph)), from_param(get_engine("ncnn").build(graph).model)):
        assert found.unsupported == ()
        assert found.outputs == 1
        assert [n.op.key for n in found.graph.nodes] == [n.op.key for n in want.nodes]
        assert found.graph == want
        assert Graph.from_dict(found.graph.to_dict()) == want


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_networks_of_every_space(name: str, to_model: ToModel, seed: int) -> None:
    space = SPACES[name]
    graph = space.graph(space.sample(np.random.default_rng(seed))[0])
    check(graph, to_model)


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_activation_and_squeeze_and_excitation(
    family: str, act: str, family_network: Callable[[str, str], Graph], to_model: ToModel
) -> None:
    check(family_network(family, act), to_model)


def test_every_kind_of_op(every_kind_of_op: Graph, to_model: ToModel) -> None:
    check(every_kind_of_op, to_model)


# Damage --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(to_model: ToModel) -> dict[str, bytes]:
    space = SPACES["mobilenetv2-small"]
    graph = space.graph(space.sample(np.random.default_rng(0))[0])
    return {"param": get_engine("ncnn").build(graph).model.encode(), "onnx": to_model(graph).SerializeToString()}


@pytest.mark.parametrize("kind", ["param", "onnx"])
@settings(max_examples=60, deadline=None)
@given(where=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3)), min_size=1, max_size=6))
def test_damage_is_read_or_refused(kind: str, files: dict[str, bytes], where: list[tuple[float, bytes]]) -> None:
    data = bytearray(files[kind])
    for place, new in where:
        at = int(place * len(data))
        data[at : at + 1] = new
    told = ""
    try:
        if kind == "param":
            from_param(bytes(data))
        else:
            from_onnx(onnx.load_from_string(bytes(data)))
    except LatencyError as e:
        told = str(e)
    except DecodeError:
        assert kind == "onnx"  # told by `load_onnx`, which reads files
    assert "\n" not in told
