"""Plan: a search with its parts built and checked, before anything is stored, trained or run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from api.errors import OptionError
from api.networks.spaces import kept_space
from api.plans.earlier import revalue
from api.plans.feasibility import build_budgets
from api.plans.spec import SearchSpec
from latency.interval import DEFAULT_CONFIDENCE, has_intervals
from latency.table import LatencyTable
from nas.cost import CostModel
from nas.objective import Budget
from nas.space import SearchSpace
from nas.strategies import build_strategy
from nas.strategy import Strategy
from nas.trial import Trial


@dataclass(frozen=True)
class Plan:
    """A search with its parts built and checked; nothing is stored yet.

    Attributes:
        spec: what was asked.
        space: built from it.
        table: the latency table pinned, if any.
        costs: metric -> model (`build_budgets`).
        budgets: the hard limits, each possible; a latency's with the spec's confidence.
        earlier: trials of an earlier search that the strategy learns from, with what they are worth here.
    """

    spec: SearchSpec
    space: SearchSpace
    table: LatencyTable | None
    costs: Mapping[str, CostModel]
    budgets: tuple[Budget, ...]
    earlier: tuple[Trial, ...] = ()

    def strategy(self) -> Strategy:
        """A fresh strategy."""
        options = dict(self.spec.strategy_options)
        if self.spec.front is not None:
            options["front"] = self.costs[self.spec.front]
        found = build_strategy(self.spec.strategy, self.space, self.budgets, self.spec.seed, **options)
        if self.earlier:
            found.learn(self.earlier)
        return found


def build_plan(spec: SearchSpec, table: LatencyTable | None, earlier: Sequence[Trial] = ()) -> Plan:
    """Build and check everything a search needs, before anything is stored or trained.

    Args:
        spec: what is asked.
        table: prices latency, if it is to be priced.
        earlier: the trials `spec.earlier` names (`earlier_trials`).

    Raises:
        ImpossibleBudget: with the smallest achievable value.
        LightnasError: whatever else cannot be.
    """
    plan = plan_of(spec, table, earlier)
    plan.strategy()  # tells wrong options, and budgets that are possible one by one but not together
    return plan


def plan_of(spec: SearchSpec, table: LatencyTable | None, earlier: Sequence[Trial]) -> Plan:
    """A plan whose strategy's options were checked before, or are not needed."""
    space = kept_space(spec.space).space
    costs, budgets = build_budgets(spec, space, table)
    if spec.front is not None and spec.front not in costs:
        raise OptionError(
            "a front over latency needs a latency table: name a profiled board with --board, or a --table"
        )
    return Plan(spec, space, table, costs, budgets, tuple(revalue(earlier, spec, costs)))


def default_confidence(table: LatencyTable) -> float | None:
    """With which confidence a latency budget holds where the user does not say; None for a table without intervals."""
    return DEFAULT_CONFIDENCE if has_intervals(table) else None
