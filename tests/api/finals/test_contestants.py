from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from api.errors import OptionError
from api.finals.contestants import at_the_edge, family_candidates, family_limit_ms, finalist, in_doubt, keeps
from api.finals.spec import BASELINES, FinalSpec, final_options
from api.plans.plan import Plan, build_plan
from api.plans.spec import SearchSpec
from api.settings import Settings
from latency.table import LatencyTable
from latency.verify import Timed
from nas.data.dataset import fit
from nas.errors import MissingOps
from nas.spaces.recipe import SpaceSpec
from nas.trial import Trial, TrialState

FLOPS = 8e6
NARROW = """
input: {{channels: 1, height: {height}, width: {width}}}
classes: 4
stem: {{width: 8}}
stages: [{{width: [8, 16], stride: 2}}]
head: {{width: 32}}
"""


def _plan(table: LatencyTable | None = None, **budgets: float) -> Plan:
    spec = SpaceSpec("mobilenetv2-small", classes=4)
    return build_plan(SearchSpec(spec, budgets=budgets, strategy="random"), table)


def _narrow_plan(height: int, width: int) -> Plan:
    """A search whose pictures are not square."""
    spec = SpaceSpec("narrow.yaml", text=NARROW.format(height=height, width=width))
    return build_plan(SearchSpec(spec, budgets={"flops": 1e9}, strategy="random"), None)


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


@pytest.mark.parametrize("family", BASELINES)
@pytest.mark.parametrize(("height", "width"), [(48, 96), (96, 48), (14, 100)])
def test_a_baseline_sees_as_much_of_a_picture_as_the_search_does(family: str, height: int, width: int) -> None:
    plan = _narrow_plan(height, width)
    found = family_candidates(plan, family, _finalists(plan), measured=False)
    shapes = {c.graph.input.shape for c in found}
    assert len(shapes) > 1
    assert (1, height, width) in shapes
    stripes = np.tile((30 * np.arange(8, dtype=np.uint8)).repeat(32), (256, 1))  # across the longer side
    picture = Image.fromarray(stripes if width > height else stripes.T).resize((8 * width, 8 * height))
    for shape in shapes:
        assert {*np.round(fit(picture, shape) / 30).flat} == set(range(8)), shape


@pytest.mark.parametrize("family", BASELINES)
def test_a_baseline_that_is_not_square_is_named_and_kept_as_what_it_is(family: str) -> None:
    plan = _narrow_plan(48, 96)
    found = family_candidates(plan, family, _finalists(plan), measured=False)
    for c in found:
        _, h, w = c.graph.input.shape
        assert f" at {h}x{w} px" in c.label
        kept = SpaceSpec.from_dict(json.loads(json.dumps(c.space.to_dict())))
        assert kept == c.space
        assert kept.build().graph(c.encoding) == c.graph
    assert {c.graph.input.shape[1:] for c in found} <= {(20, 42), (28, 54), (34, 68), (42, 82), (48, 96)}
    largest = max(found, key=lambda c: c.graph.flops)
    assert largest in at_the_edge(found, None)


def test_resolutions_that_differ_in_one_side_only_are_compared_by_it() -> None:
    """8 x 76 and 8 x 82 are of one height: both sides are even."""
    plan = _narrow_plan(10, 96)
    found = family_candidates(plan, "mobilenetv2", _finalists(plan), measured=False)
    assert {c.graph.input.shape[1:] for c in found} == {(8, 76), (8, 82), (10, 96)}
    small = [c for c in found if c.graph.input.shape[1] == 8]
    assert {c.graph.input.shape[1:] for c in at_the_edge(small, None)} == {(8, 82)}


@pytest.mark.parametrize(
    ("side", "sides"),
    [(6, [8]), (9, [8]), (16, [8, 10, 12, 14, 16]), (32, [14, 18, 22, 28, 32]), (33, [14, 18, 24, 28, 32])],
)
def test_square_pictures_make_the_families_they_always_did(side: int, sides: list[int]) -> None:
    """Stored finals name their trainings by these values."""
    plan = build_plan(SearchSpec(SpaceSpec("mobilenetv2-small", (side,), 4), {"flops": 1e9}, strategy="random"), None)
    spec = family_candidates(plan, "mobilenetv2", _finalists(plan), measured=False)[0].space
    kept = {"name": "mobilenetv2", "resolution": sides, "classes": 4, "channels": 3, "text": None}
    assert spec.to_dict() == kept


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
