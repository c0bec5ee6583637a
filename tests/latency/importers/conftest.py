from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto

from latency.engines.onnx import to_onnx
from nas.graph import Graph


@pytest.fixture(scope="session")
def to_model() -> Callable[[Graph], ModelProto]:
    """A graph as an ONNX model with zero weights."""

    def write(graph: Graph) -> ModelProto:
        weights = {}
        for node in graph.nodes:
            op = node.op
            (c, h, w), c_out = op.inputs[0], op.outputs[0][0]
            if op.kind in ("conv", "depthwise", "linear"):
                shape = (c_out, c * h * w) if op.kind == "linear" else (c_out, c // op.groups, *op.kernel)
                weights[node.path] = (np.zeros(shape, np.float32), np.zeros(c_out, np.float32))
        return to_onnx(graph, weights)

    return write
