"""From raw passes to what a latency table holds: per-op times, the stamps' own cost, one scale.

Notations
    n: stamps of a network; passes: visits of it. Times are ns in the samples, ms in the results.
    T (passes, n + 1): intervals of a network with stamps; W (passes,): the whole network without them.
A stamp costs o: partly before it reads the clock, partly after. Summed over a network, T exceeds W by n * o; o is read
off the whole networks, where both are measured in the same visit: in a loop of its own a stamp is twice as fast.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency.engines import Engine, EngineModel
from latency.rounds import Pass
from latency.table import Calibration, Entry
from nas.graph import Graph

SMALL_SIDE_PX = 32
"""Up to this picture size layers are so short that their minimum is a matter of luck; the 10th percentile is not."""


@dataclass(frozen=True)
class Sampled:
    """A network with its samples.

    Attributes:
        graph: what it is.
        model: what was run.
        whole: (passes,) ns; empty if it was not run whole.
        timed: (passes, stamps + 1) ns; (1, 0) if it was not timed.
    """

    graph: Graph
    model: EngineModel
    whole: NDArray[np.float64]
    timed: NDArray[np.float64]


@dataclass(frozen=True)
class Fitted:
    """What a fit found; times before `calibration.scale` is applied.

    Attributes:
        entries: engine key -> time of the op.
        offset_ms: of a whole network beyond its ops: handing out the result.
        stamp_ms: what one stamp costs.
        calibration: the scale to the median of whole networks, and how well it does.
    """

    entries: dict[str, Entry]
    offset_ms: float
    stamp_ms: float
    calibration: Calibration


def gather(passes: Sequence[Pass], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One network's samples in pass order: whole (passes,), timed (passes, stamps + 1), ns."""
    visits = [p.runs[name] for p in sorted(passes, key=lambda p: p.index) if name in p.runs]
    whole = [ns for v in visits for ns in v.whole]
    timed = [run for v in visits for run in v.timed]
    return np.array(whole, dtype=np.float64), np.array(timed, dtype=np.float64, ndmin=2)


def fit(engine: Engine, cover: Sequence[Sampled], whole: Sequence[Sampled]) -> Fitted:
    """Per-op times from the cover networks, the stamps' cost and the scale from the whole ones.

    Args:
        engine: gives the keys.
        cover: networks with stamps; every op is in one of them.
        whole: networks run both ways, at least two; their layers do not enter the entries.
    """
    stamp_ns = max(0.0, float(np.median([_stamp_cost(s) for s in whole])))
    estimates: dict[str, list[float]] = defaultdict(list)
    samples: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    tails = []
    for s in cover:
        tails.append(_typical(s.timed[:, -1], s))
        for key, at in _positions(engine, s).items():
            for stamps in at:
                times = s.timed[:, stamps]
                estimates[key].append(sum(_typical(t, s) for t in times.T) - stamp_ns * len(stamps))
                samples[key].append(times.sum(axis=1) - stamp_ns * len(stamps))
    entries = {key: _entry(estimates[key], np.concatenate(samples[key])) for key in sorted(estimates)}
    offset_ms = float(np.median(tails)) / 1e6
    prices = {key: entry.ms for key, entry in entries.items()}
    return Fitted(entries, offset_ms, stamp_ns / 1e6, _calibrate(engine, prices, offset_ms, whole))


def _typical(times: NDArray[np.float64], s: Sampled) -> float:
    """A layer's time in one network: the part of the distribution that noise does not reach."""
    return float(np.percentile(times, 10)) if max(s.graph.input.shape[1:]) <= SMALL_SIDE_PX else float(times.min())


def _stamp_cost(s: Sampled) -> float:
    """Low percentiles, because noise only ever adds; ns per stamp."""
    return float(np.percentile(s.timed.sum(axis=1), 10) - np.percentile(s.whole, 10)) / len(s.model.stamps)


def _positions(engine: Engine, s: Sampled) -> Mapping[str, list[list[int]]]:
    """Engine key -> for each op of that key in the network, the stamps charged to it."""
    stamps_of: dict[str, list[int]] = defaultdict(list)
    for i, path in enumerate(s.model.stamps):
        stamps_of[path].append(i)
    at: dict[str, list[list[int]]] = defaultdict(list)
    for node in s.graph.nodes:
        at[engine.engine_key(node.op)].append(stamps_of[node.path])
    return at


def _entry(estimates: Sequence[float], samples: NDArray[np.float64]) -> Entry:
    middle = max(float(np.median(estimates)), 0.0)
    low, high = np.percentile(samples, (25, 75))
    return Entry(ms=middle / 1e6, spread=float(high - low) / max(middle, 1.0), samples=len(samples))


def _calibrate(engine: Engine, prices: Mapping[str, float], offset_ms: float, whole: Sequence[Sampled]) -> Calibration:
    raw = np.array([offset_ms + sum(prices[engine.engine_key(op)] for op in s.graph.ops) for s in whole])
    truth = np.array([np.median(s.whole) for s in whole]) / 1e6
    ratios = truth / raw
    others = np.array([np.median(np.delete(ratios, i)) for i in range(len(ratios))])
    halves = [split_half(s.whole) for s in whole if len(s.whole) > 1]
    return Calibration(
        scale=float(np.median(ratios)),
        networks=len(whole),
        error_pct=float(np.mean(np.abs(others / ratios - 1))) * 100,
        split_half_pct=float(np.mean(halves)) * 100 if halves else None,
    )


def split_half(times: NDArray[np.float64]) -> float:
    """How far the medians of every other run differ, as a share: the truth's own noise, which no predictor beats."""
    return float(abs(np.median(times[::2]) / np.median(times[1::2]) - 1))
