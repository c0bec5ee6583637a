from __future__ import annotations

from collections.abc import Callable

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
def test_both_families_compute_what_torch_computes(
    family: str, act: str, family_network: Callable[[str, str], Graph]
) -> None:
    _check(family_network(family, act))


def test_every_kind_of_op(every_kind_of_op: Graph) -> None:
    kinds = {op.kind for op in every_kind_of_op.ops}
    assert kinds >= {"maxpool", "avgpool", "split", "shuffle", "scale", "linear", "add", "concat"}
    _check(every_kind_of_op)


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
