"""A latency table and networks -> milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

from latency.engines import Engine, get_engine
from latency.table import LatencyTable
from nas.cost import CostModel
from nas.errors import MissingOps
from nas.graph import Graph, Op
from nas.space import SearchSpace


@dataclass(frozen=True)
class OpShare:
    """An op's part in a network's predicted latency.

    Attributes:
        path: of the op in the graph; `(network)` for what a network takes beyond its ops.
        key: of the op, as the graph names it.
        ms: predicted.
        share: of the network's latency, in [0, 1].
    """

    path: str
    key: str
    ms: float
    share: float


def latency_model(table: LatencyTable, space: SearchSpace) -> CostModel:
    """The latency of a space's networks in ms.

    Raises:
        MissingOps: listing every op of the space the table lacks.
    """
    engine = get_engine(table.identity.engine)
    return CostModel.compile(
        space,
        lambda op: _price(table, engine, op),
        unit="ms",
        offset=table.scale * table.offset_ms,
        scale=table.scale,
        table=_name(table),
        fix=_fix(table, space.name),
    )


def predict(table: LatencyTable, graph: Graph) -> float:
    """The latency of one network in ms.

    Raises:
        MissingOps: listing every op of the network the table lacks.
    """
    return sum(part.ms for part in breakdown(table, graph))


def breakdown(table: LatencyTable, graph: Graph) -> list[OpShare]:
    """Each op's predicted ms and share, in execution order; what belongs to no op comes last.

    Raises:
        MissingOps: listing every op of the network the table lacks.
    """
    engine = get_engine(table.identity.engine)
    prices = [_price(table, engine, op) for op in graph.ops]
    missing = {node.op.key for node, price in zip(graph.nodes, prices, strict=True) if price is None}
    if missing:
        raise MissingOps(sorted(missing), table=_name(table), fix=_fix(table, "the network's space"))
    parts = [(n.path, n.op.key, table.scale * (p or 0.0)) for n, p in zip(graph.nodes, prices, strict=True)]
    parts.append(("(network)", "", table.scale * table.offset_ms))
    total = sum(ms for _, _, ms in parts) or 1.0
    return [OpShare(path, key, ms, ms / total) for path, key, ms in parts]


def _price(table: LatencyTable, engine: Engine, op: Op) -> float | None:
    entry = table.entries.get(engine.engine_key(op))
    return entry.ms if entry else None


def _name(table: LatencyTable) -> str:
    return f"latency table {table.digest[:12]} of board {table.identity.board}"


def _fix(table: LatencyTable, space: str) -> str:
    return f"Profile {space} on it: nas profile {table.identity.board} --space …"
