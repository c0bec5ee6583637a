"""What each ncnn layer comes to; the numbers are from ncnn's docs/developer-guide/operators.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from latency.importers import pieces
from latency.importers.draft import Draft, Refused, Value
from nas.graph import Op, Pair

_UNSET = -233
_SAME_UPPER, _SAME_LOWER = -233, -234
_INFINITE = 3e38


@dataclass(frozen=True)
class Layer:
    """One line of a `.param` text.

    Attributes:
        kind, name: as in the text.
        bottoms, tops: the blobs read and made.
        params: number -> value, or values.
    """

    kind: str
    name: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    params: Mapping[int, tuple[float, ...]]

    def number(self, key: int, default: float) -> float:
        """A parameter."""
        return self.params[key][0] if self.params.get(key) else default

    def integer(self, key: int, default: int) -> int:
        """A parameter that is a whole number."""
        return int(self.number(key, default))

    def integers(self, key: int) -> list[int]:
        """A parameter that is a list."""
        return [int(v) for v in self.params.get(key, ())]


Handler = Callable[[Draft, Layer, Sequence[Value]], list[Value]]


# Windows -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Window:
    kernel: Pair
    stride: Pair
    dilation: Pair
    pads: tuple[int, int, int, int]
    ceil: bool = False


def _conv_window(layer: Layer, value: Value) -> _Window:
    kernel = (layer.integer(11, layer.integer(1, 0)), layer.integer(1, 0))
    dilation = (layer.integer(12, layer.integer(2, 1)), layer.integer(2, 1))
    stride = (layer.integer(13, layer.integer(3, 1)), layer.integer(3, 1))
    left = layer.integer(4, 0)
    top = layer.integer(14, left)
    pads = (top, left, layer.integer(16, top), layer.integer(15, left))
    return _Window(kernel, stride, dilation, _pads(pads, left, value, kernel, stride))


def _pool_window(layer: Layer, value: Value) -> _Window:
    kernel = (layer.integer(11, layer.integer(1, 0)), layer.integer(1, 0))
    stride = (layer.integer(12, layer.integer(2, 1)), layer.integer(2, 1))
    left = layer.integer(3, 0)
    top = layer.integer(13, left)
    mode = layer.integer(5, 0)
    same = {2: _SAME_UPPER, 3: _SAME_LOWER}.get(mode, left)
    pads = _pads((top, left, layer.integer(15, top), layer.integer(14, left)), same, value, kernel, stride)
    return _Window(kernel, stride, (1, 1), pads, ceil=mode == 0)


def _pads(
    told: tuple[int, int, int, int], mark: int, value: Value, kernel: Pair, stride: Pair
) -> tuple[int, int, int, int]:
    """Top, left, bottom, right; `mark` tells `SAME` padding."""
    if mark not in (_SAME_UPPER, _SAME_LOWER):
        return told
    upper = mark == _SAME_UPPER
    top, bottom = pieces.same_padding(value.shape[1], kernel[0], stride[0], upper=upper)
    left, right = pieces.same_padding(value.shape[2], kernel[1], stride[1], upper=upper)
    return top, left, bottom, right


def dims_of_window(layer: Layer, value: Value) -> tuple[int, ...] | None:
    """(c, h, w) that a convolution or pool makes whatever its padding; None of any other layer."""
    if layer.kind not in ("Convolution", "ConvolutionDepthWise", "Pooling") or len(value.dims) != 3:
        return None
    pool = layer.kind == "Pooling"
    if pool and (layer.integer(4, 0) or layer.integer(7, 0)):
        return None
    found = _pool_window(layer, value) if pool else _conv_window(layer, value)
    if min(found.stride) < 1:
        return None
    top, left, bottom, right = found.pads
    sides = zip(value.dims[1:], found.kernel, found.stride, found.dilation, (top + bottom, left + right), strict=True)
    out = [value.dims[0] if pool else layer.integer(0, 0)]
    for size, kernel, stride, dilation, pad in sides:
        span = size + pad - dilation * (kernel - 1) - 1
        out.append((-(-span // stride) if found.ceil else span // stride) + 1)
    return tuple(out)


def _conv(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    (value,) = values
    groups = layer.integer(7, 1) if layer.kind == "ConvolutionDepthWise" else 1
    if layer.integer(8, 0) or layer.integer(19, 0):
        raise Refused("its weights are int8" if layer.integer(8, 0) else "its weights are no constant")
    c_out, found = layer.integer(0, 0), _conv_window(layer, value)
    weights = math.prod(found.kernel) * (value.shape[0] // max(1, groups)) * c_out
    if layer.integer(6, weights) != weights:
        raise Refused(f"it has {layer.integer(6, 0)} weights, but {weights} fit what it reads")
    made = pieces.window(
        draft,
        "conv",
        value,
        layer.name,
        c_out=c_out,
        kernel=found.kernel,
        stride=found.stride,
        pads=found.pads,
        dilation=found.dilation,
        groups=groups,
        bias=bool(layer.integer(5, 0)),
    )
    # A vector stays one: ncnn runs the convolution as an inner product then.
    return [_fused(replace(made, dims=(c_out,)) if value.flat else made, layer)]


def _linear(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    (value,) = values
    features = layer.integer(0, 0)
    weights = features * math.prod(value.dims)
    if layer.integer(8, 0):
        raise Refused("its weights are int8")
    if layer.integer(2, weights) != weights or len(value.dims) == 2:
        raise Refused(f"it has {layer.integer(2, 0)} weights, but {weights} fit what it reads")
    return [_fused(pieces.linear(draft, value, features, layer.name, bias=bool(layer.integer(1, 0))), layer)]


def _fused(value: Value, layer: Layer) -> Value:
    """The activation inside a weighted layer."""
    numbers = layer.params.get(10, ())
    match layer.integer(9, 0):
        case 0:
            return value
        case 1:
            return pieces.activate(value, "relu", layer.name)
        case 3 if len(numbers) == 2:
            return pieces.activate(value, _clip_act(*numbers), layer.name)
        case 4:
            return pieces.activate(value, "sigmoid", layer.name)
        case 6 if len(numbers) == 2 and pieces.is_hard_sigmoid(*numbers):
            return pieces.activate(value, "hswish", layer.name)
    raise Refused(f"its activation {layer.integer(9, 0)}")


def _pool(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    (value,) = values
    average = layer.integer(0, 0) == 1
    adaptive = layer.integer(7, 0) and layer.integer(8, 0) == 1 and layer.integer(18, layer.integer(8, 0)) == 1
    if layer.integer(4, 0) or adaptive:
        if not average:
            raise Refused("a global maximum")
        return [pieces.global_pool(draft, value, layer.name, flat=not adaptive)]
    if layer.integer(7, 0):
        raise Refused("an adaptive pool")
    found = _pool_window(layer, value)
    if average and found.kernel == value.shape[1:] and not any(found.pads):
        return [pieces.global_pool(draft, value, layer.name, flat=False)]
    if average and any(found.pads) and layer.integer(6, 0):
        raise Refused("its mean counts the padding")
    top, left, bottom, right = found.pads
    spans = zip(value.shape[1:], found.kernel, found.stride, (top + bottom, left + right), strict=True)
    if found.ceil and any((size + pad - kernel) % stride for size, kernel, stride, pad in spans):
        raise Refused("the size of its output is rounded up")
    made = pieces.window(
        draft,
        "avgpool" if average else "maxpool",
        value,
        layer.name,
        c_out=value.shape[0],
        kernel=found.kernel,
        stride=found.stride,
        pads=found.pads,
    )
    return [made]


def _reduction(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    (value,) = values
    axes = sorted(a % 3 for a in layer.integers(3))
    if layer.integer(0, 0) != 3 or layer.integer(1, 1) or axes != [1, 2] or layer.number(2, 1.0) != 1:
        raise Refused("a reduction that is no mean over the picture")
    return [pieces.global_pool(draft, value, layer.name, flat=not layer.integer(4, 0))]


# Wiring and views ----------------------------------------------------------------------------------------------------


def _copies(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    return [values[0]] * len(layer.tops)


def _axis(layer: Layer, key: int, value: Value) -> None:
    """Checks that the axis is the channels'."""
    if layer.integer(key, 0) % len(value.dims) != 0:
        raise Refused("along other than channels")


def _concat(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    for value in values:
        _axis(layer, 0, value)
    return [pieces.concat(draft, values, layer.name)]


def _slice(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    (value,) = values
    _axis(layer, 1, value)
    channels, left = layer.integers(0), value.shape[0]
    if len(channels) != len(layer.tops):
        raise Refused("it cuts at given places")
    for i, size in enumerate(channels):
        if size == _UNSET:
            channels[i] = left // (len(channels) - i)
        left -= channels[i]
    return pieces.split(draft, value, channels, layer.name)


def _shuffle(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    value = pieces.cubic(values[0])
    if layer.integer(1, 0):
        raise Refused("a shuffle backwards")
    op = Op("shuffle", (value.shape,), (value.shape,), groups=layer.integer(0, 1))
    return draft.op(op, [value], layer.name, flat=value.flat)


def _reshape(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    (value,) = values
    match layer.kind:
        case "Flatten":
            dims = [math.prod(value.dims)]
        case "Squeeze":
            dims = [value.dims[0]] if value.dims[1:] == (1, 1) else []
        case "ExpandDims":
            dims = [*value.dims, 1, 1] if value.flat and layer.integers(3) in ([1, 2], [-2, -1]) else []
        case _:
            if layer.integer(11, _UNSET) != _UNSET:
                raise Refused("it reshapes to four dimensions")
            dims = [size for key in (2, 1, 0) if (size := layer.integer(key, _UNSET)) != _UNSET]
            dims = [value.dims[i] if size == 0 and i < len(value.dims) else size for i, size in enumerate(dims)]
            known = math.prod(size for size in dims if size != -1)
            dims = [math.prod(value.dims) // max(1, known) if size == -1 else size for size in dims]
    if not dims:
        raise Refused(f"it rearranges {value.dims}")
    return [pieces.reshape(draft, value, tuple(dims), layer.name)]


def _permute(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    if layer.integer(0, 0):
        raise Refused("a transposition")
    return [values[0]]


# Activations and arithmetic ------------------------------------------------------------------------------------------


def _clip_act(low: float, high: float) -> str:
    if low != 0 or (high != 6 and high < _INFINITE):
        raise Refused(f"it clips to {low:g}…{high:g}, not to 0…6")
    return "relu6" if high == 6 else "relu"


def _activation(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    (value,) = values
    match layer.kind:
        case "ReLU":
            if layer.number(0, 0.0):
                raise Refused(f"its slope is {layer.number(0, 0.0):g}, not 0")
            act = "relu"
        case "Clip":
            act = _clip_act(layer.number(0, -math.inf), layer.number(1, math.inf))
        case "HardSwish" | "HardSigmoid":
            alpha, beta = layer.number(0, 0.2), layer.number(1, 0.5)
            if not pieces.is_hard_sigmoid(alpha, beta):
                raise Refused(f"its alpha and beta are {alpha:g} and {beta:g}, not 1/6 and 0.5")
            act = "hswish" if layer.kind == "HardSwish" else "hsigmoid"
        case _:
            act = layer.kind.lower()
    return [pieces.activate(value, act, layer.name)]


def _norm(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    """A blob is read once only in ncnn, so the norm alone reads the convolution before it."""
    return [pieces.fold_norm(draft, values[0])]


def _scale(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    """Factors of a norm after its first half (as Caffe writes it), or of another tensor."""
    if len(values) == 2:
        return [pieces.multiply(draft, values[0], values[1], layer.name)]
    return [pieces.fold_norm(draft, values[0])]


def _binary(draft: Draft, layer: Layer, values: Sequence[Value]) -> list[Value]:
    kind = layer.integer(0, 0)
    if layer.kind == "Eltwise":
        kind = {0: 2, 1: 0}.get(kind, kind + 10)
        if any(v != 1 for v in layer.params.get(1, ())):
            raise Refused("its sum is weighted")
    elif layer.integer(1, 0):
        return [_with_number(kind, layer.number(2, 0.0), values[0], layer.name)]
    if len(values) != 2 or kind not in (0, 2):
        raise Refused(f"its operation {layer.integer(0, 0)} of {len(values)} inputs")
    combine = pieces.add if kind == 0 else pieces.multiply
    return [combine(draft, values[0], values[1], layer.name)]


def _with_number(kind: int, number: float, value: Value, name: str) -> Value:
    if kind == 0 and number == 3:
        return pieces.activate(value, "x+3", name)
    if math.isclose(number, {2: 1 / 6, 3: 6.0}.get(kind, math.nan), rel_tol=1e-4):
        return pieces.times_sixth(value, name)
    raise Refused(f"it computes with the number {number:g}")


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("Convolution", "ConvolutionDepthWise"), _conv),
    "InnerProduct": _linear,
    "Pooling": _pool,
    "Reduction": _reduction,
    **dict.fromkeys(("Split", "Noop", "Dropout"), _copies),
    "Concat": _concat,
    "Slice": _slice,
    "ShuffleChannel": _shuffle,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "ExpandDims"), _reshape),
    "Permute": _permute,
    **dict.fromkeys(("ReLU", "Clip", "HardSwish", "HardSigmoid", "Sigmoid", "Swish"), _activation),
    "BatchNorm": _norm,
    "Scale": _scale,
    **dict.fromkeys(("BinaryOp", "Eltwise"), _binary),
}
SAME_SHAPE = {
    "BatchNorm", "Bias", "Clip", "ELU", "GELU", "HardSigmoid", "HardSwish", "InstanceNorm", "LRN", "Mish", "Normalize",
    "PReLU", "ReLU", "Scale", "ShuffleChannel", "Sigmoid", "Softmax", "Swish", "TanH", "UnaryOp",
}  # fmt: skip
"""Layers that cannot be expressed, or not always, but whose output has the shape of their input."""
