"""What disturbed a pass, told from the board's states before and after it; and the drift of its speed over time.

Pure functions over what the runner tells (`onboard.state`). No board of ours has frequency scaling, a firmware that
throttles, or clusters: those rules are tested on recorded boards only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

State = Mapping[str, Any]

_TICK_S: Final = 0.01
"""The unit of cpufreq's time_in_state."""
_BITS: Final = ((0, "under-voltage"), (1, "capped frequency"), (2, "throttling"), (3, "the soft temperature limit"))
"""Of a Raspberry Pi's firmware (`vcgencmd get_throttled`): these now, and 16 higher since boot."""


@dataclass(frozen=True)
class Limits:
    """What a pass may show and still be kept.

    Attributes:
        slow_share: the share of the time the cores may spend away from the frequency they run at most of the time;
            ramping up from idle takes a governor some 10 ms, a throttled board seconds.
        shortest_s: differences of counters shorter than this are rounding: the kernel counts in ticks of 10 ms.
        fall: by which share the frequency may be lower afterwards where the kernel keeps no such counts (x86). There
            scaling_cur_freq is an average over the last tick; turbo and wide vectors move it on a quiet machine too.
        celsius: the CPU's temperature where the kernel tells no limit of its own; a Raspberry Pi slows down at 80.
        others_here: CPU seconds a second that others may take on the cores we are pinned to.
        others_elsewhere: the same of the other cores, or of all of them where we are not pinned: they share caches and
            memory with us, so one that works half of the time is told.
        swapped_pages: pages that may be moved to or from the swap space.
    """

    slow_share: float = 0.05
    shortest_s: float = 0.05
    fall: float = 0.2
    celsius: float = 80.0
    others_here: float = 0.05
    others_elsewhere: float = 0.5
    swapped_pages: int = 64


LIMITS: Final = Limits()


def throttling(bits: int, *, since_boot: bool = False) -> list[str]:
    """The names of the firmware's throttling bits that are set: now, or some time since boot."""
    return [name for bit, name in _BITS if bits >> (bit + 16 * since_boot) & 1]


def spoiled(before: State, after: State, *, threads: int = 1, limits: Limits = LIMITS) -> str | None:
    """Why a pass between two states should not count.

    Args:
        before: the board's state just before the pass (`RunnerSession.before`).
        after: its state just after it (`RunnerSession.state`).
        threads: of the engine; more cores than that leave room for others.
        limits: what is still allowed.

    Returns:
        One line for people, the gravest reason first, or None where nothing is known against the pass. What a board
        does not tell is held for undisturbed.
    """
    if before.get("governor") != after.get("governor"):
        return f"the CPU governor changed from {_names(before)} to {_names(after)}"
    return (
        _firmware(before, after)
        or _cooling(after, limits)
        or _frequency(before, after, limits)
        or _others(before.get("work") or {}, after.get("work") or {}, threads, limits)
    )


def _names(state: State) -> str:
    return "+".join(state.get("governor") or ["none"])


def _firmware(before: State, after: State) -> str | None:
    old, new = (int(str(state.get("throttled") or "0x0"), 16) for state in (before, after))
    now = throttling(new)
    # The firmware only remembers that it happened; what was remembered before is not news.
    meanwhile = [name for name in throttling(new & ~old, since_boot=True) if name not in now]
    told = [*(f"{name} now" for name in now), *(f"{name} during the pass" for name in meanwhile)]
    return f"the firmware reports {', '.join(told)}" if told else None


def _cooling(after: State, limits: Limits) -> str | None:
    slowed = after.get("slowed_by") or {}
    if slowed:
        told = ", ".join(f"{name} at {level}" for name, level in slowed.items())
        return f"the kernel slows the CPU down to cool it ({told})"
    celsius, limit = after.get("cpu_celsius"), after.get("limit_celsius") or limits.celsius
    if celsius is not None and celsius >= limit:
        return f"the CPU is at {celsius:.0f} °C, its limit is {limit:.0f} °C"
    return None


def _frequency(before: State, after: State, limits: Limits) -> str | None:
    old, new = before.get("limit_mhz") or [], after.get("limit_mhz") or []
    for one, other in zip(old, new, strict=False):
        if one != other:
            return f"the highest frequency allowed changed from {one} to {other} MHz"
    ticks, earlier = ((s.get("work") or {}).get("mhz_ticks") or {} for s in (after, before))
    for policy, counts in ticks.items():
        spent = {int(mhz): n - (earlier.get(policy) or {}).get(mhz, 0) for mhz, n in counts.items()}
        usual = max(spent, key=lambda mhz: (spent[mhz], mhz), default=0)
        whole = sum(spent.values())
        away = whole - spent.get(usual, 0)
        if away * _TICK_S >= limits.shortest_s and away > limits.slow_share * whole:
            return f"the frequency changed: {away / whole:.0%} of the time it was not {usual} MHz"
    if not ticks:
        for one, other in zip(before.get("mhz") or [], after.get("mhz") or [], strict=False):
            if other < (1 - limits.fall) * one:
                return f"the frequency fell from {one} to {other} MHz"
    return None


def _others(before: State, after: State, threads: int, limits: Limits) -> str | None:
    def gone(key: str) -> float:
        old, new = before.get(key), after.get(key)
        return 0.0 if old is None or new is None else float(new) - float(old)

    seconds = gone("clock_s")
    if seconds <= 0:
        return None
    if gone("stopped_s") > max(limits.shortest_s, limits.others_here * seconds):
        return f"the CPU quota of our control group stopped us for {gone('stopped_s'):.2g} s of {seconds:.2g} s"
    pinned = int(after.get("cores") or 0) <= threads
    here, elsewhere = gone("used_s") - gone("own_s"), gone("other_s")
    for where, busy_s, allowed in (
        ("our cores" if pinned else "the cores", here, limits.others_here if pinned else limits.others_elsewhere),
        ("the other cores", elsewhere, limits.others_elsewhere),
    ):
        if busy_s > limits.shortest_s and busy_s > allowed * seconds:
            return f"other programs had {where} for {busy_s:.2g} s of {seconds:.2g} s"
    if gone("swapped_pages") > limits.swapped_pages:
        return f"{gone('swapped_pages'):.0f} pages of memory were swapped"
    return None


@dataclass(frozen=True)
class Drift:
    """By how much the board runs slower (above 1) or faster in one interval than in another.

    Attributes:
        ratio: of the sentinel's times, the later by the earlier.
        se: the ratio's standard error; infinite where there are too few visits to know.
        significant: whether it is real: beyond what chance gives in one comparison of a hundred, and large enough to
            matter.
    """

    ratio: float
    se: float
    significant: bool


SMALLEST_DRIFT: Final = 1e-3
"""A drift below this share does not matter, even where time is so exact (an emulator) that it shows."""
_CONFIDENCE: Final = 0.995
_SHAMOS: Final = 1.0483
"""From the median distance of two normal values to their standard deviation."""
_MEDIAN_SE: Final = math.sqrt(math.pi / 2)
"""A median of n has this many times the standard error of a mean of n; of normal values, for large n."""


def drifts(samples: Sequence[tuple[float, float]], edges: Sequence[float]) -> list[Drift]:
    """The drift of each interval against the first, from repeated timings of one sentinel network.

    Works on logarithms of medians with spreads from median distances, so single outliers do not move it.
    Samples with the same time are one visit and count as one (their median): what disturbs a visit disturbs all of it.
    The spread is pooled over the intervals, so even one visit in an interval says something.

    Args:
        samples: (time in s, sentinel's time in ns), in any order.
        edges: the times in s at which a new interval begins, ascending; n of them make n + 1 intervals.

    Returns:
        n drifts, those of the second, third, … interval. Where an interval or the first has no sample, ratio 1 and an
        infinite error.
    """
    visits: dict[float, list[float]] = {}
    for time_s, ns in samples:
        visits.setdefault(time_s, []).append(math.log(ns))
    intervals: list[list[float]] = [[] for _ in range(len(edges) + 1)]
    for time_s, logs in visits.items():
        intervals[int(np.searchsorted(edges, time_s, side="right"))].append(float(np.median(logs)))
    filled = [each for each in intervals if each]
    freedom = sum(map(len, filled)) - len(filled)
    # Of differences within an interval (Shamos): unlike distances from a median of few, they are not too small.
    pairs = [abs(a - b) for each in filled for a, b in itertools.combinations(each, 2)]
    sigma = _SHAMOS * float(np.median(pairs)) if pairs else math.inf
    return [_compare(intervals[0], each, sigma, freedom) for each in intervals[1:]]


def _compare(first: Sequence[float], later: Sequence[float], sigma: float, freedom: int) -> Drift:
    if not first or not later:
        return Drift(1.0, math.inf, False)
    change = float(np.median(later)) - float(np.median(first))
    # One or two values have a mean for a median.
    share = sum((_MEDIAN_SE if len(each) > 2 else 1.0) ** 2 / len(each) for each in (first, later))
    se = sigma * math.sqrt(share)
    ratio = math.exp(change)
    if freedom < 1 or not math.isfinite(se):
        return Drift(ratio, math.inf, False)
    from scipy.special import stdtrit  # here: it takes a quarter of a second to import

    beyond = abs(change) > float(stdtrit(freedom, _CONFIDENCE)) * se
    return Drift(ratio, ratio * se, beyond and abs(ratio - 1) >= SMALLEST_DRIFT)


def drift(earlier: Sequence[float], later: Sequence[float]) -> Drift:
    """The drift between two intervals whose visits are given as times in ns, one a visit; see `drifts`."""
    visits = [
        *((float(i), ns) for i, ns in enumerate(earlier)),
        *((len(earlier) + 0.5 + i, ns) for i, ns in enumerate(later)),
    ]
    return drifts(visits, [len(earlier) - 0.25])[0]
