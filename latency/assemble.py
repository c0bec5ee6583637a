"""What was measured, and what an earlier table knows -> entries and calibration of a latency table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from latency.engines import Engine
from latency.estimate import estimate_entries
from latency.fit import Sampled, calibrate, fit_ops
from latency.table import Calibration, Entry, LatencyTable
from nas.graph import Place

_FEWEST_SHARED = 5
"""Ops in both tables below which nothing is said about drift between them."""


@dataclass(frozen=True)
class Measured:
    """Networks with samples.

    Attributes:
        cover: with stamps.
        fresh: whole, some of them with stamps too.
    """

    cover: Sequence[Sampled]
    fresh: Sequence[Sampled]


@dataclass(frozen=True)
class Assembled:
    """The parts of a table that come from measuring.

    Attributes:
        entries: engine key -> Entry, of the wanted ops and of the earlier table.
        offset_ms: of a network beyond its ops.
        calibration: the terms and residuals.
        stamp_ms: what one stamp costs.
        timed: how many of the wanted ops were timed now.
    """

    entries: dict[str, Entry]
    offset_ms: float
    calibration: Calibration
    stamp_ms: float
    timed: int


def assemble(
    engine: Engine,
    wanted: Mapping[str, Place],
    measured: Measured,
    known: LatencyTable | None = None,
    *,
    drift_sigma: float = 0.0,
) -> Assembled:
    """Fits a table.

    An op in both is taken from the new measurement; what only the earlier table has moves by the median ratio of the
    ops in both, because the board may have drifted in between. Wanted ops in neither are estimated.

    Args:
        engine: gives the keys.
        wanted: engine key -> an op among its neighbours.
        measured: the networks; at least one whole.
        known: an earlier table of the same identity.
        drift_sigma: as `drift_between` tells it of the whole networks.
    """
    both = [s for s in measured.fresh if s.timed.size]
    found = fit_ops(engine, measured.cover, both)
    old = {key: e for key, e in known.entries.items() if not e.estimated} if known else {}
    # Where nothing new was to be timed, the layers of the networks run both ways still show the drift.
    seen = found.entries if measured.cover else fit_ops(engine, both, both).entries
    shared = [seen[key].ms / old[key].ms for key in seen.keys() & old.keys() if old[key].ms > 0]
    drift = float(np.median(shared)) if len(shared) >= _FEWEST_SHARED else 1.0
    timed = {key: entry for key, entry in found.entries.items() if key in wanted}
    entries = {**{key: replace(e, ms=e.ms * drift) for key, e in old.items()}, **timed}
    missing = {key: place.op for key, place in wanted.items() if key not in entries}
    if missing:
        pairs = [(place.op, entries[key]) for key, place in wanted.items() if key in entries]
        entries |= estimate_entries(pairs, missing)
    offset_ms = found.offset_ms if measured.cover else known.offset_ms * drift if known else 0.0
    prior = known.calibration.terms if known else None
    calibration = replace(calibrate(engine, entries, offset_ms, measured.fresh, prior), drift_sigma=drift_sigma)
    return Assembled(entries, offset_ms, calibration, found.stamp_ms, len(timed.keys() - old.keys()))
