"""A Graph as people speak of it: stages of repeated blocks, read off the paths and shapes of its ops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from nas.graph import Graph, Node, Shape

MOST_STAGES = 14
"""A network whose paths tell more (a user's own, its layers just numbered) is divided where its resolution changes."""


@dataclass(frozen=True)
class Block:
    """Ops that belong together (`s2.b1.*`), in execution order.

    Attributes:
        name: what their paths begin with.
        first: number of its first node; the others follow it.
        nodes: its ops in their places.
    """

    name: str
    first: int
    nodes: tuple[Node, ...]

    @property
    def input(self) -> Shape:
        """(c, h, w) of what its first op reads."""
        return self.nodes[0].inputs[0].shape

    @property
    def output(self) -> Shape:
        """(c, h, w) of what its last op makes."""
        return self.nodes[-1].op.outputs[0]

    def has(self, *kinds: str) -> bool:
        """Whether it has an op of one of these kinds."""
        return any(node.op.kind in kinds for node in self.nodes)

    @property
    def kernel(self) -> int | None:
        """Side of its largest window; None if it has none."""
        return max((max(n.op.kernel) for n in self.nodes if n.op.kind in ("conv", "depthwise")), default=None)

    @property
    def expansion(self) -> int | None:
        """Channels of an inverted residual's depthwise convolution over those of the block's input; else None."""
        if self.has("shuffle", "concat"):
            return None
        hidden = next((n.op.outputs[0][0] for n in self.nodes if n.op.kind == "depthwise"), 0)
        return hidden // self.input[0] if hidden and hidden % self.input[0] == 0 else None


@dataclass(frozen=True)
class Stage:
    """Consecutive blocks of one name."""

    name: str
    blocks: tuple[Block, ...]

    @property
    def nodes(self) -> range:
        """Numbers of its nodes."""
        last = self.blocks[-1]
        return range(self.blocks[0].first, last.first + len(last.nodes))

    @property
    def output(self) -> Shape:
        """(c, h, w) of what it passes on."""
        return self.blocks[-1].output

    @property
    def label(self) -> str:
        """What its blocks are: ``k5 e6``, ``k3 shuffle``, ``3×3``; several values as ``k3/5``."""
        if self.output[1:] == (1, 1):
            return ""
        if len(self.blocks) == 1 and len(self.blocks[0].nodes) == 1:
            return f"{self.blocks[0].kernel}×{self.blocks[0].kernel}" if self.blocks[0].kernel else ""
        parts = [_values("k", (b.kernel for b in self.blocks)), _values("e", (b.expansion for b in self.blocks))]
        parts += ["SE"] if any(b.has("scale") for b in self.blocks) else []
        parts += ["shuffle"] if any(b.has("shuffle") for b in self.blocks) else []
        return " ".join(part for part in parts if part)


def find_stages(graph: Graph) -> list[Stage]:
    """The stages of a network, in execution order; each of its nodes is in one block of one stage."""
    stages = _divide(graph, lambda node: node.path.split(".")[0])
    if len(stages) > MOST_STAGES:
        stages = _divide(graph, lambda node: "{1}×{2}".format(*node.op.outputs[0]))
    return _one_head(stages)


def _divide(graph: Graph, stage_of: Callable[[Node], str]) -> list[Stage]:
    numbered = list(enumerate(graph.nodes))
    stages = []
    for name, members in groupby(numbered, key=lambda pair: stage_of(pair[1])):
        blocks = []
        for block, ops in groupby(members, key=lambda pair: _block_of(pair[1].path)):
            held = list(ops)
            blocks.append(Block(block, held[0][0], tuple(node for _, node in held)))
        stages.append(Stage(name, tuple(blocks)))
    return stages


def _block_of(path: str) -> str:
    parts = path.split(".")
    return ".".join(parts[:2]) if len(parts) > 2 else parts[0]


def _one_head(stages: Sequence[Stage]) -> list[Stage]:
    """What comes after the last picture (pooling, classifier) as one stage of one block."""
    end = len(stages)
    while end and all(b.output[1:] == (1, 1) for b in stages[end - 1].blocks):
        end -= 1
    if len(stages) - end < 2:
        return list(stages)
    blocks = [b for stage in stages[end:] for b in stage.blocks]
    head = Block(stages[-1].name, blocks[0].first, tuple(n for b in blocks for n in b.nodes))
    return [*stages[:end], Stage(head.name, (head,))]


def _values(letter: str, values: Iterable[int | None]) -> str:
    distinct = sorted({value for value in values if value is not None})
    return letter + "/".join(map(str, distinct)) if distinct else ""
