"""MobileNetV2 as what a network of any space is compared with: the encoding of it there, or else its own space's."""

from __future__ import annotations

from typing import Any

import numpy as np

from api.networks.stages import find_stages
from nas.errors import InvalidEncoding
from nas.graph import Graph, Node
from nas.space import Encoding, SearchSpace
from nas.spaces.families import build_mobilenet_v2, mobilenet_v2

_OWN = {"width": 1.0, "downsampling": "late"}
"""Genes of the space `mobilenetv2`."""
_SIDE = 224


def find_mobilenet_v2(space: SearchSpace) -> tuple[SearchSpace, Encoding]:
    """MobileNetV2 (arXiv 1801.04381) at width 1.0, with the classes and the largest input of a space.

    Args:
        space: searched for it by the names of its genes, those of `nas.spaces.staged` and `nas.spaces.families`.

    Returns:
        The space and its encoding where one of its networks is MobileNetV2, whatever its strides; else the space
        `mobilenetv2` with that input, which keeps more resolution in small pictures, and the encoding there.
    """
    largest = int(np.argmax([np.prod(shape) for shape in space.inputs]))
    classes = space.graph(np.zeros(len(space.genes))).output.shape[0]
    # Of smaller pictures the last stages would be one pixel, which stages cannot be told apart by.
    published = build_mobilenet_v2((space.inputs[largest][0], _SIDE, _SIDE), classes)
    values = _OWN | _stage_values(published)
    if space.input_gene is not None:
        gene = space.genes[space.input_gene]
        values[gene.name] = gene.choices[largest]
    try:
        row = space.encode(values)
    except InvalidEncoding:
        row = None
    if row is not None and _parts(space.graph(row)) == _parts(published):
        return space, row
    own = mobilenet_v2([space.inputs[largest]], classes)
    return own, own.encode(_OWN)


def _stage_values(graph: Graph) -> dict[str, Any]:
    """What the genes of a staged space (`s3.width`, …) would be."""
    values: dict[str, Any] = {}
    for stage in find_stages(graph):
        last = stage.blocks[-1]
        knobs: dict[str, Any] = {"expansion": last.expansion, "width": stage.output[0], "repeats": len(stage.blocks)}
        knobs |= {"kernel": last.kernel, "family": "mbconv", "se": False, "act": "relu6"}
        values |= {f"{stage.name}.{knob}": value for knob, value in knobs.items()}
    return values


def _parts(graph: Graph) -> list[tuple[Any, ...]]:
    """What makes a network itself, but for its strides and the size of its pictures."""
    return [_part(node) for node in graph.nodes]


def _part(node: Node) -> tuple[Any, ...]:
    op = node.op
    kernel = op.kernel if op.kind in ("conv", "depthwise") else None
    return node.path, op.kind, kernel, op.groups, op.inputs[0][0], op.outputs[0][0], op.act, op.norm, op.bias
