"""A network run for minutes without a pause: how its latency fares as the board gets hot, told stretch by stretch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from latency.disturbance import LIMITS

COLD_S: Final = 10.0
HOT_SHARE: Final = 0.2
"""A run is cold in its first 10 s, or in the first fifth of one shorter than 50 s, and hot in its last fifth."""
_COUNTED_FALL: Final = 0.02
"""By which share a frequency that the kernel counts may be lower; a single look at it is far less exact."""


@dataclass(frozen=True)
class Interval:
    """A stretch of a sustained run.

    Attributes:
        start_s, end_s: since the beginning.
        runs: that ended in it.
        median_ms, p95_ms: of them.
        mhz: the cores' frequency, their slowest one's mean over the stretch where the kernel counts it; None if untold.
        celsius: of the CPU at its end; None if untold.
        throttled: the firmware's bits (`vcgencmd get_throttled`); None where there are none.
        marks: what slowed the board down, for people; empty if nothing is known to have.
    """

    start_s: float
    end_s: float
    runs: int
    median_ms: float
    p95_ms: float
    mhz: int | None
    celsius: float | None
    throttled: int | None
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Sustained:
    """A model run back to back.

    Attributes:
        cold_ms: median of the first 10 s, or of the first fifth of a shorter run.
        hot_ms: median of the last fifth.
        seconds: how long it ran.
        runs: how often.
        intervals: one after the other.
        stopped: Ctrl-C ended it before its time.
    """

    cold_ms: float
    hot_ms: float
    seconds: float
    runs: int
    intervals: tuple[Interval, ...]
    stopped: bool

    @property
    def slower_pct(self) -> float:
        """How much slower it is hot than cold."""
        return (self.hot_ms / self.cold_ms - 1) * 100


class Watch:
    """Tells stretches of a sustained run, from states of the board between its parts.

    Attributes:
        runs: that are in the stretches told so far.
    """

    def __init__(self) -> None:
        self.runs = 0
        self._start_s = 0.0
        self._first: Mapping[str, Any] | None = None
        self._state: Mapping[str, Any] = {}
        self._reasons: list[str] = []
        self._fastest_mhz = 0

    def note(self, before: Mapping[str, Any], after: Mapping[str, Any], reason: str | None) -> None:
        """A part of the stretch is done."""
        self._first = before if self._first is None else self._first
        self._state = after
        if reason and reason not in self._reasons:
            self._reasons.append(reason)

    def interval(self, ends_s: Sequence[float], lengths_s: Sequence[float]) -> Interval:
        """The stretch is done, another one begins; of all runs, those not yet told are of it."""
        ms = np.array(lengths_s[self.runs :]) * 1e3
        state, start_s = self._state, self._start_s
        counted = _mean_mhz(self._first or state, state)
        mhz = counted or min(state.get("mhz") or [], default=None)
        bits = int(str(state["throttled"]), 16) if state.get("throttled") else None
        marks = list(self._reasons)
        if mhz is not None:
            allowed = _COUNTED_FALL if counted else LIMITS.fall
            if mhz < (1 - allowed) * self._fastest_mhz and not any("frequency" in reason for reason in marks):
                marks.append(f"the frequency fell from {self._fastest_mhz} to {mhz} MHz")
            self._fastest_mhz = max(self._fastest_mhz, mhz)
        self.runs, self._start_s, self._first, self._reasons = len(lengths_s), ends_s[-1], None, []
        return Interval(
            start_s=start_s,
            end_s=ends_s[-1],
            runs=len(ms),
            median_ms=float(np.median(ms)),
            p95_ms=float(np.percentile(ms, 95)),
            mhz=mhz,
            celsius=state.get("cpu_celsius"),
            throttled=bits,
            marks=tuple(marks),
        )


def _mean_mhz(before: Mapping[str, Any], after: Mapping[str, Any]) -> int | None:
    """The slowest policy's mean frequency between two states, from the kernel's counts of time in each frequency."""
    old, new = ((state.get("work") or {}).get("mhz_ticks") or {} for state in (before, after))
    means = []
    for policy, counts in new.items():
        spent = {int(mhz): ticks - (old.get(policy) or {}).get(mhz, 0) for mhz, ticks in counts.items()}
        if sum(spent.values()) > 0:
            means.append(sum(mhz * ticks for mhz, ticks in spent.items()) / sum(spent.values()))
    return round(min(means)) if means else None


def summarise(
    ends_s: Sequence[float], lengths_s: Sequence[float], intervals: Sequence[Interval], *, stopped: bool
) -> Sustained:
    """What a run comes to.

    Args:
        ends_s: when each run ended, since the beginning; ascending, at least one.
        lengths_s: how long each took.
        intervals: its stretches.
        stopped: as in `Sustained`.
    """
    at, ms = np.array(ends_s), np.array(lengths_s) * 1e3
    seconds = float(at[-1])
    cold = ms[at <= min(COLD_S, HOT_SHARE * seconds)]
    return Sustained(
        cold_ms=float(np.median(cold if cold.size else ms[:1])),
        hot_ms=float(np.median(ms[at >= (1 - HOT_SHARE) * seconds])),
        seconds=seconds,
        runs=len(ms),
        intervals=tuple(intervals),
        stopped=stopped,
    )
