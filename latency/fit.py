"""From raw passes to what a latency table holds: per-op times, and the terms that make networks of them.

Notations
    n: stamps of a network; passes: visits of it. Times are ns in the samples, ms in the results.
    T (passes, n + 1): intervals of a network with stamps; W (passes,): the whole network without them.
A stamp costs o: partly before it reads the clock, partly after. Summed over a network, T exceeds W by n * o; o is read
off networks that were run both ways: in a loop of its own a stamp is twice as fast. What o misses, the terms carry.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from latency.engines import Engine, EngineModel
from latency.passes import Pass
from latency.table import Calibration, Entry
from latency.terms import Terms, TermsFit, features
from nas.graph import Graph

_SHARE_OF_SESSION = 0.25
"""A runner that died early has too few visits to say much."""
TYPICAL_PERCENTILE = 10
"""Of a layer's samples: noise only ever adds, and the minimum of short layers is a matter of luck."""


@dataclass(frozen=True)
class Sampled:
    """A network with its samples.

    Attributes:
        graph: what it is.
        model: what was run.
        whole: (passes,) ns; empty if it was not run whole.
        timed: (passes, stamps + 1) ns; empty if it was not timed.
    """

    graph: Graph
    model: EngineModel
    whole: NDArray[np.float64]
    timed: NDArray[np.float64]


@dataclass(frozen=True)
class OpTimes:
    """What the networks with stamps tell.

    Attributes:
        entries: engine key -> time of the op.
        offset_ms: of a network beyond its ops: handing out the result.
        stamp_ms: what one stamp costs; taken off the entries.
    """

    entries: dict[str, Entry]
    offset_ms: float
    stamp_ms: float


def gather(passes: Sequence[Pass], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One network's samples in pass order: whole (passes,), timed (passes, stamps + 1), ns."""
    visits = [p.runs[name] for p in sorted(passes, key=lambda p: p.index) if name in p.runs]
    whole = [ns for v in visits for ns in v.whole]
    timed = [run for v in visits for run in v.timed]
    return np.array(whole, dtype=np.float64), np.array(timed, dtype=np.float64, ndmin=2)


def sample(passes: Sequence[Pass], graph: Graph, model: EngineModel, timed: str | None, whole: str | None) -> Sampled:
    """A network's samples, run with stamps under the name `timed` and whole under the name `whole`."""
    return Sampled(
        graph,
        model,
        gather(passes, whole)[0] if whole else np.empty(0),
        gather(passes, timed)[1] if timed else np.empty((0, 0)),
    )


def fit_ops(engine: Engine, cover: Sequence[Sampled], both: Sequence[Sampled]) -> OpTimes:
    """Per-op times from networks with stamps.

    Args:
        engine: gives the keys.
        cover: networks with stamps; their layers become the entries.
        both: networks run with and without stamps; they tell a stamp's cost.
    """
    estimates: dict[str, list[tuple[float, int]]] = defaultdict(list)
    samples: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    tails = []
    for s in cover:
        tails.append(_typical(s.timed[:, -1]))
        for key, at in _positions(engine, s).items():
            for stamps in at:
                times = s.timed[:, stamps]
                estimates[key].append((sum(_typical(t) for t in times.T), len(stamps)))
                samples[key].append(times.sum(axis=1))
    stamp_ns = max(0.0, float(np.median([_stamp_cost(s) for s in both]))) if both else 0.0
    # Between tiny layers a stamp is cheaper than on average; no layer may come out as nothing.
    shortest = min((float(np.median([ns / n for ns, n in found])) for found in estimates.values()), default=0.0)
    stamp_ns = min(stamp_ns, 0.9 * shortest)
    entries = {
        key: _entry([ns - n * stamp_ns for ns, n in found], np.concatenate(samples[key]) - found[0][1] * stamp_ns)
        for key, found in sorted(estimates.items())
    }
    return OpTimes(entries, float(np.median(tails)) / 1e6 if tails else 0.0, stamp_ns / 1e6)


def calibrate(
    engine: Engine,
    entries: Mapping[str, Entry],
    offset_ms: float,
    whole: Sequence[Sampled],
    prior: Terms | None = None,
) -> Calibration:
    """The terms, from whole networks all of whose ops have an entry."""
    rows = np.array([network_row(engine, entries, s.graph) for s in whole])
    truth = np.array([np.median(s.whole) for s in whole]) / 1e6
    fitted = TermsFit(rows, truth, offset_ms=offset_ms, prior=prior).solve()
    halves = [split_half(s.whole) for s in whole if len(s.whole) > 1]
    return Calibration(
        scale=1.0,
        networks=len(whole),
        error_pct=float(np.mean(np.abs(np.expm1(-fitted.residuals)))) * 100,
        split_half_pct=float(np.mean(halves)) * 100 if halves else None,
        terms=fitted.terms,
        residuals=tuple(float(r) for r in fitted.residuals),
    )


def network_row(engine: Engine, entries: Mapping[str, Entry], graph: Graph) -> NDArray[np.float64]:
    """(6,) a network's row of the terms' matrix."""
    row = np.zeros(len(astuple(Terms())))
    for key, op in zip(engine.kernel_keys(graph), graph.ops, strict=True):
        if key is not None:
            row += features(op, entries[key].ms)
    return row


def drift_between(passes: Iterable[Pass], names: Iterable[str]) -> float:
    """How far the medians of two measurements lie apart because the board's speed differs from runner to runner.

    Each is a median over several runners, so one that met a bad moment counts for little: the spread of the runners'
    common log ratios is a median absolute deviation. 0 where there was but one runner.

    Args:
        passes: as they were measured, the board's changes of speed still in their times.
        names: of networks run whole.

    Returns:
        The standard error of what all log times shift by.
    """
    times: dict[str, dict[int, list[int]]] = {name: defaultdict(list) for name in names}
    visits: Counter[int] = Counter()
    for p in passes:
        for name in times.keys() & p.runs.keys():
            times[name][p.session] += p.runs[name].whole
            visits[p.session] += len(p.runs[name].whole)
    usual = {name: np.median([ns for ran in of.values() for ns in ran]) for name, of in times.items() if of}
    enough = _SHARE_OF_SESSION * max(visits.values(), default=0)
    shifts = []
    for session in (s for s, count in visits.items() if count >= enough):
        ratios = [np.log(np.median(times[name][session]) / ns) for name, ns in usual.items() if session in times[name]]
        shifts.append(float(np.median(ratios)))
    if len(shifts) < 2:
        return 0.0
    spread = 1.4826 * float(np.median(np.abs(np.array(shifts) - np.median(shifts))))
    return spread * float(np.sqrt(2 / len(shifts)))


def _typical(times: NDArray[np.float64]) -> float:
    return float(np.percentile(times, TYPICAL_PERCENTILE))


def _stamp_cost(s: Sampled) -> float:
    """In ns per stamp."""
    return (_typical(s.timed.sum(axis=1)) - _typical(s.whole)) / len(s.model.stamps)


def _positions(engine: Engine, s: Sampled) -> Mapping[str, list[list[int]]]:
    """Engine key -> for each op of that key in the network, the stamps charged to it."""
    stamps_of: dict[str, list[int]] = defaultdict(list)
    for i, path in enumerate(s.model.stamps):
        stamps_of[path].append(i)
    at: dict[str, list[list[int]]] = defaultdict(list)
    for node, key in zip(s.graph.nodes, engine.kernel_keys(s.graph), strict=True):
        if key is not None:
            at[key].append(stamps_of[node.path])
    return at


def _entry(estimates: Sequence[float], samples: NDArray[np.float64]) -> Entry:
    middle = max(float(np.median(estimates)), 0.0)
    low, high = np.percentile(samples, (25, 75))
    return Entry(ms=middle / 1e6, spread=float(high - low) / max(middle, 1.0), samples=len(samples))


def split_half(times: NDArray[np.float64]) -> float:
    """How far the medians of every other run differ, as a share: the truth's own noise, which no predictor beats."""
    return float(abs(np.median(times[::2]) / np.median(times[1::2]) - 1))
