"""Op: one fully shaped operator as an engine runs it, and its readable key.

Notations
    Shape: ``(c, h, w)``, one picture (batch 1). FLOPs are multiply-accumulates at batch 1, as the MobileNet papers
    count them: convolutions and linear layers only. Parameters count the trainable form (a norm has γ and β).
    Padding is ``(k - 1) // 2`` on each side, so an odd kernel with stride s maps h to ``ceil(h / s)``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from nas.errors import InvalidOp

Shape = tuple[int, int, int]
Pair = tuple[int, int]

ACTIVATIONS = ("none", "relu", "relu6", "hswish", "hsigmoid", "sigmoid", "swish")
KINDS = (
    "conv",
    "depthwise",
    "linear",
    "add",
    "concat",
    "split",
    "shuffle",
    "maxpool",
    "avgpool",
    "globalpool",
    "scale",
)
_WINDOWED = ("conv", "depthwise", "maxpool", "avgpool")
_WEIGHTED = ("conv", "depthwise", "linear")

_SHAPE = r"\d+x\d+x\d+"
_SHAPES = rf"{_SHAPE}(?:\+{_SHAPE})*"
_KEY = re.compile(
    rf"(?P<kind>[a-z]+):(?P<inputs>{_SHAPES})>(?P<outputs>{_SHAPES})"
    r"(?::k(?P<kh>\d+)x(?P<kw>\d+))?(?::s(?P<sh>\d+)x(?P<sw>\d+))?(?::g(?P<groups>\d+))?"
    r"(?P<norm>:bn)?(?P<bias>:bias)?(?::(?P<act>[a-z0-9]+))?"
)


@dataclass(frozen=True)
class Op:
    """One fully shaped operator as an engine runs it, its norm folded and its activation fused.

    Attributes:
        kind: one of `KINDS`.
        inputs: shapes read, each (c, h, w).
        outputs: shapes written; only `split` has several.
        kernel: (kh, kw) of convolutions and pools.
        stride: (sh, sw) of convolutions and pools.
        groups: of a convolution, or of a channel shuffle.
        act: the fused activation, one of `ACTIVATIONS`.
        norm: a batch norm follows the weights (folded into them at inference).
        bias: the weights have a bias of their own.

    Raises:
        InvalidOp: the fields contradict each other.
    """

    kind: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    groups: int = 1
    act: str = "none"
    norm: bool = False
    bias: bool = False

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise InvalidOp(f"{self.kind} {self.inputs} -> {self.outputs}: {problem}")

    @cached_property
    def key(self) -> str:
        """Readable, complete: ``Op.parse(op.key) == op``. Example: ``conv:3x32x32>16x16x16:k3x3:s2x2:g1:bn:relu6``."""
        parts = [f"{self.kind}:{shapes_text(self.inputs)}>{shapes_text(self.outputs)}"]
        if self.kind in _WINDOWED:
            parts += [f"k{self.kernel[0]}x{self.kernel[1]}", f"s{self.stride[0]}x{self.stride[1]}"]
        if self.kind in ("conv", "shuffle"):
            parts.append(f"g{self.groups}")
        if self.norm:
            parts.append("bn")
        if self.bias:
            parts.append("bias")
        if self.act != "none":
            parts.append(self.act)
        return ":".join(parts)

    @staticmethod
    def parse(key: str) -> Op:
        """The Op a key describes.

        Raises:
            InvalidOp: the text is not a key, or describes an impossible Op.
        """
        m = _KEY.fullmatch(key)
        if not m:
            raise InvalidOp(f"{key!r} is no op key; expected kind:CxHxW>CxHxW[:kKxK:sSxS:gG][:bn][:bias][:activation]")
        op = Op(
            kind=m["kind"],
            inputs=_parse_shapes(m["inputs"]),
            outputs=_parse_shapes(m["outputs"]),
            kernel=(int(m["kh"]), int(m["kw"])) if m["kh"] else (1, 1),
            stride=(int(m["sh"]), int(m["sw"])) if m["sh"] else (1, 1),
            groups=int(m["groups"]) if m["groups"] else (_depth_groups(m["kind"], m["inputs"])),
            act=m["act"] or "none",
            norm=bool(m["norm"]),
            bias=bool(m["bias"]),
        )
        if op.key != key:
            raise InvalidOp(f"{key!r} is not in canonical form; did you mean {op.key!r}?")
        return op

    @cached_property
    def flops(self) -> int:
        """Multiply-accumulates at batch 1."""
        (c, h, w), (oc, oh, ow) = self.inputs[0], self.outputs[0]
        if self.kind in ("conv", "depthwise"):
            return self.kernel[0] * self.kernel[1] * (c // self.groups) * oc * oh * ow
        return c * h * w * oc if self.kind == "linear" else 0

    @cached_property
    def params(self) -> int:
        """Trainable parameters: weights, biases, and γ and β of the norm."""
        (c, h, w), (oc, _, _) = self.inputs[0], self.outputs[0]
        if self.kind not in _WEIGHTED:
            return 0
        weights = c * h * w * oc if self.kind == "linear" else self.kernel[0] * self.kernel[1] * (c // self.groups) * oc
        return weights + oc * (2 * self.norm + self.bias)


def shapes_text(shapes: Sequence[Shape]) -> str:
    """Shapes as keys write them: ``3x32x32+3x32x32``."""
    return "+".join(f"{c}x{h}x{w}" for c, h, w in shapes)


def _parse_shapes(text: str) -> tuple[Shape, ...]:
    return tuple((int(c), int(h), int(w)) for c, h, w in (s.split("x") for s in text.split("+")))


def _depth_groups(kind: str, inputs: str) -> int:
    return int(inputs.split("x", 1)[0]) if kind == "depthwise" else 1


def _out_size(size: int, kernel: int, stride: int) -> int:
    return (size + 2 * ((kernel - 1) // 2) - kernel) // stride + 1


def _problem(op: Op) -> str | None:
    """What is wrong with an Op, or None."""
    if op.kind not in KINDS:
        return f"unknown kind; known: {', '.join(KINDS)}"
    if op.act not in ACTIVATIONS:
        return f"unknown activation {op.act!r}; known: {', '.join(ACTIVATIONS)}"
    if any(d < 1 for s in op.inputs + op.outputs for d in s) or not op.inputs or not op.outputs:
        return "every size must be at least 1"
    if min(*op.kernel, *op.stride, op.groups) < 1:
        return "kernel, stride and groups must be at least 1"
    if op.kind not in _WINDOWED and (op.kernel != (1, 1) or op.stride != (1, 1)):
        return "this kind has no kernel or stride"
    if op.kind not in _WEIGHTED and (op.norm or op.bias):
        return "only weighted kinds have a norm or a bias"
    if op.norm and op.bias:
        return "a norm makes the bias redundant"
    return _CHECKS[op.kind](op)


def _check_window(op: Op) -> str | None:
    if len(op.inputs) != 1 or len(op.outputs) != 1:
        return "needs one input and one output"
    (c, h, w), (oc, oh, ow) = op.inputs[0], op.outputs[0]
    want = (_out_size(h, op.kernel[0], op.stride[0]), _out_size(w, op.kernel[1], op.stride[1]))
    if min(want) < 1:
        return f"a {op.kernel[0]}x{op.kernel[1]} kernel does not fit {h}x{w}"
    if (oh, ow) != want:
        return f"output must be {want[0]}x{want[1]}"
    if op.kind == "conv":
        return f"groups {op.groups} must divide {c} and {oc} channels" if c % op.groups or oc % op.groups else None
    if c != oc:
        return "input and output channels must agree"
    if op.kind == "depthwise":
        return None if op.groups == c else "groups must equal the channels"
    return "a pool has no groups" if op.groups != 1 else None


def _check_linear(op: Op) -> str | None:
    ok = len(op.inputs) == 1 and len(op.outputs) == 1 and op.outputs[0][1:] == (1, 1) and op.groups == 1
    return None if ok else "needs one input and an Nx1x1 output"


def _check_add(op: Op) -> str | None:
    ok = len(op.inputs) == 2 and op.inputs[0] == op.inputs[1] and op.outputs == op.inputs[:1] and op.groups == 1
    return None if ok else "needs two inputs and an output of the same shape"


def _check_concat(op: Op) -> str | None:
    sizes = {s[1:] for s in op.inputs}
    want = (sum(s[0] for s in op.inputs), *op.inputs[0][1:])
    ok = len(sizes) == 1 and len(op.inputs) > 1 and op.outputs == (want,) and op.act == "none" and op.groups == 1
    return None if ok else "needs several inputs of one size; the output has the sum of their channels"


def _check_split(op: Op) -> str | None:
    want = (sum(s[0] for s in op.outputs), *op.outputs[0][1:])
    ok = len({s[1:] for s in op.outputs}) == 1 and len(op.outputs) > 1 and op.inputs == (want,)
    return None if ok and op.act == "none" and op.groups == 1 else "needs outputs whose channels sum to the input's"


def _check_shuffle(op: Op) -> str | None:
    ok = op.inputs == op.outputs and len(op.inputs) == 1 and op.inputs[0][0] % op.groups == 0 and op.act == "none"
    return None if ok else "needs one shape in and out whose channels the groups divide"


def _check_globalpool(op: Op) -> str | None:
    ok = len(op.inputs) == 1 and op.outputs == ((op.inputs[0][0], 1, 1),) and op.act == "none" and op.groups == 1
    return None if ok else "needs one input and a Cx1x1 output"


def _check_scale(op: Op) -> str | None:
    ok = len(op.inputs) == 2 and op.inputs[1] == (op.inputs[0][0], 1, 1) and op.outputs == op.inputs[:1]
    return None if ok and op.groups == 1 else "needs CxHxW and Cx1x1 inputs and a CxHxW output"


_CHECKS = {
    **dict.fromkeys(_WINDOWED, _check_window),
    "linear": _check_linear,
    "add": _check_add,
    "concat": _check_concat,
    "split": _check_split,
    "shuffle": _check_shuffle,
    "globalpool": _check_globalpool,
    "scale": _check_scale,
}


@lru_cache(maxsize=1 << 17)
def window_op(kind: str, x: Shape, c: int, k: Pair, s: Pair, groups: int, act: str, norm: bool, bias: bool) -> Op:
    """A convolution or pool over x, its output size worked out; interned, because a space has few distinct ones."""
    out = (c, _out_size(x[1], k[0], s[0]), _out_size(x[2], k[1], s[1]))
    return Op(kind, (x,), (out,), k, s, groups, act, norm, bias)


@lru_cache(maxsize=1 << 16)
def plain_op(kind: str, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...], groups: int, act: str, bias: bool) -> Op:
    """An op without a window; interned."""
    return Op(kind, inputs, outputs, groups=groups, act=act, bias=bias)
