"""The networks of a space inside its budgets: refusal, counting, uniform sampling and enumeration.

Notations
    Reduced cost of a site row: its price plus the cheapest way on from there, minus the cheapest way on from its input
    shape. Never negative, and 0 along a cheapest network, so even the tightest budget leaves fine bins.
    Optimistic: reduced costs rounded down to bins, a superset of the feasible set. Pessimistic: rounded up, a subset.
    Network: a canonical row (`SearchSpace.canonical`); equal networks are counted and drawn once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.errors import ImpossibleBudget
from nas.objective import Budget, inside
from nas.space import Encoding, Encodings, SearchSpace

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_BINS = 1024
_COARSE_BINS = 128
_ROUNDING = 1e-9  # relative; sums of the same prices in another order differ by less
_EXPANSION = 1 << 18  # rows priced at once while enumerating
_CHAINS, _STEPS = 256, 400  # of the annealing that looks for a network inside several budgets


@dataclass(frozen=True)
class _Limit:
    """Σ tables[s][row] <= limit: a budget in the unit of its tables, or a weighted mean of several budgets."""

    tables: list[Floats]
    limit: float


class _Scenario:
    """One assignment of the shared genes; every other gene is read by a single site."""

    def __init__(self, space: SearchSpace, shared: dict[int, int]) -> None:
        self.space, self.shared = space, shared
        sites = space.compiled.sites
        self.allowed = [np.tile(s.compatible(shared), len(s.shapes)) for s in sites]
        for site, allowed in zip(sites, self.allowed, strict=True):
            allowed &= site.canonical == np.tile(np.arange(site.choices), len(site.shapes))
        self.next = [s.next_shape for s in sites[:-1]] + [np.zeros(sites[-1].rows, dtype=np.intp)]
        gene = space.input_gene
        inputs = range(len(space.inputs))
        self.starts = np.array([shared[gene]] if gene is not None and gene in shared else inputs, dtype=np.intp)

    def to_go(self, tables: list[Floats]) -> list[Floats]:
        """Per site (shapes,) the cheapest way from its input to the end of the network; then one more entry, 0."""
        out: list[Floats] = [np.zeros(1)]
        for s in reversed(range(len(tables))):
            value = np.where(self.allowed[s], tables[s] + out[0][self.next[s]], np.inf)
            out.insert(0, value.reshape(-1, self.space.compiled.sites[s].choices).min(axis=1))
        return out

    def encode(self, starts: Ints, picks: Sequence[Ints]) -> Encodings:
        """Rows (n, genes) from their input shapes (n,) and, per site, the choices (n,)."""
        x = np.zeros((len(starts), len(self.space.genes)), dtype=np.uint8)
        for gene, value in self.shared.items():
            x[:, gene] = value
        if self.space.input_gene is not None:
            x[:, self.space.input_gene] = starts
        for site, choice in zip(self.space.compiled.sites, picks, strict=True):
            site.write(x, choice)
        return x


class _Counts:
    """For one scenario and limit: how many ways lead on from (site, shape) within so many bins.

    Attributes:
        bins: per site, (rows,) rounded reduced cost of each row; -1 where it is not allowed or above the limit.
        ways: per site and one more, (shapes, bins + 1) float64, cumulative in the bin.
        left: (starts,) bins left to spend at each input shape, -1 where even its cheapest network is over the limit.
    """

    def __init__(self, scenario: _Scenario, limit: _Limit, slack: float, bins: int, optimistic: bool) -> None:
        self.scenario = scenario
        to_go = scenario.to_go(limit.tables)
        step = slack / max(bins, 1)

        def rounded(cost: Floats) -> Ints:
            steps = np.minimum(cost / step, bins + 2.0) if bins else np.zeros_like(cost)
            # A millionth of a bin is rounding of the sums, not cost: a cheapest network costs exactly 0 bins.
            return (np.floor(np.maximum(steps - 1e-6, 0.0)) if optimistic else np.ceil(steps - 1e-6)).astype(np.intp)

        over = to_go[0][scenario.starts] + slack - limit.limit
        self.left = bins - rounded(np.maximum(over, 0.0))
        self.bins: list[Ints] = []
        self.ways: list[Floats] = [np.ones((1, bins + 1))]
        for s in reversed(range(len(limit.tables))):
            site, ahead = scenario.space.compiled.sites[s], self.ways[0]
            before = np.repeat(to_go[s], site.choices)
            cost = np.where(scenario.allowed[s], limit.tables[s] + to_go[s + 1][scenario.next[s]] - before, np.inf)
            row_bins = rounded(np.maximum(cost, 0.0))
            row_bins[(row_bins > bins) | ~scenario.allowed[s]] = -1
            ways = np.zeros((len(site.shapes), bins + 1))
            rows = np.flatnonzero(row_bins >= 0)
            keys = np.stack([rows // site.choices, scenario.next[s][rows], row_bins[rows]])
            for (shape, after, b), times in zip(*_unique_columns(keys), strict=True):
                ways[shape, b:] += times * ahead[after, : bins + 1 - b]
            self.bins.insert(0, row_bins)
            self.ways.insert(0, ways)

    @cached_property
    def totals(self) -> Floats:
        """(starts,) networks from each input shape."""
        found = self.ways[0][self.scenario.starts, np.maximum(self.left, 0)]
        return np.where(self.left >= 0, found, 0.0)

    def draw(self, rng: np.random.Generator, start: Ints) -> Encodings:
        """Uniform rows (n, genes), given for each the index (n,) into the scenario's starts."""
        shape, left = self.scenario.starts[start], self.left[start]
        inputs, picks = shape, []
        for s, site in enumerate(self.scenario.space.compiled.sites):
            rows = shape[:, None] * site.choices + np.arange(site.choices)
            rest = np.where(self.bins[s][rows] >= 0, left[:, None] - self.bins[s][rows], -1)
            ways = self.ways[s + 1][self.scenario.next[s][rows], np.maximum(rest, 0)] * (rest >= 0)
            sums = np.cumsum(ways, axis=1)
            aim = rng.random(len(rows)) * sums[:, -1]
            pick = (sums <= aim[:, None]).sum(axis=1)
            taken = rows[np.arange(len(rows)), pick]
            picks.append(pick)
            left = left - self.bins[s][taken]
            shape = self.scenario.next[s][taken]
        return self.scenario.encode(inputs, picks)


def _unique_columns(keys: Ints) -> tuple[list[tuple[int, ...]], Ints]:
    """The distinct columns of keys (k, n) and how often each occurs."""
    if keys.shape[1] == 0:
        return [], np.zeros(0, dtype=np.intp)
    columns, times = np.unique(keys, axis=1, return_counts=True)
    return [tuple(c) for c in columns.T.tolist()], times


class FeasibleSet:
    """The distinct networks of a space that keep every budget.

    One dynamic programme per scenario over (site, shape, cost bin) gives counts and uniform samples. For several
    budgets it runs on the tightest single budget or weighted mean of them, a relaxation, and the rest is rejection;
    `contains` is always the exact judge.

    Raises:
        ImpossibleBudget: at construction, if nothing keeps the budgets. For one budget that is exact; for several it
            is proven by a relaxation or an enumeration, or no network was found by an annealing of the violation.
    """

    def __init__(self, space: SearchSpace, budgets: Sequence[Budget]) -> None:
        self.space, self.budgets = space, tuple(budgets)
        for budget in self.budgets:
            budget.check_possible()
        self._scenarios = [_Scenario(space, shared) for shared in space.scenarios()]
        self._bins = max(_COARSE_BINS, int(_BINS / math.sqrt(len(self._scenarios)))) if budgets else 0
        self._relaxation = self._tightest()
        self._optimistic = self._count(self._relaxation, self._bins, optimistic=True)
        self._weights = np.concatenate([c.totals for c in self._optimistic])
        self._cumulative = np.cumsum(self._weights)
        if len(self.budgets) > 1:
            self._check_joint()

    # Exact judgement -------------------------------------------------------------------------------------------

    def contains(self, x: Encodings) -> NDArray[np.bool_]:
        """(n,) True where every budget is kept."""
        return inside(self.budgets, x)

    def violation(self, x: Encodings) -> Floats:
        """(n,) how far over the budgets a row is, as a sum of fractions of each cost's range; 0 inside."""
        total = np.zeros(len(x))
        for budget in self.budgets:
            span = budget.cost.maximum()[0] - budget.cost.minimum()[0]
            total += np.maximum(budget.cost(x) - budget.limit, 0.0) / (span or 1.0)
        return total

    # Counting --------------------------------------------------------------------------------------------------

    @cached_property
    def bracket(self) -> tuple[float, float]:
        """(at least, at most) so many networks; for several budgets "at least" is 1."""
        high = float(self._weights.sum())
        if len(self.budgets) > 1:
            return 1.0, high
        pessimistic = self._count(self._relaxation, self._bins, optimistic=False)
        return max(1.0, float(sum(c.totals.sum() for c in pessimistic))), high

    @property
    def at_most(self) -> float:
        """Upper end of the bracket; at no further cost."""
        return float(self._cumulative[-1])

    @cached_property
    def share(self) -> tuple[float, float]:
        """The bracket as fractions of all distinct networks of the space."""
        nothing = _Limit([np.zeros(s.rows) for s in self.space.compiled.sites], 0.0)
        everything = sum(float(c.totals.sum()) for c in self._count(nothing, 0, optimistic=True))
        low, high = self.bracket
        return low / everything, high / everything

    # Drawing ---------------------------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator, n: int) -> Encodings:
        """Uniform rows (n, genes) of the optimistic set; of them, those inside are uniform over the networks."""
        slot = np.searchsorted(self._cumulative, rng.random(n) * self._cumulative[-1], side="right")
        slot = np.minimum(slot, len(self._cumulative) - 1)
        out = np.empty((n, len(self.space.genes)), dtype=np.uint8)
        at = 0
        for counts in self._optimistic:
            here = (slot >= at) & (slot < at + len(counts.totals))
            if here.any():
                out[here] = counts.draw(rng, slot[here] - at)
            at += len(counts.totals)
        return out

    def rows(self, visits: float = np.inf) -> Iterator[Encodings]:
        """Every network, in chunks, each once: depth first, cut where some budget can no longer be kept.

        Args:
            visits: give up after so many partial networks; for one budget none is a dead end.
        """
        limits = [_limit(b) for b in self.budgets]
        sites = self.space.compiled.sites
        for scenario in self._scenarios:
            to_go = [scenario.to_go(limit.tables) for limit in limits]
            spent = np.zeros((len(limits), len(scenario.starts)))
            stack = [(scenario.starts, scenario.starts, spent, np.zeros((0, len(scenario.starts)), dtype=np.intp))]
            while stack:
                starts, shape, spent, picks = stack.pop()
                s = len(picks)
                if s == len(sites):
                    x = scenario.encode(starts, list(picks))
                    yield x[self.contains(x)]
                    continue
                chunk = max(1, _EXPANSION // sites[s].choices)
                if len(shape) > chunk:
                    stack.append((starts[chunk:], shape[chunk:], spent[:, chunk:], picks[:, chunk:]))
                    starts, shape, spent, picks = starts[:chunk], shape[:chunk], spent[:, :chunk], picks[:, :chunk]
                visits -= len(shape)
                if visits < 0:
                    return
                rows = shape[:, None] * sites[s].choices + np.arange(sites[s].choices)
                keep = scenario.allowed[s][rows]
                for i, limit in enumerate(limits):
                    least = spent[i][:, None] + limit.tables[s][rows] + to_go[i][s + 1][scenario.next[s][rows]]
                    keep &= least <= limit.limit + _ROUNDING * abs(limit.limit)
                parent, choice = np.nonzero(keep)
                taken = rows[parent, choice]
                spent = np.stack([spent[i][parent] + limit.tables[s][taken] for i, limit in enumerate(limits)] or [[]])
                spent = spent.reshape(len(limits), len(parent))
                stack.append((starts[parent], scenario.next[s][taken], spent, np.vstack([picks[:, parent], choice])))

    def descend(self, rng: np.random.Generator, wanted: Callable[[Encodings], NDArray[np.bool_]]) -> Encoding | None:
        """A row that `wanted` accepts, by simulated annealing of the violation in many chains; None after a bound."""
        x, _ = self._anneal(rng, wanted)
        return x

    # Parts -----------------------------------------------------------------------------------------------------

    def _anneal(
        self, rng: np.random.Generator, wanted: Callable[[Encodings], NDArray[np.bool_]]
    ) -> tuple[Encoding | None, Encoding]:
        """(an accepted row or None, the row of the smallest violation met)."""
        x = self.draw(rng, _CHAINS)
        level = self.violation(x)
        best, best_level = x[level.argmin()].copy(), level.min()
        every = np.arange(_CHAINS)
        heat = max(float(np.median(level)), 1e-6) * 0.3
        for step in range(_STEPS):
            good = np.flatnonzero(wanted(x))
            if len(good):
                return x[rng.choice(good)], best
            y = x.copy()
            gene = rng.integers(0, y.shape[1], _CHAINS)
            shift = 1 + (rng.random(_CHAINS) * (self.space.cardinalities[gene] - 1)).astype(np.int64)
            y[every, gene] = (y[every, gene] + shift) % self.space.cardinalities[gene]
            new = self.violation(y)
            take = rng.random(_CHAINS) < np.exp(-np.maximum(new - level, 0.0) / (heat * 0.98**step))
            x[take], level[take] = y[take], new[take]
            if level.min() < best_level:
                best, best_level = x[level.argmin()].copy(), level.min()
        return None, best

    def _count(self, limit: _Limit, bins: int, *, optimistic: bool) -> list[_Counts]:
        least = min(float(s.to_go(limit.tables)[0][s.starts].min()) for s in self._scenarios)
        slack = max(limit.limit - least, _ROUNDING * max(abs(limit.limit), abs(least)))
        limit = _Limit(limit.tables, least + slack)
        return [_Counts(s, limit, slack, bins, optimistic) for s in self._scenarios]

    def _tightest(self) -> _Limit:
        """The single budget, or the weighted mean of budgets, that leaves the fewest networks."""
        if not self.budgets:
            return _Limit([np.zeros(s.rows) for s in self.space.compiled.sites], 0.0)
        candidates = [_limit(b) for b in self.budgets]
        if len(candidates) == 1:
            return candidates[0]
        candidates += [
            _mean([self.budgets[i] for i in group])
            for size in range(2, len(self.budgets) + 1)
            for group in itertools.combinations(range(len(self.budgets)), size)
        ]
        for limit in candidates:
            least = min(float(s.to_go(limit.tables)[0][s.starts].min()) for s in self._scenarios)
            if least > limit.limit + _ROUNDING * max(abs(limit.limit), abs(least)):
                raise self._impossible(None)

        def networks(limit: _Limit) -> float:
            return sum(float(c.totals.sum()) for c in self._count(limit, _COARSE_BINS, optimistic=True))

        return min(candidates, key=networks)

    def _check_joint(self) -> None:
        rng = np.random.default_rng(0)
        if self.contains(self.draw(rng, 1024)).any():
            return
        found, closest = self._anneal(rng, self.contains)
        if found is None and not any(len(rows) for rows in self.rows(visits=1_000_000)):
            raise self._impossible(closest)

    def _impossible(self, closest: Encoding | None) -> ImpossibleBudget:
        wanted = " and ".join(f"{b.metric} <= {b.limit:g}" for b in self.budgets)
        if closest is None:
            closest = min((b.cost.minimum()[1] for b in self.budgets), key=lambda x: float(self.violation(x[None])[0]))
        reached = {b.metric: b.cost.one(closest) for b in self.budgets}
        told = ", ".join(f"{metric} {value:.6g}" for metric, value in reached.items())
        return ImpossibleBudget(
            f"no network of {self.space.name} was found with {wanted} together (each alone is possible); the closest "
            f"has {told}; raise a budget",
            reached,
        )


def _limit(budget: Budget) -> _Limit:
    return _Limit(budget.cost.tables, (budget.limit - budget.cost.offset) / budget.cost.scale)


def _mean(budgets: Sequence[Budget]) -> _Limit:
    """The mean of the budgets, each counted from its minimum and in units of what it leaves above it."""
    tables = [np.zeros_like(t) for t in budgets[0].cost.tables]
    total = 0.0
    for budget in budgets:
        limit, least = _limit(budget), (budget.cost.minimum()[0] - budget.cost.offset) / budget.cost.scale
        room = max(limit.limit - least, _ROUNDING * max(abs(least), abs(limit.limit)), 1e-300)
        tables = [a + b / room for a, b in zip(tables, limit.tables, strict=True)]
        total += limit.limit / room
    return _Limit(tables, total)
