"""Graph and folded weights -> ONNX, for onnxruntime and for every tool that reads ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from latency.errors import LatencyError, UnsupportedOp
from nas.graph import Graph, Node, Op, Tensor

OPSET = 17
IR_VERSION = 8  # what onnxruntime has read since 1.12, so that an old board can load the file

Weights = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def to_onnx(
    graph: Graph,
    weights: Weights | None,
    *,
    input_name: str = "input",
    output_name: str = "output",
    batch: int | None = None,
) -> ModelProto:
    """The inference form of a network as a checked ONNX model.

    Every node's name is the path of its op, a slash and a part (``s2.b1.dw/linear``), so a profile maps back to ops.

    Args:
        graph: what to write.
        weights: path -> (weight, bias) of every weighted op, norms folded (`nas.fold.fold`); None, for timing, has the
            engine fill them in as it loads the model, which then is a text of kilobytes.
        input_name: of the (batch, c, h, w) float32 input.
        output_name: of the float32 output: (batch, c) where the graph ends in 1x1 pixels, else (batch, c, h, w).
        batch: a fixed batch size, which some engines plan better for; None: any (the dimension is called N).

    Raises:
        UnsupportedOp: an op has no ONNX form here.
        LatencyError: a weight is missing or has another shape than its op.
    """
    writer = _Writer(weights)
    names = {graph.input: input_name}
    for index, node in enumerate(graph.nodes):
        outputs = [Tensor(index, port, shape) for port, shape in enumerate(node.op.outputs)]
        made = writer.write(node, [names[t] for t in node.inputs])
        names.update(zip(outputs, made, strict=True))
    n: int | str = "N" if batch is None else batch
    c, h, w = graph.output.shape
    flat = (h, w) == (1, 1)
    if flat:
        writer.emit("Flatten", [names[graph.output]], output_name, axis=1)
    else:
        writer.emit("Identity", [names[graph.output]], output_name)
    model = helper.make_model(
        helper.make_graph(
            writer.nodes,
            "network",
            [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [n, *graph.input.shape])],
            [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, [n, c] if flat else [n, c, h, w])],
            writer.constants,
        ),
        producer_name="lightnas",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    checker.check_model(model, full_check=True)
    return model


def with_outputs(content: bytes, values: Sequence[str]) -> bytes:
    """A model that also answers what it computes on the way.

    Args:
        content: an ONNX file.
        values: float32 values inside it: port p of an op is called ``path/p`` by `to_onnx`.

    Raises:
        UnsupportedOp: the file is no ONNX model, or has no such value.
    """
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise UnsupportedOp("the file is no whole ONNX model; export it again") from None
    made = {name for node in model.graph.node for name in node.output}
    missing = [value for value in values if value not in made]
    if missing:
        raise UnsupportedOp(f"the ONNX model computes no {', '.join(missing[:3])}; export it again")
    told = {output.name for output in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in values if value not in told
    )
    return bytes(model.SerializeToString())


def _pads(op: Op) -> list[int]:
    return [(op.kernel[0] - 1) // 2, (op.kernel[1] - 1) // 2] * 2


class _Writer:
    """Collects the ONNX nodes and constants of one model."""

    def __init__(self, weights: Weights | None) -> None:
        self.weights = weights
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._shared: dict[str, str] = {}
        self._filled = 0

    def emit(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append one ONNX node named after its output."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Append a constant."""
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def filled(self, name: str, shape: tuple[int, ...]) -> str:
        """Append a constant that the engine makes, each of another value.

        Equal ones would be taken for one: layers of one shape would share their weights, and so find them in the cache.
        Such small numbers neither grow nor become denormal on their way through a network.
        """
        self._filled += 1
        value = helper.make_tensor("value", TensorProto.FLOAT, [1], [self._filled * 1e-6])
        return self.emit("ConstantOfShape", [self.integers(shape)], name, value=value)

    def integers(self, values: Sequence[int]) -> str:
        """An int64 constant, shared between its users."""
        text = "i64." + "_".join(map(str, values))
        if text not in self._shared:
            self._shared[text] = self.constant(text, np.array(values, np.int64))
        return self._shared[text]

    def scalar(self, value: float) -> str:
        """A float32 constant, shared between its users."""
        text = f"f32.{value:g}"
        if text not in self._shared:
            self._shared[text] = self.constant(text, np.array(value, np.float32))
        return self._shared[text]

    def write(self, node: Node, inputs: list[str]) -> list[str]:
        """Append a node's ONNX form; the names of its outputs."""
        op, path = node.op, node.path
        if op.kind == "split":
            outputs = [f"{path}/{port}" for port in range(len(op.outputs))]
            sizes = self.integers([c for c, _, _ in op.outputs])
            self.nodes.append(helper.make_node("Split", [inputs[0], sizes], outputs, name=outputs[0], axis=1))
            return outputs
        return [self.activate(op.act, self.compute(op, path, inputs), f"{path}/0")]

    def compute(self, op: Op, path: str, inputs: list[str]) -> str:
        """The op without its activation."""
        name = f"{path}/0" if op.act == "none" else f"{path}/linear"
        window = {"kernel_shape": op.kernel, "strides": op.stride, "pads": _pads(op)}
        match op.kind:
            case "conv" | "depthwise":
                weights = self.weights_of(op, path, (op.outputs[0][0], op.inputs[0][0] // op.groups, *op.kernel))
                return self.emit("Conv", [inputs[0], *weights], name, group=op.groups, **window)
            case "linear":
                c, h, w = op.inputs[0]
                weights = self.weights_of(op, path, (op.outputs[0][0], c * h * w))
                flat = self.emit("Flatten", [inputs[0]], f"{path}/flat", axis=1)
                y = self.emit("Gemm", [flat, *weights], f"{path}/gemm", transB=1)
                return self.emit("Unsqueeze", [y, self.integers((2, 3))], name)
            case "maxpool":
                return self.emit("MaxPool", inputs, name, **window)
            case "avgpool":
                return self.emit("AveragePool", inputs, name, count_include_pad=0, **window)
            case "globalpool":
                return self.emit("GlobalAveragePool", inputs, name)
            case "add":
                return self.emit("Add", inputs, name)
            case "scale":
                return self.emit("Mul", inputs, name)
            case "concat":
                return self.emit("Concat", inputs, name, axis=1)
            case "shuffle":
                c, h, w = op.inputs[0]
                grouped = self.integers((0, op.groups, c // op.groups, h, w))  # 0 keeps the batch dimension
                y = self.emit("Reshape", [inputs[0], grouped], f"{path}/grouped")
                y = self.emit("Transpose", [y], f"{path}/turned", perm=[0, 2, 1, 3, 4])
                return self.emit("Reshape", [y, self.integers((0, c, h, w))], name)
            case kind:
                raise UnsupportedOp(f"{path}: ONNX export cannot write {kind!r} ({op.key})")

    def activate(self, act: str, x: str, name: str) -> str:
        """The activation behind an op."""
        match act:
            case "none":
                return x
            case "relu":
                return self.emit("Relu", [x], name)
            case "relu6":
                return self.emit("Clip", [x, self.scalar(0.0), self.scalar(6.0)], name)
            case "hswish":
                return self.emit("HardSwish", [x], name)
            case "hsigmoid":
                return self.emit("HardSigmoid", [x], name, alpha=1 / 6, beta=0.5)
            case "sigmoid":
                return self.emit("Sigmoid", [x], name)
            case "swish":
                return self.emit("Mul", [x, self.emit("Sigmoid", [x], f"{name}.gate")], name)
            case _:
                raise UnsupportedOp(f"{name}: ONNX export cannot write the activation {act!r}")

    def weights_of(self, op: Op, path: str, shape: tuple[int, ...]) -> tuple[str, str]:
        """Append the weight and bias of an op as constants."""
        if self.weights is None:
            return self.filled(f"{path}.weight", shape), self.filled(f"{path}.bias", shape[:1])
        if path not in self.weights:
            raise LatencyError(f"{path}: no weights for this op; fold the network built from the same graph")
        weight, bias = self.weights[path]
        if weight.shape != shape or bias.shape != shape[:1]:
            raise LatencyError(
                f"{path}: weights {weight.shape} and {bias.shape} do not fit {op.key}; expected {shape} and {shape[:1]}"
            )
        return self.constant(f"{path}.weight", weight), self.constant(f"{path}.bias", bias)
