"""A user's own model priced from a latency table: what of it is known, what the table lacks, what no Op expresses."""

from __future__ import annotations

from dataclasses import dataclass, replace

from latency.engines import get_engine
from latency.importers import Imported, Unsupported
from latency.predict import Prediction, part_prices, predict_interval
from latency.table import LatencyTable
from nas.graph import Graph, Node


@dataclass(frozen=True)
class PricedOp:
    """One op of the model.

    Attributes:
        path: as the model's file names it.
        op: its key.
        kernel: the key of the table's entry; None where it runs as part of another op's kernel.
        ms: predicted; None if the table has no such entry.
        estimated: the entry was not timed but follows from others of its kind.
    """

    path: str
    op: str
    kernel: str | None
    ms: float | None
    estimated: bool


@dataclass(frozen=True)
class Priced:
    """A model and a table.

    Attributes:
        ops: each op, in execution order.
        unsupported: what the model has beyond them.
        known_ms: of the ops that have a price, and of what a network takes beyond its ops.
        prediction: of the whole network; None if anything is missing.
    """

    ops: tuple[PricedOp, ...]
    unsupported: tuple[Unsupported, ...]
    known_ms: float
    prediction: Prediction | None

    @property
    def missing(self) -> list[PricedOp]:
        """The ops the table lacks."""
        return [op for op in self.ops if op.ms is None]


def inference_form(graph: Graph) -> Graph:
    """The graph as every engine of ours runs it: norms folded, and a bias in every weighted op."""
    out = Graph(graph.input.shape)
    for node in graph.nodes:
        weighted = node.op.kind in ("conv", "depthwise", "linear")
        op = replace(node.op, norm=False, bias=True) if weighted else node.op
        out.nodes.append(Node(op, node.inputs, node.path))
    return out


def price(table: LatencyTable, model: Imported) -> Priced:
    """Prices what can be priced, by the same rules as the networks of a space."""
    engine, graph = get_engine(table.identity.engine), inference_form(model.graph)
    part = part_prices(table, engine)
    ops: list[PricedOp] = []
    places, keys = graph.places(), engine.kernel_keys(graph)
    for node, place, key in zip(graph.nodes, places, keys, strict=True):
        ms, entry = part(place), table.entries.get(key or "")
        scaled = None if ms is None else table.scale * ms
        ops.append(PricedOp(node.path, node.op.key, key, scaled, entry is not None and entry.estimated))
    known_ms = sum(op.ms or 0.0 for op in ops) + table.scale * table.offset_ms
    whole = model.complete and all(op.ms is not None for op in ops)
    return Priced(tuple(ops), model.unsupported, known_ms, predict_interval(table, graph) if whole else None)
