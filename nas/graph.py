"""Graph: ops and their wiring, the one description of a network.

FLOPs, parameters, the torch module, the engine models and the latency keys all come from the same Graph, so what is
profiled, trained, exported and deployed is the same network. Shapes, FLOPs and padding are as in `nas.op`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from nas.errors import InvalidOp
from nas.op import ACTIVATIONS, KINDS, Op, Pair, Shape, plain_op, shapes_text, window_op

__all__ = ["ACTIVATIONS", "KINDS", "Graph", "Node", "Op", "Pair", "Place", "Shape", "Tensor"]


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


class Place(NamedTuple):
    """An Op and the neighbours an engine may fuse it with: those joined to it by a tensor nothing else reads.

    Attributes:
        op: the op.
        reader: what reads its output, if that is one op and it reads nothing else of it; None at a network's end.
        makers: per input, the op that made it for this op alone; else None.
    """

    op: Op
    reader: Op | None
    makers: tuple[Op | None, ...]


_FLOAT = 4  # bytes


def _bytes(shape: Shape) -> int:
    return _FLOAT * shape[0] * shape[1] * shape[2]


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
        op = window_op("conv", x.shape, c_out, _pair(kernel), _pair(stride), groups, act, norm, not norm)
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
        op = window_op("depthwise", x.shape, c, _pair(kernel), _pair(stride), c, act, norm, not norm)
        return self._append(op, (x,), path)

    def linear(self, x: Tensor, features: int, *, act: str = "none", path: str = "") -> Tensor:
        """Fully connected layer with bias over the flattened input; output (features, 1, 1)."""
        return self._append(plain_op("linear", (x.shape,), ((features, 1, 1),), 1, act, True), (x,), path)

    def add(self, a: Tensor, b: Tensor, *, act: str = "none", path: str = "") -> Tensor:
        """Element-wise sum of two tensors of one shape."""
        return self._append(plain_op("add", (a.shape, b.shape), (a.shape,), 1, act, False), (a, b), path)

    def concat(self, xs: Sequence[Tensor], *, path: str = "") -> Tensor:
        """Concatenation along the channels."""
        out = (sum(x.shape[0] for x in xs), *xs[0].shape[1:])
        return self._append(plain_op("concat", tuple(x.shape for x in xs), (out,), 1, "none", False), tuple(xs), path)

    def split(self, x: Tensor, channels: Sequence[int], *, path: str = "") -> tuple[Tensor, ...]:
        """Channel split into consecutive slices of the given channels."""
        outputs = tuple((c, *x.shape[1:]) for c in channels)
        first = self._append(plain_op("split", (x.shape,), outputs, 1, "none", False), (x,), path)
        return tuple(Tensor(first.node, i, shape) for i, shape in enumerate(outputs))

    def shuffle(self, x: Tensor, groups: int, *, path: str = "") -> Tensor:
        """Channel shuffle: (groups, c / groups) transposed (ShuffleNet, arXiv 1707.01083)."""
        return self._append(plain_op("shuffle", (x.shape,), (x.shape,), groups, "none", False), (x,), path)

    def max_pool(self, x: Tensor, *, kernel: int | Pair, stride: int | Pair, path: str = "") -> Tensor:
        """Max pooling; padding does not win."""
        op = window_op("maxpool", x.shape, x.shape[0], _pair(kernel), _pair(stride), 1, "none", False, False)
        return self._append(op, (x,), path)

    def avg_pool(self, x: Tensor, *, kernel: int | Pair, stride: int | Pair, path: str = "") -> Tensor:
        """Average pooling; padding is not counted."""
        op = window_op("avgpool", x.shape, x.shape[0], _pair(kernel), _pair(stride), 1, "none", False, False)
        return self._append(op, (x,), path)

    def global_pool(self, x: Tensor, *, path: str = "") -> Tensor:
        """Global average pooling; output (c, 1, 1)."""
        return self._append(plain_op("globalpool", (x.shape,), ((x.shape[0], 1, 1),), 1, "none", False), (x,), path)

    def scale(self, x: Tensor, s: Tensor, *, path: str = "") -> Tensor:
        """Each channel of x times its factor in s (c, 1, 1): the excitation of SE (arXiv 1709.01507)."""
        return self._append(plain_op("scale", (x.shape, s.shape), (x.shape,), 1, "none", False), (x, s), path)

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

    def places(self, output: Tensor | None = None) -> list[Place]:
        """Each node's op among its neighbours, in execution order; `output` (default: the last) is read outside."""
        readers: dict[tuple[int, int], list[int]] = {}
        for index, node in enumerate(self.nodes):
            for t in node.inputs:
                readers.setdefault((t.node, t.port), []).append(index)
        end = output or self.output
        readers.setdefault((end.node, end.port), []).append(len(self.nodes))
        only = {made: by[0] for made, by in readers.items() if len(by) == 1 and by[0] < len(self.nodes)}
        places = []
        for index, node in enumerate(self.nodes):
            reader = only.get((index, 0)) if len(node.op.outputs) == 1 else None
            makers = tuple(
                self.nodes[t.node].op if (t.node, t.port) in only and t.node >= 0 else None for t in node.inputs
            )
            places.append(Place(node.op, None if reader is None else self.nodes[reader].op, makers))
        return places

    @property
    def flops(self) -> int:
        """Multiply-accumulates at batch 1."""
        return sum(op.flops for op in self.ops)

    @property
    def params(self) -> int:
        """Trainable parameters."""
        return sum(op.params for op in self.ops)

    @property
    def peak_memory_bytes(self) -> int:
        """Largest number of bytes of activations alive at once, fp32 at batch 1, while the ops run in their order.

        While an op runs, what it reads, what it writes and every tensor needed later (or returned) is alive, the
        picture included; what is needed no more is freed when the op has run. Weights and the engine's workspace are
        not in it, and an engine may need less where it works in place or fuses ops.
        """
        return self.peak_bytes()

    def peak_bytes(self, output: Tensor | None = None) -> int:
        """The same of a stretch of network whose `output` (default: the last tensor) is needed after it."""
        end = output or self.output
        last: dict[tuple[int, int], int] = {}
        for index, node in enumerate(self.nodes):
            for t in node.inputs:
                last[t.node, t.port] = index
        last[end.node, end.port] = len(self.nodes)
        freed = [0] * (len(self.nodes) + 1)
        alive = peak = _bytes(self.input.shape) if (-1, 0) in last else 0
        if alive:
            freed[last[-1, 0]] += alive
        for index, node in enumerate(self.nodes):
            for port, shape in enumerate(node.op.outputs):
                size = _bytes(shape)
                alive += size
                freed[last.get((index, port), index)] += size
            peak = max(peak, alive)
            alive -= freed[index]
        return peak

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
                    raise InvalidOp(
                        f"{entry['path']}: wired to {shapes_text([t.shape for t in inputs])}, reads {op.key}"
                    )
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
