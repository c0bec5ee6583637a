from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.plans.feasibility import build_budgets
from api.plans.plan import build_plan
from api.plans.spec import SearchSpec
from api.store import Store
from latency.predict import latency_model
from latency.table import LatencyTable
from nas.cost import flops_model, params_model
from nas.memory import model_mb, model_size_model, peak_memory_mb, peak_memory_model
from nas.space import Encodings
from nas.spaces import build_space
from nas.spaces.recipe import SpaceSpec

Nas = Callable[..., tuple[int, str, str]]
NAME = "nas-bench-macro"
MACRO = build_space(NAME)
ROWS: Encodings = np.unique(MACRO.canonical(np.concatenate(list(MACRO.enumerate()))), axis=0)


def answer(nas: Nas, *arguments: object) -> dict[str, Any]:
    status, out, err = nas("spaces", "feasible", NAME, *arguments, "--json")
    assert (status, out.count("\n")) == (0, 1), err
    found: dict[str, Any] = json.loads(out)
    return found


def refused(nas: Nas, *arguments: object) -> str:
    status, out, err = nas("spaces", "feasible", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    return err


@pytest.fixture
def table(home: Path, make_table: Callable[..., LatencyTable]) -> LatencyTable:
    """Stored, of board `here`, with intervals."""
    made = make_table(MACRO, residuals=tuple(np.random.default_rng(0).normal(0, 0.05, 48)))
    with Store.open() as store:
        store.tables.add(made)
    return made


def test_counts_extremes_and_histograms_are_those_of_all_networks(nas: Nas) -> None:
    flops, params = flops_model(MACRO)(ROWS), params_model(MACRO)(ROWS)
    limits = float(np.quantile(flops, 0.4)), float(np.quantile(params, 0.3))
    about = answer(nas, "--flops", limits[0], "--params", limits[1])
    inside = (flops <= limits[0]) & (params <= limits[1])
    assert about["networks"] == len(ROWS)
    assert about["inside"] == {"at_least": inside.sum(), "about": inside.sum(), "at_most": inside.sum()}
    assert about["share"]["about"] == inside.mean()
    assert about["budgets"]["flops"] == {"limit": limits[0], "smallest_possible": flops.min()}
    assert list(about["metrics"]) == ["flops", "params", "model_mb", "peak_memory_mb"]
    for metric, values in (("flops", flops), ("params", params)):
        found = about["metrics"][metric]
        assert (found["min"], found["max"]) == (values.min(), values.max())
        assert found["quantiles"]["0.5"] == np.sort(values)[(len(values) - 1) // 2]
        assert found["quantiles_inside"]["0.99"] <= values[inside].max()
        edges = np.array(found["histogram"]["edges"])
        edges[-1] += 1  # the last interval holds its upper edge
        assert found["histogram"]["networks"] == np.histogram(values, edges)[0].tolist()
        assert found["histogram"]["inside"] == np.histogram(values[inside], edges)[0].tolist()
    example = MACRO.parse(about["example"]["encoding"])
    assert about["example"]["flops"] == MACRO.graph(example).flops
    assert about["example"]["flops"] <= limits[0]
    assert about["example"]["params"] <= limits[1]


def test_model_size_and_peak_memory_are_budgets_and_metrics(nas: Nas) -> None:
    size, peak = model_size_model(MACRO)(ROWS), peak_memory_model(MACRO)(ROWS)
    limits = float(np.quantile(size, 0.6)), float(np.quantile(peak, 0.5, method="lower"))
    about = answer(nas, "--model-mb", limits[0], "--peak-memory-mb", limits[1])
    inside = (size <= limits[0]) & (peak <= limits[1])
    assert 0 < inside.sum() < len(ROWS)
    assert about["inside"] == {"at_least": inside.sum(), "about": inside.sum(), "at_most": inside.sum()}
    assert about["budgets"]["peak_memory_mb"] == {"limit": limits[1], "smallest_possible": peak.min()}
    for metric, values in (("model_mb", size), ("peak_memory_mb", peak)):
        found = about["metrics"][metric]
        assert (found["unit"], found["min"], found["max"]) == ("MB", values.min(), values.max())
        assert sum(found["histogram"]["networks"]) == len(ROWS)
        assert sum(found["histogram"]["inside"]) == inside.sum()
        assert found["quantiles"]["0.5"] == np.sort(values)[(len(values) - 1) // 2]
    graph = MACRO.graph(MACRO.parse(about["example"]["encoding"]))
    assert (about["example"]["model_mb"], about["example"]["peak_memory_mb"]) == (
        model_mb(graph),
        peak_memory_mb(graph),
    )
    assert about["example"]["peak_memory_mb"] <= limits[1]
    told = nas("spaces", "feasible", NAME, "--peak-memory-mb", limits[1])[1]
    assert "MB at the peak" in told
    assert told.count(" to ") == 3  # histograms: FLOPs, parameters and the one with a budget
    assert "smallest achievable is 0.196608 MB" in refused(nas, NAME, "--peak-memory-mb", "0.19")
    assert "smallest achievable" in refused(nas, NAME, "--model-mb", "0.01")


def test_a_latency_budget_is_held_with_confidence(nas: Nas, table: LatencyTable) -> None:
    sure, even = (latency_model(table, MACRO, quantile=q)(ROWS) for q in (0.95, None))
    limit = float(np.quantile(sure, 0.5))
    about = answer(nas, "--table", "here", "--latency-ms", limit)
    assert (about["board"], about["table"], about["confidence"]) == ("here", table.digest, 0.95)
    assert about["inside"]["about"] == (sure <= limit).sum()
    assert about["budgets"]["latency_ms"]["smallest_possible"] == pytest.approx(sure.min())
    assert about["metrics"]["latency_ms"]["min"] == pytest.approx(even.min())
    assert about["example"]["latency_ms"] < limit
    as_predicted = answer(nas, "--table", table.digest, "--latency-ms", limit, "--confidence", 0.5)
    assert as_predicted["inside"]["about"] > about["inside"]["about"]
    unlimited = answer(nas, "--table", "here")
    assert unlimited["budgets"] == {}
    assert unlimited["inside"]["about"] == unlimited["networks"] == len(ROWS)


def test_people_see_a_bar_per_interval_and_an_example(nas: Nas) -> None:
    status, out, _ = nas("spaces", "feasible", NAME, "--flops", "5e7")
    assert status == 0
    share = (flops_model(MACRO)(ROWS) <= 5e7).mean()
    assert f"networks, {100 * share:.3g} %" in out
    assert "inside flops <= 50 M" in out
    assert out.count("█") > 20
    assert out.count("░") > 20
    example = out.split("example: ")[1].split(" ")[0]
    assert flops_model(MACRO).one(MACRO.parse(example)) <= 5e7
    assert "░" not in nas("spaces", "feasible", NAME, "--resolution", "64")[1]


def test_what_cannot_be_is_one_line(nas: Nas, table: LatencyTable) -> None:
    assert "smallest achievable" in refused(nas, NAME, "--flops", "1000")
    told = refused(nas, NAME, "--table", "here", "--latency-ms", "1e-6")
    assert "with confidence 0.95" in told
    assert "needs a latency table" in refused(nas, NAME, "--latency-ms", "3")
    assert "--confidence" in refused(nas, NAME, "--flops", "5e7", "--confidence", "0.9")
    assert "must be a positive number" in refused(nas, NAME, "--flops", "-1")
    assert "must be a positive number" in refused(nas, NAME, "--flops", "nan")
    refused(nas, "no-such-space")
    refused(nas, NAME, "--board", "nowhere")


def test_a_search_has_the_same_costs_and_budgets(table: LatencyTable) -> None:
    limits = {"latency_ms": 1e3, "flops": 6e7, "peak_memory_mb": 0.7}
    spec = SearchSpec(SpaceSpec.of(NAME), limits, evaluator="table", confidence=0.9)
    costs, budgets = build_budgets(spec, MACRO, table)
    plan = build_plan(spec, table)
    assert list(costs) == list(plan.costs)
    for ours, theirs in zip(budgets, plan.budgets, strict=True):
        assert (ours.metric, ours.limit, ours.qualifier) == (theirs.metric, theirs.limit, theirs.qualifier)
        assert ours.cost(ROWS[:50]).tolist() == theirs.cost(ROWS[:50]).tolist()
