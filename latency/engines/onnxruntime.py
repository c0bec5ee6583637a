"""The onnxruntime engine: Graph -> ONNX, and which of its ops onnxruntime runs as one kernel.

Its optimiser turns a convolution, its activation, a residual sum that reads it and the activation behind that into one
kernel; with the blocked memory layout it has on x86 as well as without it on ARM. (Both are tested against the profile
of a real session.) What only one of the platforms does needs no key: a kernel's time goes to the op it is named after,
so that the ops of a network sum up to its time wherever the borders between them lie.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from latency.engines import Engine, EngineModel
from latency.engines.onnx import to_onnx
from nas.graph import Graph, Op, Place

_CONVOLUTIONS = ("conv", "depthwise")


class OnnxRuntimeEngine(Engine):
    """onnxruntime on its CPU provider."""

    name = "onnxruntime"
    dtypes = ("fp32",)
    timed_passes = 12

    def engine_key(self, op: Op) -> str:
        """The engine gets folded weights: with a norm or with a bias, the same kernel runs."""
        return replace(op, norm=False, bias=True).key if op.norm else op.key

    def kernel_key(self, place: Place) -> str | None:
        """`engine_key`, with `+add` and the sum's activation where a convolution does the sum that reads it."""
        if place.op.kind == "add" and _summing(place) is not None:
            return None
        key = self.engine_key(place.op)
        if place.reader is None or place.reader.kind != "add" or not _sums(place.op):
            return key
        return f"{key}+add" if place.reader.act == "none" else f"{key}+add:{place.reader.act}"

    def build(self, graph: Graph) -> EngineModel:
        """The model, its weights left to onnxruntime; a timed one names the stamp of each op, by path, on a line more.

        A path without a kernel of its own is charged to the convolution that does its work.
        """
        places = graph.places()
        charged_to = {}
        for node, place in zip(graph.nodes, places, strict=True):
            by = _summing(place) if place.op.kind == "add" else None
            charged_to[node.path] = node.path if by is None else graph.nodes[node.inputs[by].node].path
        stamps = tuple(path for path, to in charged_to.items() if path == to)
        at = {path: i for i, path in enumerate(stamps)}
        content = zlib.compress(to_onnx(graph, None, batch=1).SerializeToString(), 9)
        text = base64.b64encode(content).decode("ascii")
        # Where nothing comes behind the last op, its kernel is called after the network's output.
        owners = {"output": len(stamps) - 1, **{path: at[to] for path, to in charged_to.items()}}
        line = json.dumps(owners, separators=(",", ":"))
        return EngineModel(text, f"{text}\n{line}", stamps, graph.input.shape)

    def weights(self, graph: Graph, folded: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]) -> bytes:
        """The whole `.onnx` file: it holds its weights."""
        return bytes(to_onnx(graph, folded).SerializeToString())


def _sums(op: Op) -> bool:
    """Whether a kernel of the op can add a second tensor: only if nothing comes between."""
    return op.kind in _CONVOLUTIONS and op.act == "none"


def _summing(place: Place) -> int | None:
    """Which input of a sum comes from the convolution that does it; None: it is a kernel of its own."""
    return next((i for i, maker in enumerate(place.makers) if maker is not None and _sums(maker)), None)
