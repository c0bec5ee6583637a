"""Predicted beside measured: whole networks really run on the board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from latency.board import Board
from latency.detrend import detrend
from latency.engines import get_engine
from latency.errors import InvalidTable, RunnerCrashed
from latency.fit import gather, split_half
from latency.passes import Network, ProgressSink
from latency.predict import Prediction, predict_interval
from latency.profiler import network_name, require_dtype, session_identity
from latency.rounds import Rounds
from latency.table import LatencyTable
from latency.visits import OpenSession
from nas.graph import Graph

CONFIDENCE = 0.9
"""Of the intervals told beside a prediction."""


@dataclass(frozen=True)
class Timed:
    """One network on the board.

    Attributes:
        measured_ms: median of its interleaved runs, each after one that does not count; the board's changes of speed
            meanwhile are taken out where there are networks enough to see them.
        p95_ms: 95th percentile of the runs as they were.
        noise_pct: how far the medians of every other run differ; None if there was but one run.
        runs: how many.
    """

    measured_ms: float
    p95_ms: float
    noise_pct: float | None
    runs: int


@dataclass(frozen=True)
class Verified(Timed):
    """One network on the board, beside what was predicted.

    Attributes:
        predicted_ms: by the table.
        low_ms, high_ms: the 90 % interval of the prediction; None where the table tells none.
    """

    predicted_ms: float
    low_ms: float | None
    high_ms: float | None

    @property
    def error_pct(self) -> float:
        """Predicted against measured; positive: predicted too slow."""
        return (self.predicted_ms / self.measured_ms - 1) * 100

    @property
    def inside(self) -> bool | None:
        """Whether the measured latency lies in the interval."""
        if self.low_ms is None or self.high_ms is None:
            return None
        return self.low_ms <= self.measured_ms <= self.high_ms


def verify(
    board: Board,
    open_session: OpenSession,
    graphs: Sequence[Graph],
    table: LatencyTable,
    *,
    passes: int | None = None,
    seed: int = 0,
    on_progress: ProgressSink | None = None,
) -> list[Verified]:
    """Measures networks in shuffled, interleaved passes.

    Args:
        board: what to measure on, and how.
        open_session: starts a runner there; called again when the runner or the link went away.
        graphs: the networks; equal ones are run once.
        table: what to compare with.
        passes: runs of each network; None chooses (3 where time is deterministic, else 48 to 192).
        seed: of the shuffles.
        on_progress: called after each visit of a network.

    Returns:
        One result per graph, in their order.

    Raises:
        MissingOps: the table lacks ops of the networks; nothing is run then.
        InvalidTable: the board runs in another way than the table was made for; says what differs.
        RunnerCrashed: a network could not be run.
    """
    predicted = [predict_interval(table, graph, CONFIDENCE) for graph in graphs]
    timed = time_graphs(board, open_session, graphs, table=table, passes=passes, seed=seed, on_progress=on_progress)
    return [_beside(p, t) for p, t in zip(predicted, timed, strict=True)]


def time_graphs(
    board: Board,
    open_session: OpenSession,
    graphs: Sequence[Graph],
    *,
    table: LatencyTable | None = None,
    passes: int | None = None,
    seed: int = 0,
    on_progress: ProgressSink | None = None,
) -> list[Timed]:
    """As `verify`, of networks whose ops no table needs to have.

    Raises:
        InvalidTable: the board runs in another way than `table`, if one is given, was made for.
        RunnerCrashed: a network could not be run.
    """
    engine = get_engine(board.engine)
    require_dtype(board, engine)
    models = [engine.build(graph) for graph in graphs]
    names = [network_name(model) for model in models]
    networks = {n: Network(n, m, timed=False) for n, m in zip(names, models, strict=True)}
    rounds = Rounds(open_session, on_progress=on_progress, seed=seed, threads=board.threads)
    try:
        differences = [] if table is None else table.identity.differences(session_identity(rounds.session, board))
        if table is not None and differences:
            raise InvalidTable(
                f"table {table.digest[:12]} was not made for board {board.name} as it runs now "
                f"(table, now: {'; '.join(differences)}); restore that, or profile again"
            )
        rounds.collect(list(networks.values()), passes)
    finally:
        rounds.close()
    if rounds.skipped:
        raise RunnerCrashed(
            f"{board.name}: {len(rounds.skipped)} network(s) could not be run: {'; '.join(rounds.skipped.values())}"
        )
    steady = detrend(rounds.passes)
    return [_timed(gather(steady, n)[0] / 1e6, gather(rounds.passes, n)[0] / 1e6) for n in names]


def common_scale(results: Sequence[Verified]) -> float:
    """The factor that the measured latencies have in common against the predicted ones: drift since the profile."""
    return float(np.median([r.measured_ms / r.predicted_ms for r in results]))


def _timed(runs_ms: NDArray[np.float64], raw_ms: NDArray[np.float64]) -> Timed:
    return Timed(
        measured_ms=float(np.median(runs_ms)),
        p95_ms=float(np.percentile(raw_ms, 95)),
        noise_pct=split_half(runs_ms) * 100 if len(runs_ms) > 1 else None,
        runs=len(runs_ms),
    )


def with_prediction(table: LatencyTable, graph: Graph, timed: Timed) -> Verified:
    """What was measured beside what a table says. Raises MissingOps."""
    return _beside(predict_interval(table, graph, CONFIDENCE), timed)


def _beside(predicted: Prediction, timed: Timed) -> Verified:
    return Verified(**asdict(timed), predicted_ms=predicted.ms, low_ms=predicted.low_ms, high_ms=predicted.high_ms)
