"""An ONNX file -> Graph; operators as https://onnx.ai/onnx/operators/ has them.

Constants are worked out (the shape arithmetic that exporters leave behind), a symbolic batch is taken as 1, and the
shapes of what no Op can express come from ONNX's own shape inference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    inliner,
    load,
    numpy_helper,
    shape_inference,
)

from latency.errors import LatencyError
from latency.importers.draft import Draft, Imported, Refused, Unsupported, Value
from latency.importers.onnx_nodes import HANDLERS, Call, Source
from nas.errors import InvalidOp
from nas.graph import Shape

_SMALL: Final = 4096
"""Elements up to which an initializer may be part of shape arithmetic; larger ones are weights."""
_MALFORMED: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError)
"""What comes of attributes of the wrong kind or number, which ONNX itself does not check."""
_FOLDABLE: Final = {
    "Add", "Cast", "Concat", "Div", "Gather", "Mul", "Neg", "ReduceProd", "Reshape", "Slice", "Squeeze", "Sub",
    "Transpose", "Unsqueeze",
}  # fmt: skip
"""What shape arithmetic is made of."""


def load_onnx(path: Path) -> ModelProto:
    """The model of a file; weights kept in other files stay there.

    Raises:
        LatencyError: it is no ONNX model.
        OSError: it cannot be read.
    """
    try:
        model = load(path, load_external_data=False)
    except (DecodeError, ValueError) as e:
        raise LatencyError(f"{path} is not an ONNX model; export the network to ONNX again") from e
    if not model.graph.node:
        raise LatencyError(f"{path} is not an ONNX model: it holds no network; export it again")
    return model


def external_files(model: ModelProto) -> list[str]:
    """The other files a model keeps weights in."""
    names = {e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"}
    return sorted(names)


def picture_shape(model: ModelProto, shape: Shape | None = None, *, source: str = "the ONNX model") -> Shape:
    """(c, h, w) of the network's one input.

    Args:
        model: whose.
        shape: for a model that leaves sizes open.
        source: how messages call the model.

    Raises:
        LatencyError: there are several inputs, or one that is no float32 picture at batch 1; or sizes are missing or
            contradict each other.
    """
    inputs = _inputs(model.graph)
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs) or "none"
        raise LatencyError(f"{source} has {len(inputs)} inputs ({names}); lightnas runs networks that read one picture")
    (found,) = inputs
    tensor = found.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise LatencyError(f"{source}: its input {found.name} is {kind}; export it with a float32 input")
    sizes = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim]
    if len(sizes) != 4:
        raise LatencyError(
            f"{source}: its input {found.name} has {len(sizes)} dimensions, but a picture has 4: batch, channels, "
            "height, width"
        )
    if sizes[0] not in (None, 1):
        raise LatencyError(f"{source}: its batch is fixed to {sizes[0]}; export it with batch 1 or an open batch")
    wanted = shape or (None, None, None)
    merged = [told or given for told, given in zip(sizes[1:], wanted, strict=True)]
    if None in merged:
        raise LatencyError(f"{source} does not tell the size of its picture; give it: --shape 3x224x224")
    c, h, w = (int(v) for v in merged if v is not None)
    if shape is not None and shape != (c, h, w):
        raise LatencyError(
            f"{source} reads a picture of {c}x{h}x{w}, not {'x'.join(map(str, shape))}; leave --shape out"
        )
    return c, h, w


def from_onnx(model: ModelProto, shape: Shape | None = None, *, source: str = "the ONNX model") -> Imported:
    """Reads a network.

    Args:
        model: from a file or from `latency.engines.onnx.to_onnx`.
        shape: (c, h, w) of the picture, for a model that leaves it open.
        source: how messages call the model.

    Raises:
        LatencyError: see `picture_shape`; or the model is damaged.
    """
    try:
        picture = picture_shape(model, shape, source=source)
        if model.functions:
            model = inliner.inline_local_functions(model)
        return _Reader(model, picture).read()
    except (*_MALFORMED, RuntimeError) as e:
        said = " ".join(str(e).split())[:200]
        raise LatencyError(f"{source} is damaged ({type(e).__name__}: {said}); export the network again") from e


def _inputs(graph: GraphProto) -> list[ValueInfoProto]:
    weights = {t.name for t in graph.initializer}
    return [i for i in graph.input if i.name not in weights]


class _Reader(Source):
    """Walks one model's nodes."""

    def __init__(self, model: ModelProto, picture: Shape) -> None:
        self.draft = Draft(picture)
        self._graph = model.graph
        self._opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
        (found,) = _inputs(model.graph)
        self._values: dict[str, Value | None] = {found.name: self.draft.picture}
        self._weights = {t.name: tuple(t.dims) for t in model.graph.initializer}
        self._constants = {
            t.name: numpy_helper.to_array(t)
            for t in model.graph.initializer
            if np.prod(t.dims) <= _SMALL and not t.external_data
        }
        self._dims = _inferred(model, found.name, picture)
        self.reads = Counter(name for node in model.graph.node for name in node.input)
        self.reads.update(output.name for output in model.graph.output)
        self.calls = [_call(node) for node in model.graph.node]
        self._makers = {name: call for call in self.calls for name in call.outputs}

    def read(self) -> Imported:
        """The network."""
        for call in self.calls:
            if not all(name in self._values or name in self._weights for name in call.outputs if name):
                self._node(call)
        outputs = [value for o in self._graph.output if (value := self._values.get(o.name)) is not None]
        found = self.draft.finish(outputs)
        return Imported(found.graph, found.unsupported, len(self._graph.output))

    def _node(self, call: Call) -> None:
        if self._works_out(call):
            return
        try:
            if call.domain not in ("", "ai.onnx") or call.kind not in HANDLERS:
                raise Refused("lightnas has no such op")
            self._values.update(HANDLERS[call.kind](self, call))
        except (Refused, InvalidOp, *_MALFORMED) as e:
            reason = str(e) if isinstance(e, (Refused, InvalidOp)) else f"it is malformed ({type(e).__name__}: {e})"
            reads = [value for name in call.inputs if (value := self._values.get(name)) is not None]
            names = [name for name in call.outputs if name]
            dims = [self._dims.get(name) for name in names]
            made = self.draft.foreign(Unsupported(call.name, call.kind, reason), reads, dims)
            self._values.update(zip(names, made, strict=True))

    def _works_out(self, call: Call) -> bool:
        """Works out a node that depends on no picture; False if it does."""
        (output, *others) = call.outputs
        if call.kind == "Constant":
            self._constants[output] = _constant(call)
        elif call.kind == "Identity" and call.inputs[0] in self._weights:
            self._weights[output] = self._weights[call.inputs[0]]
            if (content := self.constant(call.inputs[0])) is not None:
                self._constants[output] = content
            return True
        elif call.kind == "Shape" and (value := self._values.get(call.inputs[0])) is not None:
            full = np.array((1, *value.dims), np.int64)
            self._constants[output] = full[call.attributes.get("start", 0) : call.attributes.get("end")]
        elif call.kind == "ConstantOfShape" and (size := self.constant(call.inputs[0])) is not None:
            self._weights[output] = tuple(int(n) for n in size)
            if np.prod(size) > _SMALL:  # weights, of which only the shape counts
                return True
            self._constants[output] = self._evaluate(call)
        elif call.kind in _FOLDABLE and not others and all(self.constant(n) is not None for n in call.inputs if n):
            self._constants[output] = self._evaluate(call)
        else:
            return False
        self._weights[output] = self._constants[output].shape
        return True

    def _evaluate(self, call: Call) -> NDArray[Any]:
        from onnx.reference import ReferenceEvaluator  # slow to import, seldom needed

        node = next(n for n in self._graph.node if list(n.output) == list(call.outputs))
        feeds = {name: self._constants[name] for name in call.inputs if name}
        (result,) = ReferenceEvaluator(node, opsets={"": self._opset}).run(None, feeds)
        return np.asarray(result)

    def value(self, name: str) -> Value:
        """See `Source`."""
        if name in self._weights:
            raise Refused("it computes with a constant")
        value = self._values.get(name)
        if value is None:
            raise Refused("the shape of what it reads is unknown")
        return value

    def constant(self, name: str) -> NDArray[Any] | None:
        """See `Source`. Worked out where it stands further down: a handler may look ahead."""
        if name not in self._constants and name not in self._values and name not in self._weights:
            maker = self._makers.get(name)
            if maker is None or not self._works_out(maker):
                return None
        return self._constants.get(name)

    def weight_shape(self, name: str) -> tuple[int, ...] | None:
        """See `Source`."""
        return self._weights.get(name)


def _call(node: NodeProto) -> Call:
    attributes = {a.name: _plain(a) for a in node.attribute}
    name = node.name or next((o for o in node.output if o), node.op_type)
    return Call(name, node.op_type, node.domain, tuple(node.input), tuple(node.output), attributes)


def _plain(attribute: AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _constant(call: Call) -> NDArray[Any]:
    (value,) = call.attributes.values()
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _inferred(model: ModelProto, picture_name: str, picture: Shape) -> dict[str, tuple[int, ...]]:
    """Name -> dimensions without the batch, of every tensor whose shape is known at batch 1."""
    light = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = "shapes"
    light.graph.node.extend(model.graph.node)
    light.graph.input.append(helper.make_tensor_value_info(picture_name, TensorProto.FLOAT, (1, *picture)))
    light.graph.output.extend(ValueInfoProto(name=o.name) for o in model.graph.output)
    for tensor in model.graph.initializer:
        if np.prod(tensor.dims) <= _SMALL and not tensor.external_data:
            light.graph.initializer.append(tensor)
        else:  # the inference would copy every weight
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        done = shape_inference.infer_shapes(light, data_prop=True)
    except (shape_inference.InferenceError, ValueError, RuntimeError):
        return {}
    known: dict[str, tuple[int, ...]] = {}
    for info in (*done.graph.value_info, *done.graph.output):
        sizes: Sequence[int] = [d.dim_value for d in info.type.tensor_type.shape.dim]
        if sizes and sizes[0] == 1 and min(sizes) > 0:
            known[info.name] = tuple(sizes[1:])
    return known
