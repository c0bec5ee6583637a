"""What a network takes in memory: the size of its weights, and the most bytes of activations alive at once.

1 MB is 10^6 bytes. Both are fp32 at batch 1, whatever an engine computes in.
"""

from __future__ import annotations

import itertools

import numpy as np

from nas.cost import CostModel
from nas.graph import Graph, Op
from nas.space import SearchSpace

MEGABYTE = 1e6
_FLOAT = _FLAGS = 4  # bytes; ncnn writes flags before each op's weights


def weight_bytes(op: Op) -> int:
    """What an op adds to the exported weights: its norm is folded, so it has weights and a bias, and 4 bytes of flags.

    That is the size of ncnn's `.bin` to the byte, and of any other format's weights but for names and headers.
    """
    if not op.params:
        return 0
    c_out = op.outputs[0][0]
    weights = op.params - c_out * (2 * op.norm + op.bias)
    return _FLAGS + _FLOAT * (weights + c_out)


def model_mb(graph: Graph) -> float:
    """Size of a network's exported weights in MB."""
    return sum(weight_bytes(op) for op in graph.ops) / MEGABYTE


def peak_memory_mb(graph: Graph) -> float:
    """Most activations of a network alive at once in MB (`Graph.peak_memory_bytes`)."""
    return graph.peak_memory_bytes / MEGABYTE


def model_size_model(space: SearchSpace) -> CostModel:
    """`model_mb` of encodings."""
    return CostModel.compile(space, lambda place: weight_bytes(place.op), unit="MB", divisor=MEGABYTE)


def peak_memory_model(space: SearchSpace) -> CostModel:
    """`peak_memory_mb` of encodings.

    Sites are joined by one tensor, so that nothing else of a site is alive while another one runs: a network's peak is
    the largest of its sites'.
    """
    tables = []
    for s, site in enumerate(space.compiled.sites):
        of, reads = space.sites[s], site.reads
        values = [[of.reads[i].values[int(f)] for f in r.first] for i, r in enumerate(reads)]
        combos, table = list(itertools.product(*values)), np.zeros(site.rows)
        for row in range(site.rows):
            shape, choice = divmod(row, site.choices)
            if site.canonical[row] != choice:  # a smaller choice builds the same
                table[row] = table[shape * site.choices + site.canonical[row]]
                continue
            graph = Graph(site.shapes[shape])
            out = graph.input
            if site.indptr[row] < site.indptr[row + 1]:  # else it builds nothing, or no network has it
                out = space.build_site(of, graph, out, combos[choice])
            table[row] = graph.peak_bytes(out)
        tables.append(table)
    return CostModel(space, tables, unit="MB", divisor=MEGABYTE, combine="max")
