from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from api.errors import OptionError
from api.finals.contestants import at_the_edge, family_candidates, family_limit_ms, finalist, in_doubt, keeps
from api.finals.spec import BASELINES, FinalSpec, final_options
from api.plans.plan import Plan, build_plan
from api.plans.spec import SearchSpec
from api.settings import Settings
from latency.table import LatencyTable
from latency.verify import Timed
from nas.errors import MissingOps
from nas.spaces.recipe import SpaceSpec
from nas.trial import Trial, TrialState

FLOPS = 8e6


def _plan(table: LatencyTable | None = None, **budgets: float) -> Plan:
    spec = SpaceSpec("mobilenetv2-small", classes=4)
    return build_plan(SearchSpec(spec, budgets=budgets, strategy="random"), table)


def _finalists(plan: Plan) -> list:
    row = plan.strategy().ask(0)
    trial = Trial(0, tuple(row.tolist()), TrialState.COMPLETE, 0.5, 0.5, {m: c.one(row) for m, c in plan.costs.items()})
    return [finalist(plan, trial)]


@pytest.mark.parametrize("family", BASELINES)
def test_candidates_keep_the_budgets_and_fit_the_task(family: str) -> None:
    plan = _plan(flops=FLOPS, params=400e3)
    found = family_candidates(plan, family, _finalists(plan), measured=False)
    assert found
    for c in found:
        assert c.is_baseline
        assert c.graph.flops == c.costs["flops"] <= FLOPS
        assert c.graph.params == c.costs["params"] <= 400e3
        assert c.graph.output.shape == (4, 1, 1)
        assert c.graph.input.shape[0] == 3
        assert c.space.build().graph(c.encoding) == c.graph
    assert len({c.graph.input.shape for c in found}) > 1


def test_the_edge_is_what_nothing_else_dominates() -> None:
    plan = _plan(flops=FLOPS)
    members = family_candidates(plan, "mobilenetv2", _finalists(plan), measured=False)
    edge = at_the_edge(members, None)

    def dominates(a, b) -> bool:
        if ("early" in a.label) != ("early" in b.label):
            return False
        one, other = ((c.graph.params, c.graph.input.shape[1]) for c in (a, b))
        return one != other and one[0] >= other[0] and one[1] >= other[1]

    assert {c.label for c in edge} == {c.label for c in members if not any(dominates(o, c) for o in members)}


def test_no_member_is_left_out_unless_board_time_is_at_stake() -> None:
    plan = _plan(params=3e6)
    members = family_candidates(plan, "mobilenetv2", _finalists(plan), measured=True)
    assert any("x1.0 at 32 px" in c.label for c in members)  # far more FLOPs than the finalist


def test_a_family_without_a_network_inside_has_no_candidates() -> None:
    plan = _plan(params=30e3)
    assert family_candidates(plan, "mobilenetv2", _finalists(plan), measured=False) == []


def test_a_measured_latency_decides_before_a_predicted_one(make_table: Callable[..., LatencyTable]) -> None:
    space = SpaceSpec("mobilenetv2-small", classes=4).build()
    plan = _plan(make_table(space), latency_ms=30.0)
    [c] = _finalists(plan)
    assert keeps(c, 30.0)
    slow = dataclasses.replace(c, timed=Timed(30.5, 31.0, 1.0, 9))
    assert not keeps(slow, 30.0)
    assert keeps(slow, None)
    assert slow.latency_ms == 30.5


def test_a_baseline_measured_above_the_limit_by_less_than_noise_takes_part() -> None:
    members = family_candidates(_plan(flops=FLOPS), "mobilenetv2", _finalists(_plan()), measured=False)
    large = max(at_the_edge(members, None), key=lambda c: c.graph.params)
    timed = [dataclasses.replace(c, timed=Timed(20.0, 21.0, 2.0, 9)) for c in members if c is not large]

    def edge(latency_ms: float, noise_pct: float | None) -> set[str]:
        own = dataclasses.replace(large, timed=Timed(latency_ms, 31.0, noise_pct, 9))
        assert in_doubt(own, 30.0) == (own.label in {c.label for c in at_the_edge([own], 30.0)} and latency_ms > 30)
        return {c.label for c in at_the_edge([*timed, own], 30.0)}

    assert large.label in edge(30.5, noise_pct=2.0)
    assert large.label not in edge(30.5, noise_pct=1.0)
    assert large.label not in edge(30.5, noise_pct=None)
    assert large.label in edge(29.5, noise_pct=0.1)


def test_a_soft_latency_binds_baselines_to_the_slowest_finalist(make_table: Callable[..., LatencyTable]) -> None:
    plan = _plan(make_table(SpaceSpec("mobilenetv2-small", classes=4).build()), latency_ms=30.0)
    slow = dataclasses.replace(_finalists(plan)[0], timed=Timed(35.0, 36.0, 1.0, 9))
    assert family_limit_ms(plan, [slow]) == 30
    soft = dataclasses.replace(plan, spec=dataclasses.replace(plan.spec, reward="soft"))
    assert family_limit_ms(soft, [slow]) == 35
    assert family_limit_ms(_plan(), [slow]) is None


def test_a_table_without_a_familys_ops_cannot_price_it(make_table: Callable[..., LatencyTable]) -> None:
    plan = _plan(make_table(SpaceSpec("mobilenetv2-small", classes=4).build()), latency_ms=30.0)
    with pytest.raises(MissingOps):
        family_candidates(plan, "shufflenetv2", _finalists(plan), measured=False)
    assert family_candidates(plan, "shufflenetv2", _finalists(plan), measured=True)


def test_options_of_the_final_win_over_the_searchs_and_those_over_the_defaults(settings: Settings) -> None:
    search = SearchSpec(SpaceSpec("mobilenetv2-small"), evaluator_options={"data": "digits", "epochs": 2, "lr": 0.1})
    found = final_options(search, {"ema": 0.5}, settings)
    assert (found["epochs"], found["lr"], found["ema"], found["augment"]) == (60, 0.1, 0.5, "rand")
    table = dataclasses.replace(search, evaluator="table", evaluator_options={})
    with pytest.raises(OptionError, match="evaluator table"):
        final_options(table, {}, settings)


def test_numbers_that_cannot_be() -> None:
    with pytest.raises(OptionError, match="seeds must be at least 1"):
        FinalSpec(seeds=0)
