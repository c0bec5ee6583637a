"""A network in the making: ops as a file lists them, and the activations between them, which an Op has inside.

Files write an activation as one node or as several (swish is x · sigmoid(x), hswish is x · relu6(x + 3) / 6). So a name
in a file stands for a `Value`: the tensor of an op seen through a *form*, which is an activation of `nas.graph` or a
step on the way to one. Whoever reads a Value decides nothing; only when the file is read to its end is it known whether
all readers of an op's tensor see it through the same form, and then that form becomes the op's activation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nas.graph import ACTIVATIONS, Graph, Node, Op, Shape, Tensor

_ACTIVE = ("conv", "depthwise", "linear", "add", "scale", "maxpool", "avgpool")


@dataclass(frozen=True)
class Unsupported:
    """What a Graph cannot express.

    Attributes:
        name: of the node, as the file calls it.
        kind: of the node, as the file calls it.
        reason: why, in a few words.
    """

    name: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}): {self.reason}"


@dataclass(frozen=True)
class Imported:
    """A model file as a Graph.

    Attributes:
        graph: every op that could be expressed; the tensors that others make come in as further inputs of the network
            (node -1, ports from 1 on).
        unsupported: what could not be expressed; the graph is the whole network only if it is empty.
        outputs: how many tensors the network returns; a Graph tells of one.
    """

    graph: Graph
    unsupported: tuple[Unsupported, ...]
    outputs: int

    @property
    def complete(self) -> bool:
        """Whether the graph is the whole network."""
        return not self.unsupported

    @property
    def params_unfolded(self) -> int:
        """Parameters of the trainable form, if each convolution's bias is a folded norm (γ and β)."""
        return sum((_unfolded(op) if op.bias else op).params for op in self.graph.ops)


def _unfolded(op: Op) -> Op:
    return replace(op, norm=True, bias=False) if op.kind in ("conv", "depthwise") else op


class Refused(Exception):
    """A node cannot be expressed; its text is the reason."""


@dataclass(frozen=True)
class Value:
    """What a name in a file stands for.

    Attributes:
        node, port: the op's tensor; -1 for the network's input and, with ports from 1 on, for foreign tensors.
        shape: (c, h, w) of that tensor.
        dims: as the file sees it, without the batch: (c, h, w), or (c·h·w,) where it is flattened, …
        form: the activation it is seen through, or a step on the way to one; `none` for none.
        maker: the file's name of the node that made the form.
        turned: the groups of a channel shuffle that is half done; 0 elsewhere.
    """

    node: int
    port: int
    shape: Shape
    dims: tuple[int, ...]
    form: str = "none"
    maker: str = ""
    turned: int = 0

    @property
    def flat(self) -> bool:
        """Whether it is seen as a vector."""
        return len(self.dims) == 1

    def same_tensor(self, other: Value) -> bool:
        """Whether both see the same tensor in the same arrangement."""
        return (self.node, self.port, self.dims, self.turned) == (other.node, other.port, other.dims, other.turned)


class Draft:
    """Collects the ops of one file.

    Args:
        shape: (c, h, w) of the picture.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.ops: list[Op] = []
        self.inputs: list[tuple[Value, ...]] = []
        self.unsupported: list[Unsupported] = []
        self._paths: list[str] = []
        self._taken: set[str] = set()
        self._foreign_reads: list[Value] = []
        self._foreign_tensors = 0

    @property
    def picture(self) -> Value:
        """The network's input."""
        return Value(-1, 0, self.shape, self.shape)

    def op(self, op: Op, inputs: Iterable[Value], name: str, *, flat: bool = False) -> list[Value]:
        """Appends an op, its activation still unknown; what it makes."""
        base = re.sub(r"\s+", "_", name) or f"op{len(self.ops)}"
        path, count = base, 1
        while path in self._taken:
            count += 1
            path = f"{base}#{count}"
        self._taken.add(path)
        self._paths.append(path)
        self.ops.append(op)
        self.inputs.append(tuple(inputs))
        at = len(self.ops) - 1
        return [Value(at, port, s, (s[0],) if flat else s) for port, s in enumerate(op.outputs)]

    def foreign(
        self, why: Unsupported, inputs: Iterable[Value], dims: Sequence[tuple[int, ...] | None]
    ) -> list[Value | None]:
        """Notes a node that cannot be expressed; what it makes, where the dimensions (without the batch) are known."""
        self.unsupported.append(why)
        self._foreign_reads += inputs
        made: list[Value | None] = []
        for size in dims:
            if size is None or len(size) not in (1, 3) or min(size) < 1:
                made.append(None)
                continue
            self._foreign_tensors += 1
            shape = (size[0], 1, 1) if len(size) == 1 else (size[0], size[1], size[2])
            made.append(Value(-1, self._foreign_tensors, shape, tuple(size)))
        return made

    def finish(self, outputs: Sequence[Value]) -> Imported:
        """The Graph of what the outputs need; activations that are no op's own end in `unsupported`."""
        live = self._live(outputs)
        seen: dict[tuple[int, int], dict[str, str]] = {}
        for value in (*(v for i in live for v in self.inputs[i]), *self._foreign_reads, *outputs):
            seen.setdefault((value.node, value.port), {}).setdefault(value.form, value.maker)
        unsupported = list(self.unsupported)
        acts: dict[int, str] = {}
        for (node, port), forms in seen.items():
            fits = node >= 0 and port == 0 and self.ops[node].kind in _ACTIVE and len(forms) == 1
            for form, maker in forms.items():
                if form == "none":
                    continue
                if form not in ACTIVATIONS:
                    unsupported.append(Unsupported(maker, form, "a part of an activation that lightnas does not know"))
                elif fits:
                    acts[node] = form
                else:
                    behind = "an op that is also read without it" if len(forms) > 1 else "what has no activation inside"
                    unsupported.append(Unsupported(maker, form, f"an activation behind {behind}"))
        graph = Graph(self.shape)
        index = {old: new for new, old in enumerate(live)}
        for old in live:
            tensors = tuple(Tensor(index.get(v.node, -1), v.port, v.shape) for v in self.inputs[old])
            graph.nodes.append(Node(replace(self.ops[old], act=acts.get(old, "none")), tensors, self._paths[old]))
        return Imported(graph, tuple(unsupported), len(outputs))

    def _live(self, outputs: Sequence[Value]) -> list[int]:
        """The ops that some output or foreign node needs, in the order of the file."""
        wanted = {v.node for v in (*outputs, *self._foreign_reads)}
        for at in range(len(self.ops) - 1, -1, -1):
            if at in wanted:
                wanted.update(v.node for v in self.inputs[at])
        return [at for at in range(len(self.ops)) if at in wanted]
