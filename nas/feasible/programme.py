"""How many ways lead on from (site, shape) within so many bins of each cost: counts and uniform samples.

Notations
    Reduced cost of a row: its price plus the cheapest way on from there, minus the cheapest way on from its input
    shape. Never negative, and 0 along a cheapest network, so even the tightest limit leaves fine bins.
    Down, up, nearest: how reduced costs are rounded to bins. Down counts a superset of the networks inside the
    limits, up a subset of them, nearest a set between both.
    d: axes; cells: bins of all axes together, as one flat index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from nas.feasible.chain import Chain, Floats, Ints, Scenario, Tail
from nas.space import Encodings

ROUNDING = 1e-9  # relative; sums of the same prices in another order differ by less
_NOISE = 1e-6  # bins; rounding of the sums, not cost: a cheapest network costs exactly 0 bins
_TINY = 1e-300


class Rounding(Enum):
    """Of reduced costs to bins."""

    DOWN = "down"
    NEAREST = "nearest"
    UP = "up"


@dataclass(frozen=True)
class Limit:
    """Σ tables[site][row] <= value."""

    tables: Sequence[Floats]
    value: float


class Axis:
    """One limit, its room above the cheapest network cut into bins.

    Attributes:
        bins: what a network may cost.
        step: of one bin, in the tables' unit; 0 if nothing is left.
        least: cost of the cheapest network.
        to_go: per tail (shapes,) the cheapest way on.
    """

    def __init__(self, chain: Chain, limit: Limit, bins: int, rounding: Rounding) -> None:
        self.chain, self.limit, self.bins, self.rounding = chain, limit, bins, rounding
        self.to_go = chain.to_go(limit.tables)
        self.least = chain.least(self.to_go)
        tolerance = ROUNDING * max(abs(limit.value), abs(self.least), _TINY)
        room = limit.value - self.least
        if rounding is Rounding.UP:  # what is counted must be inside, whatever was rounded on the way
            self.step = max(room - tolerance, 0.0) / (bins + _NOISE * (len(limit.tables) + 1))
        else:
            self.step = max(room + tolerance, 0.0) / bins

    def bins_of(self, cost: Floats) -> Ints:
        """(n,) reduced costs as bins; more than `bins` where they are over the limit."""
        if self.step == 0:
            return np.full(len(cost), self.bins + 1, dtype=np.intp)
        steps = np.minimum(np.maximum(cost, 0.0) / self.step - _NOISE, self.bins + 2.0)
        if self.rounding is Rounding.UP:
            return np.maximum(np.ceil(steps), 0.0).astype(np.intp)
        return np.maximum(np.floor(steps + (0.5 if self.rounding is Rounding.NEAREST else 0.0)), 0.0).astype(np.intp)

    def rows(self, tail: Tail) -> Ints:
        """(k,) bins of the tail's rows."""
        onwards = self.chain.onwards(tail, self.limit.tables, self.to_go)
        return self.bins_of(onwards - self.to_go[tail.number][tail.shape])

    def left(self, scenario: Scenario) -> Ints:
        """(starts,) bins left to spend at each input shape; below 0 where even its cheapest network is over."""
        return self.bins - self.bins_of(self.to_go[scenario.first.number][scenario.starts] - self.least)

    def ahead(self, bins: int) -> slice:
        """The cells of the following tail behind a row's cells from `bins` on: what is left after paying them."""
        return slice(self.bins + 1 - bins)

    def room(self, tail: Tail | None, shape: Ints, spent: Floats) -> Ints:
        """(n,) bins left at the input shapes (n,) of a tail (None: the end) after `spent`; below 0: over the limit."""
        left = self.limit.value - spent - (0.0 if tail is None else self.to_go[tail.number][shape])
        steps = (left + ROUNDING * abs(self.limit.value)) / (self.step or _TINY) + _NOISE
        return np.floor(np.clip(steps, -1.0, self.bins)).astype(np.intp)


class Levels:
    """A maximum over the sites as an axis to count along: cell i holds the networks whose maximum is at most level i.

    Attributes:
        tables: per site (rows,).
        levels: ascending, in the tables' unit; a row above the last one is left out.
        bins: the last cell.
    """

    def __init__(self, tables: Sequence[Floats], levels: Floats) -> None:
        self.tables, self.levels, self.bins = tables, levels, len(levels) - 1

    def rows(self, tail: Tail) -> Ints:
        """(k,) the lowest cell that holds each of the tail's rows."""
        return np.searchsorted(self.levels, self.tables[tail.index][tail.rows])

    def left(self, scenario: Scenario) -> Ints:
        """(starts,) the last cell: nothing of a maximum is used up."""
        return np.full(len(scenario.starts), self.bins, dtype=np.intp)

    def ahead(self, bins: int) -> slice:
        """The cells of the following tail behind a row's cells from `bins` on: the same."""
        return slice(bins, None)


@dataclass(frozen=True)
class _Choices:
    """What a draw needs at one tail; a group is the rows of one (shape, next shape).

    Attributes:
        groups: (shapes, most groups) group indices, -1 beyond.
        members: (groups, most members) indices of kept rows, -1 beyond.
        next: (groups,) next shape.
        sums: (groups, cells) ways through this and the earlier groups of its shape.
        rows: (kept,) rows of the site's tables.
        bins: (kept, d) of them.
    """

    groups: Ints
    members: Ints
    next: Ints
    sums: Floats
    rows: Ints
    bins: Ints


class Programme:
    """The dynamic programme over (tail, shape, bins left).

    Args:
        chain: of the space.
        axes: limits; none counts every network.
        levels: counts along them instead of drawing: one more axis, the last.
        sampling: keep what `draw` needs.
    """

    def __init__(
        self, chain: Chain, axes: Sequence[Axis], *, levels: Levels | None = None, sampling: bool = False
    ) -> None:
        self.chain, self.axes = chain, tuple(axes)
        self._counted: tuple[Axis | Levels, ...] = self.axes if levels is None else (*self.axes, levels)
        self.grid = tuple(a.bins + 1 for a in self._counted) or (1,)
        self._strides = np.array([int(np.prod(self.grid[i + 1 :])) for i in range(len(self.grid))], dtype=np.intp)
        self._cells = int(np.prod(self.grid))
        self.ways: list[Floats] = []  # per tail (shapes, cells), cumulative in every bin
        self._choices: list[_Choices] = []
        for tail in chain.tails:
            ways, choices = self._count(tail)
            self.ways.append(ways)
            if sampling:
                self._choices.append(choices)

    def starts(self, scenario: Scenario) -> tuple[Ints, NDArray[np.bool_]]:
        """(starts, d) bins left at each input shape, and (starts,) whether none is below 0."""
        left = self._columns([a.left(scenario) for a in self._counted], len(scenario.starts))
        return left, np.all(left >= 0, axis=1)

    def totals(self, scenario: Scenario) -> Floats:
        """(starts,) networks from each input shape."""
        left, possible = self.starts(scenario)
        return self.onwards(scenario.first, scenario.starts, left) * possible

    def total(self) -> float:
        """Networks of all scenarios."""
        return float(sum(self.totals(s).sum() for s in self.chain.scenarios))

    def onwards(self, tail: Tail, shape: Ints, left: Ints) -> Floats:
        """(n,) ways on from input shapes (n,) with bins left (n, d); where some are below 0, as with 0."""
        found: Floats = self.ways[tail.number][shape, np.maximum(left, 0) @ self._strides]
        return found

    def goes_on(self, tail: Tail | None, shape: Ints, spent: Floats) -> NDArray[np.bool_]:
        """(n,) whether a way leads on from input shapes (n,) of a tail (None: the end) after spending (axes, n)."""
        left = self._columns([a.room(tail, shape, s) for a, s in zip(self.axes, spent, strict=True)], len(shape))
        possible: NDArray[np.bool_] = np.all(left >= 0, axis=1)
        if tail is None or len(self.axes) < 2:  # one limit alone: the cheapest way on is inside
            return possible
        return possible & (self.onwards(tail, shape, left) > 0)

    def along_last(self) -> Floats:
        """(bins + 1,) networks of all scenarios inside the other axes, cumulative in the bins of the last one."""
        bins = self.grid[-1]
        out = np.zeros(bins)
        for scenario in self.chain.scenarios:
            left, possible = self.starts(scenario)
            for shape, most in zip(scenario.starts[possible].tolist(), left[possible], strict=True):
                own = most[-1] + 1
                first = int((most @ self._strides) - most[-1])
                out[bins - own :] += self.ways[scenario.first.number][shape, first : first + own]
        return out

    def draw(self, rng: np.random.Generator, scenario: Scenario, start: Ints) -> Encodings:
        """Uniform rows (n, genes), given for each the index (n,) into the scenario's starts."""
        every = np.arange(len(start))
        left, shape = self.starts(scenario)[0][start], scenario.starts[start]
        inputs, taken = shape, []
        tail: Tail | None = scenario.first
        while tail is not None:
            at, cell = self._choices[tail.number], left @ self._strides
            aim = _below(rng.random(len(start)), self.ways[tail.number][shape, cell])
            groups = at.groups[shape]
            sums = np.where(groups >= 0, at.sums[groups, cell[:, None]], np.inf)
            pick = (sums <= aim[:, None]).sum(axis=1)
            group = groups[every, pick]
            aim = aim - np.where(pick > 0, sums[every, pick - 1], 0.0)
            members = at.members[group]
            rest = left[:, None, :] - at.bins[members]
            weight = np.ones(members.shape)
            if tail.following is not None:
                ahead = self.ways[tail.following.number]
                weight = ahead[at.next[group][:, None], np.maximum(rest, 0) @ self._strides]
            sums = np.cumsum(weight * ((members >= 0) & (rest >= 0).all(axis=2)), axis=1)
            aim = np.minimum(aim, np.nextafter(sums[:, -1], 0.0))  # a difference of sums may be a digit too large
            pick = (sums <= aim[:, None]).sum(axis=1)
            row = members[every, pick]
            taken.append(at.rows[row])
            left, shape = left - at.bins[row], at.next[group]
            tail = tail.following
        return self.chain.encode(scenario, inputs, taken)

    def _columns(self, each: Sequence[Ints], n: int) -> Ints:
        """(n, axes) from each axis' (n,); a column of 0 where there is no axis."""
        return np.stack(each or [np.zeros(n, dtype=np.intp)], axis=1)

    def _count(self, tail: Tail) -> tuple[Floats, _Choices]:
        bins = self._columns([a.rows(tail) for a in self._counted], len(tail.rows))
        kept = np.flatnonzero((bins < np.array(self.grid)).all(axis=1))
        kept = kept[np.lexsort((tail.next[kept], tail.shape[kept]))]
        bins, shape, after = bins[kept], tail.shape[kept], tail.next[kept]
        first = np.ones(len(kept), dtype=np.bool_)
        first[1:] = (np.diff(shape) != 0) | (np.diff(after) != 0)
        group = np.cumsum(first) - 1
        of_shape, of_next = shape[first], after[first]
        ahead = np.ones((1, self._cells)) if tail.following is None else self.ways[tail.following.number]
        ahead = ahead.reshape(-1, *self.grid)
        sums = np.zeros((len(of_shape), *self.grid))
        code, times = np.unique(group * self._cells + bins @ self._strides, return_counts=True)
        low = np.stack(np.unravel_index(code % self._cells, self.grid), axis=1)
        for g, b, often in zip((code // self._cells).tolist(), low.tolist(), times.tolist(), strict=True):
            into = sums[(g, *(slice(v, None) for v in b))]
            add = ahead[(of_next[g], *(a.ahead(v) for a, v in zip(self._counted, b, strict=False)))]
            into += add if often == 1 else often * add
        sums = sums.reshape(len(of_shape), self._cells)
        ways = np.zeros((len(tail.site.shapes), self._cells))
        for g, s in enumerate(of_shape.tolist()):
            sums[g] += ways[s]
            ways[s] = sums[g]
        groups = _ragged(of_shape, len(ways))
        return ways, _Choices(groups, _ragged(group, len(of_shape)), of_next, sums, tail.rows[kept], bins)


def _ragged(owner: Ints, owners: int) -> Ints:
    """(owners, most) indices of the entries of each owner, -1 beyond; `owner` (n,) ascends."""
    count = np.bincount(owner, minlength=owners)
    column = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    out = np.full((owners, max(1, int(count.max(initial=0)))), -1, dtype=np.intp)
    out[owner, column] = np.arange(len(owner))
    return out


def _below(share: Floats, total: Floats) -> Floats:
    """A share (n,) in [0, 1) of total (n,), surely below it."""
    return np.minimum(share * total, np.nextafter(total, 0.0))
