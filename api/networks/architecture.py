"""What a network is, as JSON: its stages in the words of the field, and every op with its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from api.networks.stages import Block, Stage, find_stages
from latency.engines import get_engine
from latency.predict import breakdown, part_prices, predict_interval
from nas import memory
from nas.errors import MissingOps
from nas.graph import Graph, Node, Op

if TYPE_CHECKING:
    from latency.table import LatencyTable
    from nas.space import Encoding, SearchSpace


@dataclass(frozen=True)
class _OpTime:
    """What a table says of an op in its place."""

    predicted_ms: float
    share: float | None
    measured_ms: float | None
    estimated: bool


def describe_network(
    space: SearchSpace, row: Encoding, table: LatencyTable | None = None, *, partial: bool = False
) -> dict[str, Any]:
    """A network of a space as JSON types.

    Args:
        space: decodes the row.
        row: (genes,).
        table: prices its ops.
        partial: ops that the table lacks have no `predicted_ms`, and then nor have their stages and the network.

    Returns:
        The fields of `api.schemas.trials.NetworkOut`. With a table `totals.predicted_ms` is the network's
        predicted latency: the sum of the ops' `predicted_ms` and `overhead_ms`.

    Raises:
        InvalidEncoding: the row is not of the space.
        MissingOps: the table lacks ops of the network, and `partial` is not allowed.
    """
    graph, genes = space.graph(row), space.decode(row)
    totals: dict[str, Any] = {
        "flops": graph.flops,
        "params": graph.params,
        "model_mb": memory.model_mb(graph),
        "peak_memory_mb": memory.peak_memory_mb(graph),
    }
    times: Sequence[_OpTime | None] = [None] * len(graph.nodes)
    if table is not None:
        try:
            times, overhead = _times(graph, table)
        except MissingOps:
            if not partial:
                raise
            times = _known_times(graph, table)
        else:
            told = predict_interval(table, graph)
            totals |= {"predicted_ms": told.ms, "overhead_ms": overhead, "low_ms": told.low_ms, "high_ms": told.high_ms}
    return {
        "space": space.name,
        "encoding": ",".join(map(str, row)),
        "genes": genes,
        "input": list(graph.input.shape),
        "outputs": list(graph.output.shape),
        "stages": [_describe_stage(stage, genes, graph, times) for stage in find_stages(graph)],
        "ops": [_describe_op(node, time) for node, time in zip(graph.nodes, times, strict=True)],
        "totals": totals,
        "board": None if table is None else table.identity.board,
        "table": None if table is None else table.digest,
    }


def untrained_onnx(graph: Graph, seed: int = 0) -> bytes:
    """A network before its training as an ONNX file: norms folded, so each weighted op has a weight and a bias.

    Weights are drawn as He et al. do (arXiv 1502.01852): normal with variance 2 / fan-in, so that the values neither
    die out nor grow on their way through a network of folded norms; biases are 0.

    Args:
        graph: the network.
        seed: of the weights.
    """
    from latency.engines.onnx import to_onnx  # heavy

    rng = np.random.default_rng(seed)
    weights = {}
    for node in graph.nodes:
        if node.op.params:
            shape = _weight_shape(node.op)
            drawn = rng.standard_normal(shape, dtype=np.float32) * np.float32((2 / np.prod(shape[1:])) ** 0.5)
            weights[node.path] = (drawn, np.zeros(shape[0], dtype=np.float32))
    return bytes(to_onnx(graph, weights).SerializeToString())


def _weight_shape(op: Op) -> tuple[int, ...]:
    """(out, in / groups, kh, kw), or (out, in) of a linear layer."""
    (c, h, w), (c_out, _, _) = op.inputs[0], op.outputs[0]
    return (c_out, c * h * w) if op.kind == "linear" else (c_out, c // op.groups, *op.kernel)


def _times(graph: Graph, table: LatencyTable) -> tuple[list[_OpTime], float]:
    """Per op what the table says of it; and the ms of what belongs to no op."""
    *ops, overhead = breakdown(table, graph)
    times = []
    for part, key in zip(ops, get_engine(table.identity.engine).kernel_keys(graph), strict=True):
        measured = None if key is None or part.estimated else table.entries[key].ms
        times.append(_OpTime(part.ms, part.share, measured, part.estimated))
    return times, overhead.ms


def _known_times(graph: Graph, table: LatencyTable) -> list[_OpTime | None]:
    """Per op what the table says of it, None where it lacks it; shares of a sum that is not known are not told."""
    engine = get_engine(table.identity.engine)
    price, times = part_prices(table, engine), list[_OpTime | None]()
    for place, key in zip(graph.places(), engine.kernel_keys(graph), strict=True):
        part = price(place)
        entry = None if key is None else table.entries.get(key)
        measured = None if entry is None or entry.estimated else entry.ms
        known = None if part is None else _OpTime(table.scale * part, None, measured, bool(entry and entry.estimated))
        times.append(known)
    return times


def _describe_op(node: Node, time: _OpTime | None) -> dict[str, Any]:
    op = node.op
    return {
        "path": node.path,
        "kind": op.kind,
        "reads": [[t.node, t.port] for t in node.inputs],
        "inputs": [list(shape) for shape in op.inputs],
        "outputs": [list(shape) for shape in op.outputs],
        "kernel": list(op.kernel),
        "stride": list(op.stride),
        "groups": op.groups,
        "act": op.act,
        "norm": op.norm,
        "bias": op.bias,
        "flops": op.flops,
        "params": op.params,
        **({} if time is None else vars(time)),
    }


def _describe_stage(
    stage: Stage, genes: Mapping[str, Any], graph: Graph, times: Sequence[_OpTime | None]
) -> dict[str, Any]:
    width, *resolution = stage.output
    own = {name: value for name, value in genes.items() if name.partition(".")[0] == stage.name}
    ms = [time.predicted_ms for n in stage.nodes if (time := times[n]) is not None]
    whole = len(ms) == len(stage.nodes)
    return {
        "name": stage.name,
        "label": stage.label,
        "genes": own,
        "width": width,
        "resolution": resolution,
        "repeats": len(stage.blocks),
        "blocks": [_describe_block(block) for block in stage.blocks],
        "flops": sum(graph.nodes[n].op.flops for n in stage.nodes),
        "params": sum(graph.nodes[n].op.params for n in stage.nodes),
        "predicted_ms": sum(ms) if whole else None,
    }


def _describe_block(block: Block) -> dict[str, Any]:
    return {
        "name": block.name,
        "input": list(block.input),
        "output": list(block.output),
        "kernel": block.kernel,
        "expansion": block.expansion,
        "residual": block.has("add"),
        "squeeze_excite": block.has("scale"),
        "ops": [node.path for node in block.nodes],
    }
