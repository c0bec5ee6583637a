from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from latency.engines.onnx import to_onnx
from latency.errors import LatencyError
from nas.blocks import FAMILIES
from nas.fold import Folded, fold
from nas.graph import ACTIVATIONS, Graph
from nas.network import Network


def _trained(graph: Graph) -> Network:
    """A network whose norms have seen data, so that folding matters."""
    network = Network(graph, seed=0).train()
    with torch.no_grad():
        for seed in range(3):
            network(torch.randn(8, *graph.input.shape, generator=torch.Generator().manual_seed(seed)))
    return network.eval()


def _check(graph: Graph, *, batch: int | None = None, pictures: int = 3) -> None:
    network = _trained(graph)
    model = to_onnx(graph, fold(network), batch=batch)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).normal(size=(batch or pictures, *graph.input.shape)).astype(np.float32)
    (got,) = session.run(["output"], {"input": x})
    with torch.inference_mode():
        want = network(torch.from_numpy(x)).numpy()
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_both_families_compute_what_torch_computes(family: str, act: str) -> None:
    g = Graph((3, 15, 12))
    x = g.conv(g.input, 8, kernel=3, stride=2, act=act, path="stem")
    for i, (c, stride) in enumerate(((8, 1), (12, 2))):
        knobs = {"se": True, "expansion": 2} if family == "mbconv" else {}
        x = FAMILIES[family].build(g, x, c, stride=stride, kernel=5, act=act, path=f"b{i}", **knobs)
    g.linear(g.global_pool(x, path="pool"), 5, act=act, path="classifier")
    _check(g)


def test_every_kind_of_op() -> None:
    g = Graph((3, 14, 14))
    x = g.conv(g.input, 12, kernel=(3, 1), stride=(2, 1), groups=3, path="conv")
    x = g.add(g.max_pool(x, kernel=3, stride=1), g.avg_pool(x, kernel=3, stride=1), act="relu")
    x = g.avg_pool(g.max_pool(x, kernel=2, stride=2), kernel=3, stride=2)
    a, b, c = g.split(x, (2, 4, 6))
    x = g.shuffle(g.concat((c, a, b)), 3)
    x = g.scale(x, g.linear(x, 12, act="hsigmoid", path="gate"))  # a linear layer in the middle
    g.depthwise(x, kernel=3, norm=False, path="out")
    assert {op.kind for op in g.ops} >= {"maxpool", "avgpool", "split", "shuffle", "scale", "linear", "add", "concat"}
    _check(g)


def test_a_fixed_batch() -> None:
    g = Graph((1, 8, 8))
    g.conv(g.input, 2, kernel=3, path="output")  # a path equal to the output's name does no harm
    model = to_onnx(g, fold(_trained(g)), batch=1)
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 1, 8, 8]
    _check(g, batch=1)


def test_wrong_weights_are_told() -> None:
    g = Graph((1, 8, 8))
    g.conv(g.input, 2, kernel=3, path="s1.stem")
    with pytest.raises(LatencyError, match=r"s1\.stem: no weights"):
        to_onnx(g, {})
    with pytest.raises(LatencyError, match=r"s1\.stem: weights \(2, 1, 1, 1\)"):
        to_onnx(g, {"s1.stem": Folded(np.zeros((2, 1, 1, 1), np.float32), np.zeros(2, np.float32))})
