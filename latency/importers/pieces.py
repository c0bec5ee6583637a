"""What the nodes of every file format come to: ops appended to a `Draft`, or a `Value` seen in another way.

Each function raises `Refused` where a Graph has no such thing, and `nas.errors.InvalidOp` where an Op's fields
contradict each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from latency.importers.draft import Draft, Refused, Value
from nas.graph import Op, Pair

_THEN = {("x+3", "relu6"): "relu6(x+3)"}
_SIXTH = {"relu6(x+3)": "hsigmoid", "x*relu6(x+3)": "hswish"}
_TIMES_X = {"sigmoid": "swish", "hsigmoid": "hswish", "relu6(x+3)": "x*relu6(x+3)"}
_WEIGHTED = ("conv", "depthwise", "linear")

# Reading values ------------------------------------------------------------------------------------------------------


def cubic(value: Value) -> Value:
    """The value, if its dimensions are those of its tensor, or it is a single pixel seen as a vector.

    Raises:
        Refused: it is seen in another arrangement.
    """
    if not value.turned and (value.dims == value.shape or (value.flat and value.shape[1:] == (1, 1))):
        return value
    raise Refused("it reads a picture that was flattened or rearranged")


def flattened(value: Value) -> Value:
    """The value as a linear layer reads it.

    Raises:
        Refused: its elements do not stand in their tensor's order.
    """
    if value.turned:
        raise Refused("it reads a picture that was rearranged")
    return value


def reshape(draft: Draft, value: Value, dims: tuple[int, ...], name: str) -> Value:
    """The value in other dimensions: nothing is computed, except at the end of a channel shuffle.

    Raises:
        Refused: an arrangement that is neither the picture, its vector, nor a step of a channel shuffle.
    """
    if math.prod(dims) != math.prod(value.dims):
        raise Refused(f"it reshapes {value.dims} to {dims}")
    c, h, w = value.shape
    if value.turned:
        if dims != value.shape:
            raise Refused("a transposition that is no channel shuffle")
        straight = replace(value, dims=value.shape, turned=0)
        op = Op("shuffle", (value.shape,), (value.shape,), groups=value.turned)
        return draft.op(op, [straight], name)[0]
    if dims in (value.shape, (c * h * w,)) or (len(dims) == 4 and dims[0] * dims[1] == c and dims[2:] == (h, w)):
        return replace(value, dims=dims)
    raise Refused(f"it reshapes {value.shape} to {dims}")


def transpose(value: Value, order: tuple[int, ...]) -> Value:
    """The middle of a channel shuffle: groups and channels of a group change places.

    Args:
        value: what to transpose.
        order: of the dimensions without the batch, counted from 0.

    Raises:
        Refused: any other transposition.
    """
    if order == tuple(range(len(value.dims))):
        return value
    if value.turned or len(value.dims) != 4 or order != (1, 0, 2, 3):
        raise Refused("a transposition that is no channel shuffle")
    groups, each, h, w = value.dims
    return replace(value, dims=(each, groups, h, w), turned=groups)


# Activations ---------------------------------------------------------------------------------------------------------


def activate(value: Value, act: str, name: str) -> Value:
    """The value through one more step of an activation.

    Raises:
        Refused: there is an activation already, and no known one has both.
    """
    form = act if value.form == "none" else _THEN.get((value.form, act))
    if form is None:
        raise Refused(f"an activation behind another one ({value.form})")
    return replace(value, form=form, maker=name)


def times_sixth(value: Value, name: str) -> Value:
    """The value divided by 6, which ends a hard sigmoid or swish.

    Raises:
        Refused: it is neither.
    """
    if value.form not in _SIXTH:
        raise Refused("a multiplication with a constant")
    return replace(value, form=_SIXTH[value.form], maker=name)


def multiply(draft: Draft, a: Value, b: Value, name: str) -> Value:
    """A product: the end of a swish (x with a gate made of x), or channels times their factors.

    Raises:
        Refused: another product.
    """
    for x, gate in ((a, b), (b, a)):
        if x.same_tensor(gate) and x.form == "none" and gate.form in _TIMES_X:
            return replace(gate, form=_TIMES_X[gate.form], maker=name)
    for x, gate in ((a, b), (b, a)):
        if gate.shape == (x.shape[0], 1, 1):
            op = Op("scale", (x.shape, gate.shape), (x.shape,))
            return replace(draft.op(op, [cubic(x), cubic(gate)], name)[0], dims=x.dims)
    raise Refused(f"a product of {a.shape} and {b.shape}")


def add(draft: Draft, a: Value, b: Value, name: str) -> Value:
    """An element-wise sum.

    Raises:
        Refused: the shapes differ.
    """
    if a.dims != b.dims or a.shape != b.shape:
        raise Refused(f"a sum of {a.dims} and {b.dims}")
    op = Op("add", (a.shape, b.shape), (a.shape,))
    return replace(draft.op(op, [flattened(a), flattened(b)], name)[0], dims=a.dims)


# Ops -----------------------------------------------------------------------------------------------------------------


def same_padding(size: int, kernel: int, stride: int, *, upper: bool) -> Pair:
    """What `SAME` padding of a side comes to: (before, after)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    less, more = total // 2, total - total // 2
    return (less, more) if upper else (more, less)


def window(
    draft: Draft,
    kind: str,
    value: Value,
    name: str,
    *,
    c_out: int,
    kernel: Pair,
    stride: Pair,
    pads: tuple[int, int, int, int],
    dilation: Pair = (1, 1),
    groups: int = 1,
    bias: bool = False,
    ceil: bool = False,
) -> Value:
    """A convolution or pool, if its padding is ours: (k - 1) // 2 on each side.

    Args:
        draft: appended to.
        kind: `conv` (which may turn out to be depthwise), `maxpool` or `avgpool`.
        value: read.
        name: of the node.
        c_out: output channels.
        kernel: (kh, kw).
        stride: (sh, sw).
        pads: top, left, bottom, right.
        dilation: of the kernel.
        groups: of a convolution.
        bias: whether a convolution has one.
        ceil: the output size is rounded up.

    Raises:
        Refused: anything else.
    """
    value = cubic(value)
    if dilation != (1, 1):
        raise Refused(f"a dilated window ({dilation[0]}x{dilation[1]})")
    ours = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
    if pads != ours * 2:
        t, left, b, r = pads
        raise Refused(f"padding {t},{left},{b},{r} (top, left, bottom, right); lightnas has {ours[0]},{ours[1]} each")
    c, h, w = value.shape
    if groups > 1 and groups == c == c_out:
        kind = "depthwise"
    out: list[int] = []
    for size, k, s, pad in ((h, kernel[0], stride[0], ours[0]), (w, kernel[1], stride[1], ours[1])):
        span = size + 2 * pad - k
        if ceil and span % s and (span // s + 1) * s < size + pad:  # the last window begins inside the picture
            raise Refused("the size of its output is rounded up")
        out.append(span // s + 1)
    op = Op(kind, (value.shape,), ((c_out, out[0], out[1]),), kernel, stride, groups, bias=bias)
    return draft.op(op, [value], name)[0]


def linear(draft: Draft, value: Value, features: int, name: str, *, bias: bool) -> Value:
    """A fully connected layer over the flattened value."""
    op = Op("linear", (value.shape,), ((features, 1, 1),), bias=bias)
    return draft.op(op, [flattened(value)], name, flat=True)[0]


def global_pool(draft: Draft, value: Value, name: str, *, flat: bool) -> Value:
    """The mean over the picture."""
    value = cubic(value)
    return draft.op(Op("globalpool", (value.shape,), ((value.shape[0], 1, 1),)), [value], name, flat=flat)[0]


def concat(draft: Draft, values: Sequence[Value], name: str) -> Value:
    """Concatenation along the channels."""
    flat = all(v.flat for v in values)
    shapes = tuple(cubic(v).shape for v in values)
    if len(shapes) == 1:
        return values[0]
    return draft.op(Op("concat", shapes, ((sum(s[0] for s in shapes), *shapes[0][1:]),)), values, name, flat=flat)[0]


def split(draft: Draft, value: Value, channels: Sequence[int], name: str) -> list[Value]:
    """Consecutive slices of the channels."""
    value = cubic(value)
    if len(channels) == 1:
        return [value]
    outputs = tuple((c, *value.shape[1:]) for c in channels)
    return draft.op(Op("split", (value.shape,), outputs), [value], name, flat=value.flat)


def fold_norm(draft: Draft, value: Value) -> Value:
    """The value behind a norm, which the convolution before it takes in; nothing else may read that convolution.

    Raises:
        Refused: there is no such convolution.
    """
    op = _weighted(draft, value)
    if op is None:
        raise Refused("a norm that does not follow a convolution")
    draft.ops[value.node] = replace(op, norm=True, bias=False)
    return value


def fold_bias(draft: Draft, value: Value) -> Value:
    """The value with a constant per channel added, which the weighted op before it takes in.

    Raises:
        Refused: there is no such op.
    """
    op = _weighted(draft, value)
    if op is None:
        raise Refused("a sum with a constant")
    draft.ops[value.node] = replace(op, bias=not op.norm)
    return value


def _weighted(draft: Draft, value: Value) -> Op | None:
    """The weighted op whose own output the value is."""
    if value.node < 0 or value.form != "none" or value.turned:
        return None
    return op if (op := draft.ops[value.node]).kind in _WEIGHTED else None


def is_hard_sigmoid(alpha: float, beta: float) -> bool:
    """Whether max(0, min(1, alpha · x + beta)) is our hard sigmoid, relu6(x + 3) / 6."""
    return math.isclose(alpha, 1 / 6, rel_tol=1e-4) and beta == 0.5
