"""`--model-mb` and `--peak-memory-mb`: in searches, fronts, predictions and at the service."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from api.store import Store
from nas.memory import model_mb, model_size_model, peak_memory_mb, peak_memory_model
from nas.pareto import hypervolume
from nas.spaces import build_space
from nas.trial import Trial

Nas = Callable[..., tuple[int, str, str]]
NAME = "nas-bench-macro"
MACRO = build_space(NAME)
SIZE, PEAK = model_size_model(MACRO), peak_memory_model(MACRO)
ROWS = np.concatenate(list(MACRO.enumerate()))
LIMITS = {"model_mb": float(np.quantile(SIZE(ROWS), 0.3)), "peak_memory_mb": float(np.quantile(PEAK(ROWS), 0.5))}
BOTH = ("--model-mb", LIMITS["model_mb"], "--peak-memory-mb", LIMITS["peak_memory_mb"])


def trials(name: str) -> list[Trial]:
    with Store.open() as store:
        return list(store.searches.log(store.searches.get(name).id).load())


@pytest.fixture
def search(nas: Nas, benchmark_table: Path) -> Callable[..., tuple[int, str, str]]:
    """Runs a search by recorded accuracies."""
    return lambda *arguments: nas("search", "-s", NAME, "--evaluator", "table", "--data", benchmark_table, *arguments)


@pytest.mark.parametrize("strategy", ["guided", "annealing", "random", "tpe"])
def test_every_trial_keeps_both(search: Callable[..., tuple[int, str, str]], strategy: str) -> None:
    status, out, err = search(*BOTH, "--strategy", strategy, "--trials", "15", "--name", "mine", "--json")
    assert status == 0, err
    made = trials("mine")
    assert len(made) == 15
    for trial in made:
        graph = MACRO.graph(trial.encoding)
        assert trial.costs["model_mb"] == model_mb(graph) <= LIMITS["model_mb"]
        assert trial.costs["peak_memory_mb"] == peak_memory_mb(graph) <= LIMITS["peak_memory_mb"]
    best = json.loads(out)["best"]
    graph = MACRO.graph(MACRO.parse(best["encoding"]))
    assert (best["model_mb"], best["peak_memory_mb"]) == (model_mb(graph), peak_memory_mb(graph))


def test_people_see_them_where_they_were_asked_for(nas: Nas, search: Callable[..., tuple[int, str, str]]) -> None:
    out = search(*BOTH, "--trials", "3", "--name", "asked")[1]
    assert "MB of weights" in out
    assert "MB of activations at the peak" in out
    assert "peak_memory_mb <= " in nas("searches", "show", "asked")[1]
    out = search("--trials", "3", "--name", "plain")[1]
    assert "MB" not in out
    listed = json.loads(nas("searches", "show", "plain", "--json")[1])["listed"]
    assert {t["peak_memory_mb"] for t in listed} == {None}


def test_what_cannot_be_is_one_line_with_the_smallest(search: Callable[..., tuple[int, str, str]]) -> None:
    for arguments, message in (
        (("--peak-memory-mb", "0.1"), "smallest achievable is 0.196608 MB"),
        (("--model-mb", "0.1"), "smallest achievable is "),
        (("--model-mb", "nan"), "the budget model_mb must be a positive number"),
        (("--peak-memory-mb", "0"), "the budget peak_memory_mb must be a positive number"),
    ):
        status, out, err = search(*arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err


@pytest.mark.parametrize("by", ["model_mb", "peak_memory_mb"])
def test_fronts_over_them(nas: Nas, search: Callable[..., tuple[int, str, str]], by: str) -> None:
    model = SIZE if by == "model_mb" else PEAK
    status, _, err = search("--front", by, "--trials", "20", "--name", "front")
    assert status == 0, err
    assert search("--trials", "20", "--name", "plain")[0] == 0  # has no such cost in its log
    found = {n: json.loads(nas("searches", "front", n, "--by", by, "--json")[1]) for n in ("front", "plain")}
    assert json.loads(nas("searches", "front", "front", "--json")[1])["by"] == by
    for name, told in found.items():
        made = trials(name)
        costs, accuracies = model(np.array([t.encoding for t in made], np.uint8)), [t.accuracy or 0.0 for t in made]
        ends = {"smallest": model.minimum()[0], "largest": model.maximum()[0]}
        assert {k: told[k] for k in ends} == ends
        assert told["unit"] == "MB"
        assert told["hypervolume"] == hypervolume(costs, accuracies, **ends)
        for entry in told["front"]:
            assert entry["cost"] == model.one(MACRO.parse(entry["encoding"]))
    spread = [len({t["cost"] for t in found[name]["front"]}) for name in ("front", "plain")]
    assert spread[0] >= spread[1]
    answer = json.loads(nas("searches", "front", "front", "--at", str(model.minimum()[0]), "--json")[1])["answers"][0]
    assert answer["best"] is None or answer["best"]["cost"] == model.minimum()[0]


def test_a_search_starts_from_one_without_them_and_is_resumed(
    nas: Nas, search: Callable[..., tuple[int, str, str]]
) -> None:
    assert search("--trials", "8", "--name", "first")[0] == 0
    status, _, err = search(*BOTH, "--from", "first", "--trials", "6", "--name", "second")
    assert status == 0, err
    assert nas("search", "--resume", "second", "--trials", "9")[0] == 0
    made = trials("second")
    assert len(made) == 9
    assert all(t.costs[metric] <= limit for t in made for metric, limit in LIMITS.items())


def test_a_stored_spec_without_them_is_resumed_without_them(
    nas: Nas, search: Callable[..., tuple[int, str, str]]
) -> None:
    assert search("--flops", "5e7", "--trials", "4", "--name", "old")[0] == 0
    assert nas("search", "--resume", "old", "--trials", "6")[0] == 0
    assert {frozenset(t.costs) for t in trials("old")} == {frozenset({"flops", "params"})}


def test_predictions_tell_them(nas: Nas) -> None:
    rows = ["0,0,0,0,0,0,0,0", "2,1,2,0,1,2,0,1"]
    lines = [json.loads(line) for line in nas("predict", "-s", NAME, "--memory", "--json", *rows)[1].splitlines()]
    assert [list(line) for line in lines] == [["encoding", "flops", "params", "model_mb", "peak_memory_mb"]] * 2
    for row, line in zip(rows, lines, strict=True):
        graph = MACRO.graph(MACRO.parse(row))
        assert (line["model_mb"], line["peak_memory_mb"]) == (model_mb(graph), peak_memory_mb(graph))
    shown = nas("predict", "-s", NAME, "--memory", rows[1])[1]
    assert f"{lines[1]['model_mb']:.4g} MB" in shown
    assert "peak of activations" in shown
    assert "MB" not in nas("predict", "-s", NAME, rows[1])[1]
    decoded: dict[str, Any] = json.loads(nas("spaces", "show", NAME, rows[1], "--json")[1])
    assert {k: decoded[k] for k in ("model_mb", "peak_memory_mb")} == {
        k: lines[1][k] for k in ("model_mb", "peak_memory_mb")
    }
    by_op = json.loads(nas("predict", "-s", NAME, "--ops", "--json", rows[1])[1])
    assert by_op["peak_memory_mb"] == lines[1]["peak_memory_mb"]


def test_fronts_over_them_are_served(
    nas: Nas, search: Callable[..., tuple[int, str, str]], served: Callable[..., httpx.Response]
) -> None:
    assert search("--trials", "5", "--name", "mine")[0] == 0
    with Store.open() as store:
        path = f"searches/{store.searches.get('mine').id}/front"
        for by in LIMITS:
            told = served(store, path, by=by).json()
            assert told == json.loads(nas("searches", "front", "mine", "--by", by, "--json")[1])
