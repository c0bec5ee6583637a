"""What each ONNX operator comes to. Plain data in (`Call`), `Value`s out: nothing here needs the onnx package."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency.importers import pieces
from latency.importers.draft import Draft, Refused, Value
from nas.graph import Pair

_INFINITE = 3e38


@dataclass(frozen=True)
class Call:
    """One node.

    Attributes:
        name: as messages call it.
        kind, domain: the operator.
        inputs, outputs: names of tensors; an empty one is left out.
        attributes: name -> plain value.
    """

    name: str
    kind: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def reads(self, index: int) -> str:
        """The name of an input; empty if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""


class Source(ABC):
    """What a handler may ask of the model around its node.

    Attributes:
        draft: what the ops are appended to.
        reads: name of a tensor -> how often it is read, outputs of the network included.
        calls: every node.
    """

    draft: Draft
    reads: Counter[str]
    calls: Sequence[Call]

    @abstractmethod
    def value(self, name: str) -> Value:
        """What a name stands for.

        Raises:
            Refused: it is a constant, or its shape is unknown.
        """

    @abstractmethod
    def constant(self, name: str) -> NDArray[Any] | None:
        """A small constant's content; None if it is large or no constant."""

    @abstractmethod
    def weight_shape(self, name: str) -> tuple[int, ...] | None:
        """A constant's shape; None if it is no constant."""


Made = dict[str, Value]
Handler = Callable[[Source, Call], Made]


def _integers(source: Source, call: Call, attribute: str, index: int) -> list[int] | None:
    """Integers that are an attribute in old operator sets and a constant input in new ones; None if left out."""
    if attribute in call.attributes:
        return [int(v) for v in call.attributes[attribute]]
    if not call.reads(index):
        return None
    found = source.constant(call.reads(index))
    if found is None:
        raise Refused(f"its {attribute} are no constant")
    return [int(v) for v in np.ravel(found)]


def _number(source: Source, call: Call, attribute: str, index: int) -> float | None:
    if attribute in call.attributes:
        return float(call.attributes[attribute])
    if not call.reads(index):
        return None
    found = source.constant(call.reads(index))
    if found is None or found.size != 1:
        raise Refused(f"its {attribute} is no constant")
    return float(found.item())


def _axis(call: Call, value: Value, default: int) -> int:
    """The axis, the batch counted as 0."""
    axis = int(call.attributes.get("axis", default))
    return axis + len(value.dims) + 1 if axis < 0 else axis


def _pads(call: Call, value: Value, kernel: Pair, stride: Pair) -> tuple[int, int, int, int]:
    """Top, left, bottom, right."""
    auto = call.attributes.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        top, left, bottom, right = call.attributes.get("pads", (0, 0, 0, 0)) if auto == "NOTSET" else (0, 0, 0, 0)
        return top, left, bottom, right
    upper = auto == "SAME_UPPER"
    top, bottom = pieces.same_padding(value.shape[1], kernel[0], stride[0], upper=upper)
    left, right = pieces.same_padding(value.shape[2], kernel[1], stride[1], upper=upper)
    return top, left, bottom, right


def _pair(call: Call, attribute: str) -> Pair:
    a, b = call.attributes.get(attribute, (1, 1))
    return int(a), int(b)


# Ops -----------------------------------------------------------------------------------------------------------------


def _conv(source: Source, call: Call) -> Made:
    weight = source.weight_shape(call.reads(1))
    if weight is None or len(weight) != 4:
        raise Refused("its weights are no constant" if weight is None else "no convolution over pictures")
    value, groups = source.value(call.inputs[0]), int(call.attributes.get("group", 1))
    if weight[1] * groups != value.shape[0]:
        raise Refused(f"its weights {weight} do not fit {value.shape[0]} channels in {groups} groups")
    kernel, stride = (weight[2], weight[3]), _pair(call, "strides")
    made = pieces.window(
        source.draft,
        "conv",
        value,
        call.name,
        c_out=weight[0],
        kernel=kernel,
        stride=stride,
        pads=_pads(call, value, kernel, stride),
        dilation=_pair(call, "dilations"),
        groups=groups,
        bias=bool(call.reads(2)),
    )
    return {call.outputs[0]: made}


def _pool(source: Source, call: Call) -> Made:
    value = source.value(call.inputs[0])
    if len(call.attributes["kernel_shape"]) != 2 or any(call.outputs[1:]):
        raise Refused("no pool over pictures")
    kernel, stride = _pair(call, "kernel_shape"), _pair(call, "strides")
    pads, average = _pads(call, value, kernel, stride), call.kind == "AveragePool"
    if average and not any(pads) and kernel == value.shape[1:]:
        return {call.outputs[0]: pieces.global_pool(source.draft, value, call.name, flat=False)}
    if average and any(pads) and call.attributes.get("count_include_pad", 0):
        raise Refused("its mean counts the padding")
    made = pieces.window(
        source.draft,
        "avgpool" if average else "maxpool",
        value,
        call.name,
        c_out=value.shape[0],
        kernel=kernel,
        stride=stride,
        pads=pads,
        dilation=_pair(call, "dilations"),
        ceil=bool(call.attributes.get("ceil_mode", 0)),
    )
    return {call.outputs[0]: made}


def _global_pool(source: Source, call: Call) -> Made:
    value, keep = source.value(call.inputs[0]), True
    if call.kind == "ReduceMean":
        axes = _integers(source, call, "axes", 1) or []
        if sorted(a % (len(value.dims) + 1) for a in axes) != [2, 3]:
            raise Refused(f"a mean over the axes {axes or 'all'}")
        keep = bool(call.attributes.get("keepdims", 1))
    return {call.outputs[0]: pieces.global_pool(source.draft, value, call.name, flat=not keep)}


def _gemm(source: Source, call: Call) -> Made:
    value, weight = source.value(call.inputs[0]), source.weight_shape(call.reads(1))
    plain = all(call.attributes.get(name, default) == default for name, default in _GEMM.items())
    if weight is None or len(weight) != 2 or not value.flat or not plain:
        raise Refused("a product that is no fully connected layer")
    features, read = weight if call.attributes.get("transB", 0) else weight[::-1]
    if read != value.dims[0]:
        raise Refused(f"its weights {weight} do not fit {value.dims[0]} features")
    return {call.outputs[0]: pieces.linear(source.draft, value, features, call.name, bias=bool(call.reads(2)))}


_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0}


def _norm(source: Source, call: Call) -> Made:
    value = source.value(call.inputs[0])
    if source.reads[call.inputs[0]] > 1 or call.attributes.get("training_mode", 0):
        raise Refused("a norm that no convolution can take in")
    return {call.outputs[0]: pieces.fold_norm(source.draft, value)}


def _concat(source: Source, call: Call) -> Made:
    values = [source.value(name) for name in call.inputs]
    if any(_axis(call, v, 1) != 1 for v in values):
        raise Refused("a concatenation of other than channels")
    return {call.outputs[0]: pieces.concat(source.draft, values, call.name)}


def _split(source: Source, call: Call) -> Made:
    value = source.value(call.inputs[0])
    if _axis(call, value, 0) != 1:
        raise Refused("a split of other than channels")
    count = len(call.outputs)
    channels = _integers(source, call, "split", 1)
    if channels is None:
        size = -(-value.dims[0] // count)
        channels = [size] * (count - 1) + [value.dims[0] - size * (count - 1)]
    made = pieces.split(source.draft, value, channels, call.name)
    return {name: port for name, port in zip(call.outputs, made, strict=True) if name}


def _slice(source: Source, call: Call) -> Made:
    """All slices of one tensor make one split, if they share out its channels."""
    value = source.value(call.inputs[0])
    spans: dict[Pair, str] = {}
    for other in source.calls:
        if other.kind == "Slice" and other.inputs[0] == call.inputs[0]:
            spans[_span(source, other, value)] = other.outputs[0]
    ordered = sorted(spans)
    ends = [0, *(end for _, end in ordered)]
    if [start for start, _ in ordered] != ends[:-1] or ends[-1] != value.shape[0]:
        raise Refused("it takes a part of the channels, and the rest is not taken elsewhere")
    made = pieces.split(source.draft, value, [end - start for start, end in ordered], call.name)
    return {spans[span]: port for span, port in zip(ordered, made, strict=True)}


def _span(source: Source, call: Call, value: Value) -> Pair:
    starts, ends = _integers(source, call, "starts", 1), _integers(source, call, "ends", 2)
    axes, steps = _integers(source, call, "axes", 3), _integers(source, call, "steps", 4)
    rank = len(value.dims) + 1
    if starts is None or ends is None or [a % rank for a in axes or [0]] != [1] or steps not in (None, [1]):
        raise Refused("it slices other than channels")
    start, end, _ = slice(starts[0], ends[0]).indices(value.dims[0])
    return start, end


# Views ---------------------------------------------------------------------------------------------------------------


def _same(source: Source, call: Call) -> Made:
    return {call.outputs[0]: source.value(call.inputs[0])}


def _reshape(source: Source, call: Call) -> Made:
    value = source.value(call.inputs[0])
    full = (1, *value.dims)
    rank = len(full)
    match call.kind:
        case "Flatten":
            if _axis(call, value, 1) != 1:
                raise Refused("it flattens the batch too")
            wanted = [1, math.prod(value.dims)]
        case "Squeeze":
            axes = _integers(source, call, "axes", 1)
            gone = {a % rank for a in axes} if axes is not None else {i for i in range(1, rank) if full[i] == 1}
            wanted = [size for i, size in enumerate(full) if i not in gone]
        case "Unsqueeze":
            added = _integers(source, call, "axes", 1) or []
            places = {a % (rank + len(added)) for a in added}
            rest = iter(full)
            wanted = [1 if i in places else next(rest) for i in range(rank + len(places))]
        case _:
            target = _integers(source, call, "shape", 1) or []
            wanted = [full[i] if size == 0 and i < rank else size for i, size in enumerate(target)]
            known = math.prod(size for size in wanted if size != -1)
            wanted = [math.prod(full) // max(1, known) if size == -1 else size for size in wanted]
    if not wanted or wanted[0] != 1:
        raise Refused(f"it reshapes the batch too, to {wanted}")
    return {call.outputs[0]: pieces.reshape(source.draft, value, tuple(wanted[1:]), call.name)}


def _transpose(source: Source, call: Call) -> Made:
    value = source.value(call.inputs[0])
    order = call.attributes.get("perm") or list(range(len(value.dims), -1, -1))
    if order[0] != 0:
        raise Refused("it transposes the batch too")
    return {call.outputs[0]: pieces.transpose(value, tuple(axis - 1 for axis in order[1:]))}


# Activations and arithmetic ------------------------------------------------------------------------------------------

_ACTS = {"Relu": "relu", "Sigmoid": "sigmoid", "HardSwish": "hswish", "Swish": "swish"}


def _activation(source: Source, call: Call) -> Made:
    value = source.value(call.inputs[0])
    if call.kind == "Swish" and call.attributes.get("alpha", 1.0) != 1:
        raise Refused(f"its alpha is {call.attributes['alpha']:g}, not 1")
    return {call.outputs[0]: pieces.activate(value, _ACTS[call.kind], call.name)}


def _clip(source: Source, call: Call) -> Made:
    low, high = _number(source, call, "min", 1), _number(source, call, "max", 2)
    if low != 0 or (high not in (None, 6.0) and high < _INFINITE):
        raise Refused(f"it clips to {low}…{high}, not to 0…6")
    act = "relu6" if high == 6 else "relu"
    return {call.outputs[0]: pieces.activate(source.value(call.inputs[0]), act, call.name)}


def _hard_sigmoid(source: Source, call: Call) -> Made:
    alpha, beta = call.attributes.get("alpha", 0.2), call.attributes.get("beta", 0.5)
    if not pieces.is_hard_sigmoid(alpha, beta):
        raise Refused(f"its alpha is {alpha:g}, not 1/6" if beta == 0.5 else f"its beta is {beta:g}, not 0.5")
    return {call.outputs[0]: pieces.activate(source.value(call.inputs[0]), "hsigmoid", call.name)}


def _arithmetic(source: Source, call: Call) -> Made:
    if len(call.inputs) != 2:
        raise Refused(f"it has {len(call.inputs)} inputs, not 2")
    a, b = call.inputs
    if source.weight_shape(a) is not None and call.kind != "Div":
        a, b = b, a
    if source.weight_shape(b) is not None:
        return {call.outputs[0]: _with_constant(source, call, a, b)}
    x, y = source.value(a), source.value(b)
    if len(x.dims) != len(y.dims):
        raise Refused(f"it combines {x.dims} and {y.dims}")
    if call.kind == "Mul":
        return {call.outputs[0]: pieces.multiply(source.draft, x, y, call.name)}
    if call.kind == "Div":
        raise Refused("lightnas has no such op")
    return {call.outputs[0]: pieces.add(source.draft, x, y, call.name)}


def _with_constant(source: Source, call: Call, name: str, constant: str) -> Value:
    """A value and a constant: parts of hard sigmoid and hard swish, or the bias of a layer."""
    value, shape, number = source.value(name), source.weight_shape(constant), source.constant(constant)
    if number is not None and number.size == 1:
        sixth = {"Mul": 1 / 6, "Div": 6.0}.get(call.kind)
        if sixth is not None and math.isclose(float(number.item()), sixth, rel_tol=1e-4):
            return pieces.times_sixth(value, call.name)
        if sixth is None and number.item() == 3:
            return pieces.activate(value, "x+3", call.name)
    per_channel = (value.dims[0], *(1,) * (len(value.dims) - 1))
    if call.kind in ("Add", "Sum") and shape in (per_channel, (1, *per_channel)) and source.reads[name] == 1:
        return pieces.fold_bias(source.draft, value)
    raise Refused("it computes with a constant")


HANDLERS: dict[str, Handler] = {
    "Conv": _conv,
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), _global_pool),
    **dict.fromkeys(("Gemm", "MatMul"), _gemm),
    "BatchNormalization": _norm,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    **dict.fromkeys(("Identity", "Dropout"), _same),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    **dict.fromkeys(_ACTS, _activation),
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    **dict.fromkeys(("Add", "Sum", "Mul", "Div"), _arithmetic),
}
