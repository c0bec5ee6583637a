"""FeasibleSet: the distinct networks of a space that keep every budget."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.cost import CostModel, costs
from nas.errors import ImpossibleBudget
from nas.feasible.bounds import largest, least_inside
from nas.feasible.chain import Chain, Floats, Mask
from nas.feasible.descent import descend
from nas.feasible.distribution import Distribution, Histogram
from nas.feasible.programme import ROUNDING, Axis, Levels, Limit, Programme, Rounding
from nas.objective import Budget
from nas.space import Encoding, Encodings, SearchSpace

_MOST_BINS = (0, 1024, 128, 32)  # of each axis, by the number of axes; beyond: the last
_LEAST_BINS = (0, 128, 24, 10)
_WORK = 300_000_000  # rows times cells that a programme goes through: about 0.2 s
_NUMBERS = 5_000_000  # float64 that a programme keeps for sampling
_METRIC_BINS = (4096, 192, 64, 32)  # of a distribution's cost, by the number of other axes
_OTHER_BINS = (0, 64, 20, 10)  # of those; nearest rounding errs both ways, so few are enough
_LISTED = 20_000  # networks that are listed, so that everything about them is exact
_EXPANSION = 1 << 18  # rows priced at once while enumerating
_PILOT = 128  # rows drawn to see whether the budgets go together
_SAMPLED = 1024  # networks that tell a distribution where counting is too coarse
_DRAWS = 100_000  # rows drawn at most for one that is inside
_VISITS = 1_000_000  # partial networks visited at most to find one inside several budgets
_CHAINS = 256  # of the annealing that looks for a network inside several budgets


class FeasibleSet:
    """The distinct networks of a space that keep every budget.

    A dynamic programme over (site, shape, bins left of each budget) counts them between two proven bounds and draws
    them: what it draws is a little more than the set (costs are rounded down), uniform, and what is over a budget is
    dropped, so the rows that stay are exactly uniform. Small sets are listed, and all about them is exact.
    `contains` is always the judge.

    Budgets that every network keeps are no axes of the programme. A budget on a maximum over the sites is none either:
    it is kept where every site keeps it, so what remains is the same programme over fewer rows, and exact.

    Args:
        space: whose networks.
        budgets: hard limits.

    Raises:
        ImpossibleBudget: at construction, if nothing keeps the budgets. With one budget on a sum at most, that is
            exact. With several it is proven (rounded down the programme counts none, or a Lagrangian bound says so), or
            neither the programme rounded up nor annealing nor a walk through what is left found any network.
    """

    def __init__(self, space: SearchSpace, budgets: Sequence[Budget] = ()) -> None:
        self.space, self.budgets = space, tuple(budgets)
        for budget in self.budgets:
            budget.check_possible()
        tight = [b for b in self.budgets if b.limit < b.cost.maximum()[0]]
        self._limits = [_limit(b) for b in tight if b.cost.combine == "sum"]
        self._masks = [_mask(b) for b in tight if b.cost.combine == "max"]
        self._chain = Chain(space, self._masks)
        if self._chain.empty:
            raise self._impossible(self._found(np.random.default_rng(0), self.contains)[1], "has")
        self._optimistic = self._programme(Rounding.DOWN, sampling=True)
        self._weights = np.concatenate([self._optimistic.totals(s) for s in self._chain.scenarios])
        self._cumulative = np.cumsum(self._weights)
        if self._limits:
            self._check()

    # Exact judgement -------------------------------------------------------------------------------------------

    def contains(self, x: Encodings) -> NDArray[np.bool_]:
        """(n,) True where valid rows x (n, genes) keep every budget."""
        ok = np.ones(len(x), dtype=np.bool_)
        for budget, cost in zip(self.budgets, costs([b.cost for b in self.budgets], x), strict=True):
            ok &= cost <= budget.limit
        return ok

    def violation(self, x: Encodings) -> Floats:
        """(n,) how far over the budgets a row is, as a sum of fractions of each cost's range; 0 inside."""
        total = np.zeros(len(x))
        for budget, cost in zip(self.budgets, costs([b.cost for b in self.budgets], x), strict=True):
            span = budget.cost.maximum()[0] - budget.cost.minimum()[0]
            total += np.maximum(cost - budget.limit, 0.0) / (span or 1.0)
        return total

    def neighbours(self, row: Encoding) -> Encodings:
        """Every other network inside that one changed gene of `row` (genes,) gives, each once: rows (k, genes).

        The rows differ from `row` in exactly one gene; they are not canonical.
        """
        near = self.space.neighbours(row)
        near = near[self.contains(near)]
        keys = self.space.compiled.canonical(np.concatenate([np.asarray(row, dtype=np.uint8)[None], near]))
        _, first = np.unique(keys, axis=0, return_index=True)
        return np.asarray(near[np.sort(first[first > 0]) - 1])

    # Counting --------------------------------------------------------------------------------------------------

    @cached_property
    def bracket(self) -> tuple[float, float]:
        """(at least, at most) so many networks, both proven; equal where the set is small enough to be listed."""
        if self._listed is not None:
            return float(len(self._listed)), float(len(self._listed))
        if not self._limits:
            return self.at_most, self.at_most
        return max(1.0, self._programme(Rounding.UP).total()), self.at_most

    @cached_property
    def count(self) -> float:
        """The number of networks: exact where the bracket is closed, else an estimate inside it."""
        low, high = self.bracket
        return low if low == high else min(max(self._programme(Rounding.NEAREST).total(), low), high)

    @property
    def at_most(self) -> float:
        """Upper end of the bracket; at no further cost, and so a little above that of a listed set."""
        return float(self._cumulative[-1])

    @cached_property
    def everything(self) -> float:
        """Distinct networks of the whole space."""
        return Programme(Chain(self.space) if self._masks else self._chain, ()).total()

    @property
    def share(self) -> tuple[float, float]:
        """The bracket as fractions of all distinct networks of the space."""
        low, high = self.bracket
        return low / self.everything, high / self.everything

    def distribution(self, cost: CostModel) -> Distribution:
        """How a cost is distributed over the networks inside; its total is `count`.

        Counted in bins, off by about one: a 4096th of the range without a budget on another cost, a hundredth or two
        with some. Exact for a listed set, and for a maximum over the sites where no budget is on a sum.
        """
        if self._listed is not None:
            return Distribution.of(cost(self._listed))
        if cost.combine == "max":
            return self._of_maximum(cost)
        own, top = self._range(cost)
        axes, bins = self._coarse([limit for i, limit in enumerate(self._limits) if i != own])
        last = Axis(self._chain, Limit(cost.tables, top), bins, Rounding.NEAREST)
        along = Programme(self._chain, [*axes, last]).along_last()
        if not along[-1]:  # so little is left that rounding misses it
            return self._of_samples(cost)
        steps = np.concatenate([[0.0], np.arange(len(along)) + 0.5])
        values = cost.in_unit(np.minimum(last.least + last.step * steps, top))
        cumulative = np.concatenate([[0.0], along]) * (self.count / along[-1])
        return Distribution(values, cumulative, exact=False, stepped=False)

    def histogram(self, cost: CostModel, bins: int | Sequence[float] | Floats = 20) -> Histogram:
        """Networks inside per interval of a cost: so many of equal width, or between given edges in its unit."""
        return self.distribution(cost).histogram(bins)

    # Drawing ---------------------------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator, n: int) -> Encodings:
        """N canonical rows (n, genes), independent and exactly uniform over the networks inside.

        Only where several budgets leave less than a hundred-thousandth of what the programme counts, and that is too
        much to be listed, are they found by annealing: inside, but no longer uniform.
        """
        if self._listed is not None:
            return np.asarray(self._listed[rng.integers(0, len(self._listed), n)])
        found: list[Encodings] = []
        missing, drawn = n, 0
        while missing > 0:
            x = self.propose(rng, max(missing + missing // 8, 16))
            x = x[self.contains(x)][:missing]
            found.append(x)
            missing, drawn = missing - len(x), (0 if len(x) else drawn + missing)
            if drawn > _DRAWS:
                x, _ = self._found(rng, self.contains)
                x = x if len(x) else next(rows for rows in self.rows() if len(rows))
                found.append(x[rng.integers(0, len(x), missing)])
                missing = 0
        return np.concatenate(found)

    def propose(self, rng: np.random.Generator, n: int) -> Encodings:
        """N uniform canonical rows (n, genes) of what the programme counts: nearly all inside, none checked."""
        slot = np.searchsorted(self._cumulative, rng.random(n) * self._cumulative[-1], side="right")
        slot = np.minimum(slot, np.searchsorted(self._cumulative, self._cumulative[-1]))
        out = np.empty((n, len(self.space.genes)), dtype=np.uint8)
        at = 0
        for scenario in self._chain.scenarios:
            here = (slot >= at) & (slot < at + len(scenario.starts))
            if here.any():
                out[here] = self._optimistic.draw(rng, scenario, slot[here] - at)
            at += len(scenario.starts)
        return out

    def rows(self, visits: float = np.inf) -> Iterator[Encodings]:
        """Every network, in chunks, each once: depth first, cut where the programme counts none that go on.

        Args:
            visits: give up after so many partial networks; for one budget none is a dead end.
        """
        axes = self._optimistic.axes
        for scenario in self._chain.scenarios:
            starts = scenario.starts
            stack = [(starts, starts, np.zeros((len(axes), len(starts))), np.zeros((0, len(starts)), dtype=np.intp))]
            tails = scenario.tails()
            while stack:
                starts, shape, spent, picks = stack.pop()
                s = len(picks)
                if s == len(tails):
                    x = self._chain.encode(scenario, starts, list(picks))
                    yield x[self.contains(x)]
                    continue
                tail = tails[s]
                chunk = max(1, _EXPANSION // tail.site.choices)
                if len(shape) > chunk:
                    stack.append((starts[chunk:], shape[chunk:], spent[:, chunk:], picks[:, chunk:]))
                    starts, shape, spent, picks = starts[:chunk], shape[:chunk], spent[:, :chunk], picks[:, :chunk]
                visits -= len(shape)
                if visits < 0:
                    return
                parent, row = tail.expand(shape)
                spent = spent[:, parent]
                for i, axis in enumerate(axes):
                    spent[i] += axis.limit.tables[s][tail.rows[row]]
                keep = self._optimistic.goes_on(tail.following, tail.next[row], spent)
                parent, row, spent = parent[keep], row[keep], spent[:, keep]
                stack.append((starts[parent], tail.next[row], spent, np.vstack([picks[:, parent], tail.rows[row]])))

    def descend(self, rng: np.random.Generator, wanted: Callable[[Encodings], NDArray[np.bool_]]) -> Encoding | None:
        """A row that `wanted` accepts, by simulated annealing of the violation in many chains; None after a bound."""
        x, _ = self._found(rng, wanted)
        return x[rng.integers(0, len(x))] if len(x) else None

    # Parts -----------------------------------------------------------------------------------------------------

    @cached_property
    def _listed(self) -> Encodings | None:
        """Every network, where there are few."""
        if self.at_most > _LISTED:
            return None
        found = list(self.rows())
        return np.concatenate([np.zeros((0, len(self.space.genes)), dtype=np.uint8), *found])

    def _programme(self, rounding: Rounding, *, sampling: bool = False) -> Programme:
        axes = len(self._limits)
        fit = min(axes, len(_MOST_BINS) - 1)
        cells = min(_WORK / self._chain.rows, _NUMBERS / self._chain.pairs)
        bins = int(np.clip(cells ** (1 / max(axes, 1)), _LEAST_BINS[fit], _MOST_BINS[fit]))
        return Programme(self._chain, [Axis(self._chain, a, bins, rounding) for a in self._limits], sampling=sampling)

    def _of_maximum(self, cost: CostModel) -> Distribution:
        """A maximum lies at one of the tables' values, so it is counted there instead of in bins."""
        axes, most = self._coarse(self._limits)
        every = np.unique(np.concatenate([cost.tables[tail.index][tail.rows] for tail in self._chain.tails]))
        every = every[cost.in_unit(every) >= cost.minimum()[0]]
        levels = every[np.linspace(0, len(every) - 1, min(len(every), most)).round().astype(np.intp)]
        along = Programme(self._chain, axes, levels=Levels(cost.tables, levels)).along_last()
        if not along[-1]:
            return self._of_samples(cost)
        taken = np.diff(along, prepend=0.0) > 0
        values, cumulative = cost.in_unit(levels[taken]), along[taken] * (self.count / along[-1])
        return Distribution(values, cumulative, exact=not axes and len(levels) == len(every), stepped=True)

    def _of_samples(self, cost: CostModel) -> Distribution:
        return Distribution.of(cost(self.draw(np.random.default_rng(0), _SAMPLED)))

    def _coarse(self, limits: Sequence[Limit]) -> tuple[list[Axis], int]:
        """Axes of other limits, and the bins there is room for on the axis of a distribution's cost."""
        fit = min(len(limits), len(_METRIC_BINS) - 1)
        bins = np.array([*[_OTHER_BINS[fit]] * len(limits), _METRIC_BINS[fit]])
        too_much = self._chain.rows * float(bins.prod()) / (2.0 * _WORK)
        bins = np.maximum(bins * min(1.0, too_much ** (-1 / len(bins))), _LEAST_BINS[-1]).astype(np.intp)
        axes = [Axis(self._chain, a, int(b), Rounding.NEAREST) for a, b in zip(limits, bins[:-1], strict=True)]
        return axes, int(bins[-1])

    def _range(self, cost: CostModel) -> tuple[int | None, float]:
        """(the limit that is on this very cost or None, an upper bound of Σ tables inside)."""
        for i, limit in enumerate(self._limits):
            if all(np.array_equal(a, b) for a, b in zip(limit.tables, cost.tables, strict=True)):
                return i, limit.value
        top = largest(self._chain, cost.tables)
        for limit in self._limits:
            bound = -least_inside(self._chain, [-t for t in cost.tables], limit)
            top = min(top, bound + ROUNDING * abs(bound))
        return None, top

    def _found(
        self, rng: np.random.Generator, wanted: Callable[[Encodings], NDArray[np.bool_]]
    ) -> tuple[Encodings, Encoding]:
        """What annealing finds: (wanted rows, the row of the smallest violation met)."""
        possible = not self._chain.empty and self.at_most
        x = self.propose(rng, _CHAINS) if possible else self.space.sample(rng, _CHAINS)
        return descend(self.space, x, self.violation, wanted, rng)

    def _check(self) -> None:
        """Refuses budgets that each alone is possible with. A single one only by rounding of the last digit."""
        rng = np.random.default_rng(0)
        if self.at_most and self.contains(self.propose(rng, _PILOT)).any():
            return
        proven = not self.at_most or any(
            least_inside(self._chain, a.tables, b) > a.value + ROUNDING * abs(a.value)
            for a, b in itertools.combinations(self._limits, 2)
        )
        if not proven and self._programme(Rounding.UP).total():
            return
        found, closest = self._found(rng, self.contains)
        if proven or not (len(found) or any(len(x) for x in self.rows(_VISITS))):
            raise self._impossible(closest, "has" if proven else "was found with")

    def _impossible(self, closest: Encoding, verb: str) -> ImpossibleBudget:
        wanted = " and ".join(f"{b.metric} <= {b.limit:g}{b.qualifier}" for b in self.budgets)
        together = " together (each alone is possible)" if len(self.budgets) > 1 else ""
        reached = {b.metric: b.cost.one(closest) for b in self.budgets}
        told = ", ".join(f"{metric} {value:.6g}" for metric, value in reached.items())
        return ImpossibleBudget(
            f"no network of {self.space.name} {verb} {wanted}{together}; the closest found has {told}; raise a budget",
            reached,
        )


def _limit(budget: Budget) -> Limit:
    return Limit(budget.cost.tables, budget.cost.of_tables(budget.limit))


def _mask(budget: Budget) -> Mask:
    """The rows of each site that keep a limit on a maximum."""
    return [budget.cost.in_unit(table) <= budget.limit for table in budget.cost.tables]
