"""A latency table and networks -> milliseconds, with an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from latency.engines import Engine, get_engine
from latency.interval import has_intervals, log_bound, op_factor
from latency.table import LatencyTable
from nas.cost import CostModel
from nas.errors import MissingOps
from nas.graph import Graph, Place
from nas.space import SearchSpace


@dataclass(frozen=True)
class OpShare:
    """An op's part in a network's predicted latency.

    Attributes:
        path: of the op in the graph; `(network)` for what a network takes beyond its ops.
        key: of the op, as the graph names it.
        ms: predicted; 0 for an op that runs as part of another op's kernel.
        share: of the network's latency, in [0, 1].
        estimated: the op was not timed; its time follows from others of its kind.
    """

    path: str
    key: str
    ms: float
    share: float
    estimated: bool = False


@dataclass(frozen=True)
class Prediction:
    """A network's latency and how sure it is.

    Attributes:
        ms: predicted.
        low_ms, high_ms: the interval the measured latency lies in with probability `confidence`.
        confidence: of the interval; these three are None where the table tells no interval.
    """

    ms: float
    low_ms: float | None = None
    high_ms: float | None = None
    confidence: float | None = None


def latency_model(table: LatencyTable, space: SearchSpace, *, quantile: float | None = None) -> CostModel:
    """The latency of a space's networks in ms.

    Args:
        table: what was measured.
        space: whose networks are priced.
        quantile: None for the prediction; else the latency that the measured one stays below with this probability.

    Raises:
        MissingOps: listing every op of the space the table lacks.
        InvalidTable: a quantile is asked of a table that tells no intervals.
    """
    factor = table.scale if quantile is None else table.scale * math.exp(log_bound(table, quantile))
    return CostModel.compile(
        space,
        part_prices(table, get_engine(table.identity.engine), quantile),
        unit="ms",
        offset=factor * table.offset_ms,
        scale=factor,
        table=_name(table),
        fix=_fix(table, space.name),
    )


def latency_models(table: LatencyTable, space: SearchSpace) -> dict[str, CostModel]:
    """`latency_ms` and, where the table tells intervals, `low_ms` and `high_ms` of the 90 % interval.

    Raises:
        MissingOps: listing every op of the space the table lacks.
    """
    models = {"latency_ms": latency_model(table, space)}
    if has_intervals(table):
        models |= {name: latency_model(table, space, quantile=q) for name, q in (("low_ms", 0.05), ("high_ms", 0.95))}
    return models


def part_prices(table: LatencyTable, engine: Engine, quantile: float | None = None) -> Callable[[Place], float | None]:
    """Prices an op among its neighbours: its part in ms before the scale; None where the table lacks it."""
    terms = table.calibration.terms

    def price(place: Place) -> float | None:
        key = engine.kernel_key(place)
        if key is None:
            return 0.0
        entry = table.entries.get(key)
        if entry is None:
            return None
        part = terms.part_ms(place.op, entry.ms)
        return part if quantile is None or not entry.sigma else part * op_factor(entry.sigma, quantile)

    return price


def missing_kernels(table: LatencyTable, places: Iterable[Place]) -> int:
    """How many distinct kernels the table lacks of ops among their neighbours, a space's or a network's."""
    kernel_key = get_engine(table.identity.engine).kernel_key
    return len({key for place in places if (key := kernel_key(place)) is not None} - table.entries.keys())


def predict(table: LatencyTable, graph: Graph) -> float:
    """The latency of one network in ms.

    Raises:
        MissingOps: listing every op of the network the table lacks.
    """
    return sum(part.ms for part in breakdown(table, graph))


def predict_interval(table: LatencyTable, graph: Graph, confidence: float = 0.9) -> Prediction:
    """The latency of one network, with the interval its measured latency lies in with probability `confidence`.

    Raises:
        MissingOps: listing every op of the network the table lacks.
    """
    ms = predict(table, graph)
    if not has_intervals(table):
        return Prediction(ms)
    tail = (1 - confidence) / 2
    low, high = (_bound(table, graph, q) for q in (tail, 1 - tail))
    return Prediction(ms, low, high, confidence)


def breakdown(table: LatencyTable, graph: Graph) -> list[OpShare]:
    """Each op's predicted ms and share, in execution order; what belongs to no op comes last.

    Raises:
        MissingOps: listing every op of the network the table lacks.
    """
    engine = get_engine(table.identity.engine)
    price = part_prices(table, engine)
    prices = [price(place) for place in graph.places()]
    missing = {node.op.key for node, found in zip(graph.nodes, prices, strict=True) if found is None}
    if missing:
        raise MissingOps(sorted(missing), table=_name(table), fix=_fix(table, "the network's space"))
    keys = engine.kernel_keys(graph)
    guessed = [key is not None and table.entries[key].estimated for key in keys]
    parts = [
        (n.path, n.op.key, table.scale * (p or 0.0), g) for n, p, g in zip(graph.nodes, prices, guessed, strict=True)
    ]
    parts.append(("(network)", "", table.scale * table.offset_ms, False))
    total = sum(ms for _, _, ms, _ in parts) or 1.0
    return [OpShare(path, key, ms, ms / total, estimated) for path, key, ms, estimated in parts]


def _bound(table: LatencyTable, graph: Graph, quantile: float) -> float:
    price = part_prices(table, get_engine(table.identity.engine), quantile)
    parts = sum(price(place) or 0.0 for place in graph.places())
    return table.scale * math.exp(log_bound(table, quantile)) * (table.offset_ms + parts)


def _name(table: LatencyTable) -> str:
    return f"latency table {table.digest[:12]} of board {table.identity.board}"


def _fix(table: LatencyTable, space: str) -> str:
    return f"Profile {space} on it: nas profile {table.identity.board} --space …"
