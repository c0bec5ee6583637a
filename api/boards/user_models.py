"""The wiring of a user's own models: which table prices one, and what a priced one comes to as JSON types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from api.boards.tables import board_tables
from api.errors import OptionError
from api.store import Store
from latency.importers import Imported
from latency.predict import missing_kernels
from latency.priced import Priced, inference_form
from latency.table import Identity, LatencyTable
from nas.graph import Graph, Shape


def parse_shape(text: str | None) -> Shape | None:
    """`3x224x224` -> (3, 224, 224).

    Raises:
        OptionError: it is no shape.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})[x,]([1-9]\d{0,4})[x,]([1-9]\d{0,4})", text.strip())
    if not found:
        raise OptionError(f"--shape {text!r} is no shape; write channels, height and width, e.g. 3x224x224")
    c, h, w = map(int, found.groups())
    return c, h, w


def find_model_table(store: Store, name: str, graph: Graph, identity: Identity | None = None) -> LatencyTable:
    """The table a user means: by digest (its beginning), or the board's that lacks least of the network.

    Where several lack as little, the newest is taken.

    Args:
        store: where tables are.
        name: a digest's beginning, or a board.
        graph: the network to be priced.
        identity: of the board as it runs now, if it runs: its tables come first.

    Raises:
        NotFound: there is no such table, or the board has none.
    """
    found = board_tables(store, name)
    if not found:
        return store.tables.get(name)
    tables = (store.tables.get(summary.digest) for summary in found)
    places = inference_form(graph).places()

    def lack(table: LatencyTable) -> tuple[bool, int]:
        return identity is not None and table.identity != identity, missing_kernels(table, places)

    return min(tables, key=lack)


def describe_model(file: Path, model: Imported) -> dict[str, Any]:
    """What a file holds."""
    graph = model.graph
    return {
        "file": str(file),
        "input": list(graph.input.shape),
        "op_count": len(graph.nodes),
        "flops": graph.flops,
        "params": graph.params,
        "params_unfolded": model.params_unfolded,
        "unsupported": [{"node": u.name, "type": u.kind, "reason": u.reason} for u in model.unsupported],
    }


def describe_price(table: LatencyTable, priced: Priced) -> dict[str, Any]:
    """What a table says of it."""
    whole = priced.prediction
    return {
        "table": table.digest,
        "board": table.identity.board,
        "latency_ms": None if whole is None else whole.ms,
        "low_ms": None if whole is None else whole.low_ms,
        "high_ms": None if whole is None else whole.high_ms,
        "confidence": None if whole is None else whole.confidence,
        "known_ms": priced.known_ms,
        "known_ops": sum(op.kernel is not None and op.ms is not None for op in priced.ops),
        "fused_ops": sum(op.kernel is None for op in priced.ops),
        "estimated_ops": sum(op.estimated for op in priced.ops),
        "missing": [{"path": op.path, "op": op.op, "kernel": op.kernel} for op in priced.missing],
    }


def format_prediction(about: dict[str, Any]) -> str:
    """`12.3 ms (90 %: 12.0 … 12.7 ms)` of what `describe_price` gives, for a network that is priced whole."""
    text = f"{about['latency_ms']:.4g} ms"
    if about["low_ms"] is not None:
        text += f" ({100 * about['confidence']:.0f} %: {about['low_ms']:.4g} … {about['high_ms']:.4g} ms)"
    if about["estimated_ops"]:
        text += f", {about['estimated_ops']} of {about['known_ops']} ops estimated"
    return text
