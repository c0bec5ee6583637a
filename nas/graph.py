"""Op and Graph: the one description of a network.

FLOPs, parameters, the torch module, the engine models and the latency keys all come from the same Graph, so what is
profiled, trained, exported and deployed is the same network.

Notations
    Shape: ``(c, h, w)``, one picture (batch 1). FLOPs are multiply-accumulates at batch 1, as the MobileNet papers
    count them: convolutions and linear layers only. Parameters count the trainable form (a norm has γ and β).
    Padding is ``(k - 1) // 2`` on each side, so an odd kernel with stride s maps h to ``ceil(h / s)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

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
        parts = [f"{self.kind}:{_shapes(self.inputs)}>{_shapes(self.outputs)}"]
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


def _shapes(shapes: Sequence[Shape]) -> str:
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
def _window(kind: str, x: Shape, c: int, k: Pair, s: Pair, groups: int, act: str, norm: bool, bias: bool) -> Op:
    out = (c, _out_size(x[1], k[0], s[0]), _out_size(x[2], k[1], s[1]))
    return Op(kind, (x,), (out,), k, s, groups, act, norm, bias)


@lru_cache(maxsize=1 << 16)
def _plain(kind: str, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...], groups: int, act: str, bias: bool) -> Op:
    return Op(kind, inputs, outputs, groups=groups, act=act, bias=bias)


class Tensor(NamedTuple):
    """A value in a Graph: output `port` of node `node` (-1 is the network's input), of shape (c, h, w)."""

    node: int
    port: int
    shape: Shape


class Node(NamedTuple):
    """An Op in its place. `path` (``s2.b1.dw``) names its weights, its bar in a chart and its error messages."""

    op: Op
    inputs: tuple[Tensor, ...]
    path: str


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


class Graph:
    """Ops and their wiring, in execution order. Built by calling its methods; `output` is the last tensor made.

    Args:
        input_shape: (c, h, w) of one picture.
    """

    def __init__(self, input_shape: Shape) -> None:
        self.input = Tensor(-1, 0, input_shape)
        self.nodes: list[Node] = []
        self._paths: set[str] = set()

    def _append(self, op: Op, inputs: tuple[Tensor, ...], path: str) -> Tensor:
        path = path or f"op{len(self.nodes)}"
        if path in self._paths:
            raise InvalidOp(f"two ops share the path {path!r}; every op needs its own")
        self._paths.add(path)
        self.nodes.append(Node(op, inputs, path))
        return Tensor(len(self.nodes) - 1, 0, op.outputs[0])

    def conv(
        self,
        x: Tensor,
        c_out: int,
        *,
        kernel: int | Pair = 1,
        stride: int | Pair = 1,
        groups: int = 1,
        act: str = "none",
        norm: bool = True,
        path: str = "",
    ) -> Tensor:
        """Convolution with a folded norm (or, without one, a bias) and a fused activation."""
        op = _window("conv", x.shape, c_out, _pair(kernel), _pair(stride), groups, act, norm, not norm)
        return self._append(op, (x,), path)

    def depthwise(
        self,
        x: Tensor,
        *,
        kernel: int | Pair = 3,
        stride: int | Pair = 1,
        act: str = "none",
        norm: bool = True,
        path: str = "",
    ) -> Tensor:
        """Depthwise convolution: one filter per channel."""
        c = x.shape[0]
        op = _window("depthwise", x.shape, c, _pair(kernel), _pair(stride), c, act, norm, not norm)
        return self._append(op, (x,), path)

    def linear(self, x: Tensor, features: int, *, act: str = "none", path: str = "") -> Tensor:
        """Fully connected layer with bias over the flattened input; output (features, 1, 1)."""
        return self._append(_plain("linear", (x.shape,), ((features, 1, 1),), 1, act, True), (x,), path)

    def add(self, a: Tensor, b: Tensor, *, act: str = "none", path: str = "") -> Tensor:
        """Element-wise sum of two tensors of one shape."""
        return self._append(_plain("add", (a.shape, b.shape), (a.shape,), 1, act, False), (a, b), path)

    def concat(self, xs: Sequence[Tensor], *, path: str = "") -> Tensor:
        """Concatenation along the channels."""
        out = (sum(x.shape[0] for x in xs), *xs[0].shape[1:])
        return self._append(_plain("concat", tuple(x.shape for x in xs), (out,), 1, "none", False), tuple(xs), path)

    def split(self, x: Tensor, channels: Sequence[int], *, path: str = "") -> tuple[Tensor, ...]:
        """Channel split into consecutive slices of the given channels."""
        outputs = tuple((c, *x.shape[1:]) for c in channels)
        first = self._append(_plain("split", (x.shape,), outputs, 1, "none", False), (x,), path)
        return tuple(Tensor(first.node, i, shape) for i, shape in enumerate(outputs))

    def shuffle(self, x: Tensor, groups: int, *, path: str = "") -> Tensor:
        """Channel shuffle: (groups, c / groups) transposed (ShuffleNet, arXiv 1707.01083)."""
        return self._append(_plain("shuffle", (x.shape,), (x.shape,), groups, "none", False), (x,), path)

    def max_pool(self, x: Tensor, *, kernel: int | Pair, stride: int | Pair, path: str = "") -> Tensor:
        """Max pooling; padding does not win."""
        op = _window("maxpool", x.shape, x.shape[0], _pair(kernel), _pair(stride), 1, "none", False, False)
        return self._append(op, (x,), path)

    def avg_pool(self, x: Tensor, *, kernel: int | Pair, stride: int | Pair, path: str = "") -> Tensor:
        """Average pooling; padding is not counted."""
        op = _window("avgpool", x.shape, x.shape[0], _pair(kernel), _pair(stride), 1, "none", False, False)
        return self._append(op, (x,), path)

    def global_pool(self, x: Tensor, *, path: str = "") -> Tensor:
        """Global average pooling; output (c, 1, 1)."""
        return self._append(_plain("globalpool", (x.shape,), ((x.shape[0], 1, 1),), 1, "none", False), (x,), path)

    def scale(self, x: Tensor, s: Tensor, *, path: str = "") -> Tensor:
        """Each channel of x times its factor in s (c, 1, 1): the excitation of SE (arXiv 1709.01507)."""
        return self._append(_plain("scale", (x.shape, s.shape), (x.shape,), 1, "none", False), (x, s), path)

    @property
    def output(self) -> Tensor:
        """What the network returns: the first output of the last node."""
        if not self.nodes:
            return self.input
        return Tensor(len(self.nodes) - 1, 0, self.nodes[-1].op.outputs[0])

    @property
    def ops(self) -> Iterator[Op]:
        """The ops in execution order."""
        return (node.op for node in self.nodes)

    @property
    def flops(self) -> int:
        """Multiply-accumulates at batch 1."""
        return sum(op.flops for op in self.ops)

    @property
    def params(self) -> int:
        """Trainable parameters."""
        return sum(op.params for op in self.ops)

    def wiring(self, start: int = 0, origin: Tensor | None = None) -> tuple[Any, ...]:
        """Ops and wires of the nodes from `start` on, without paths; `origin` is written as the input.

        Two stretches of graph with equal wiring compute the same function of their origin.
        """
        origin = origin or self.input

        def wire(t: Tensor) -> Pair:
            return (-1, 0) if t == origin else (t.node - start, t.port)

        return tuple((n.op, tuple(wire(t) for t in n.inputs)) for n in self.nodes[start:])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        return self.input == other.input and self.wiring() == other.wiring()

    def __hash__(self) -> int:
        return hash((self.input, self.wiring()))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: what a remote evaluator is sent and a model card shows."""
        nodes = [{"path": n.path, "op": n.op.key, "inputs": [[t.node, t.port] for t in n.inputs]} for n in self.nodes]
        return {"input": list(self.input.shape), "nodes": nodes}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Graph:
        """The Graph `to_dict` described.

        Raises:
            InvalidOp: a key, a wire or a shape is wrong.
        """
        try:
            c, h, w = (int(v) for v in data["input"])
            graph = Graph((c, h, w))
            for entry in data["nodes"]:
                op, wires = Op.parse(entry["op"]), entry["inputs"]
                inputs = tuple(graph._tensor(int(node), int(port)) for node, port in wires)
                if tuple(t.shape for t in inputs) != op.inputs:
                    raise InvalidOp(f"{entry['path']}: wired to {_shapes([t.shape for t in inputs])}, reads {op.key}")
                graph._append(op, inputs, str(entry["path"]))
        except (KeyError, TypeError, ValueError, IndexError) as e:
            raise InvalidOp(f"not a graph: {e!r}; expected what Graph.to_dict writes") from e
        return graph

    def _tensor(self, node: int, port: int) -> Tensor:
        if node == -1 and port == 0:
            return self.input
        if not 0 <= node < len(self.nodes) or not 0 <= port < len(self.nodes[node].op.outputs):
            raise InvalidOp(f"op {len(self.nodes)} reads output {port} of op {node}, which does not come before it")
        return Tensor(node, port, self.nodes[node].op.outputs[port])
