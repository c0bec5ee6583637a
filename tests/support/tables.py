"""A latency table without a board."""

from __future__ import annotations

from latency.engines import get_engine
from latency.table import Calibration, Entry, Identity, LatencyTable, Provenance, SpaceMark
from nas.space import SearchSpace


def make_up_table(space: SearchSpace, board: str = "here", residuals: tuple[float, ...] = ()) -> LatencyTable:
    """A latency table of a space made up from FLOPs; with residuals it has intervals."""
    engine = get_engine("ncnn")
    entries = {engine.engine_key(op): Entry(1e-3 + op.flops / 1e9, 0.01, 10) for op in space.ops()}
    return LatencyTable(
        Identity(board, "a model", "x86_64", "ncnn", "1.0", "fp32", 1, (0,), ""),
        entries,
        0.01,
        Calibration(1.1, 8, 3.0, 1.0, residuals=residuals),
        Provenance("2026-01-01T00:00:00+00:00", "", (SpaceMark(space.name, space.digest),), 5, 10, 1.0, "0" * 64),
    )
