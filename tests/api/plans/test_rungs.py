"""Rungs from the command line to the REST service."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import nas.evaluators
from api.plans.spec import SearchSpec
from api.schemas.trials import TrialOut
from api.store import Store
from nas.errors import SearchError
from nas.evaluator import Architecture, Evaluation, Evaluator, Progress, Report
from nas.rungs import Rungs
from nas.spaces.recipe import SpaceSpec

Nas = Callable[..., tuple[int, str, str]]
MACRO = "nas-bench-macro"


class Stepped(Evaluator):
    """Three epochs, in this process."""

    name = "stepped"
    isolated = False
    steps = 3

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        accuracy = float(np.mean(architecture.encoding)) / 2
        for step in (1, 2, 3):
            report(Progress(step, 3, {"val_accuracy": accuracy * step / 3}))
        return Evaluation(accuracy)


@pytest.fixture(autouse=True)
def stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(nas.evaluators._BUILT_IN, "stepped", (__name__, "Stepped"))


SEARCH = ("search", "-s", MACRO, "--evaluator", "stepped", "--strategy", "random", "--trials", "20", "--name", "mine")


def test_a_search_with_rungs_is_made_shown_and_served(nas: Nas, home: Path) -> None:
    status, out, err = nas(*SEARCH, "--rungs", "1,2", "--eta", "2", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["pruned"] > 0
    assert found["complete"] + found["pruned"] == 20
    assert "stopped after 1" in err
    with Store.open() as store:
        record = store.searches.get("mine")
        assert (record.spec["rungs"], record.spec["eta"]) == ([1, 2], 2.0)
        trials = list(store.searches.log(record.id).load())
        rows = [store.trials.one(record.id, trial.number) for trial in trials]
        served = [json.loads(TrialOut(**row).model_dump_json()) for row in rows]
    assert [t["state"] for t in served] == [t.state.value for t in trials]
    assert [t["stop_below"] for t in served] == [t.stop_below for t in trials]
    assert served[0]["stop_below"] == {"1": None, "2": None}
    pruned = next(t for t in trials if t.pruned_at)
    shown = nas("searches", "show", "mine", "--trials")[1]
    assert f"pruned at {pruned.pruned_at}" in shown
    assert "1, 2: the best 1/2 go on" in shown
    assert f"{found['complete']} complete, {found['pruned']} pruned, 0 failed of 20" in shown
    assert "20/20" in nas("searches", "list")[1]


def test_going_on_with_more_trials_is_the_same_as_all_at_once(nas: Nas, home: Path) -> None:
    nas(*SEARCH, "--rungs", "1,2", "--parallel", "2")
    nas(*(a if a != "20" else "9" for a in SEARCH[:-1]), "part", "--rungs", "1,2", "--parallel", "2")
    assert nas("search", "--resume", "part", "--trials", "20")[0] == 0
    with Store.open() as store:
        first, second = (
            [(t.number, t.encoding, t.state, t.accuracy, t.stop_below) for t in store.searches.log(n).load()]
            for n in (1, 2)
        )
    assert first == second
    assert len(first) == 20


def test_without_rungs_nothing_is_said_of_them(nas: Nas) -> None:
    status, out, _ = nas(*SEARCH)
    assert status == 0
    assert "rung" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rungs", "2,x"), "--rungs is '2,x'; it must be epochs joined by commas"),
        (("--rungs", "2,1"), "rungs are 2,1; they must be rising numbers"),
        (("--rungs", "1,3"), "the rung at epoch 3 stops nothing, because an evaluation ends after 3"),
        (("--rungs", "1", "--eta", "1"), "eta is 1; it must be above 1"),
        (("--eta", "2"), "give both"),
    ],
)
def test_mistakes_are_told_before_anything_is_stored(nas: Nas, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = nas(*SEARCH, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    with Store.open() as store:
        assert store.searches.page() == []


def test_a_table_has_no_rungs(nas: Nas, benchmark_table: Path) -> None:
    command = ("search", "-s", MACRO, "--evaluator", "table", "--data", benchmark_table, "--rungs", "1")
    assert "evaluator table reports no steps" in nas(*command)[2]


def test_the_dry_run_says_at_most(nas: Nas) -> None:
    assert "at most" in nas(*SEARCH, "--rungs", "1", "--dry-run")[1]
    assert "at most" not in nas(*SEARCH, "--dry-run")[1]


def test_specs_travel_and_old_ones_load() -> None:
    spec = SearchSpec(SpaceSpec(MACRO), rungs=(2, 4), eta=2.5)
    assert spec.build_rungs() == Rungs((2, 4), 2.5)
    stored = json.loads(json.dumps(spec.to_dict()))
    assert stored == spec.to_dict()
    assert SearchSpec.from_dict(stored) == spec
    for key in ("rungs", "eta"):
        del stored[key]
    assert SearchSpec.from_dict(stored) == SearchSpec(SpaceSpec(MACRO))
    with pytest.raises(SearchError, match="rungs are 0"):
        SearchSpec(SpaceSpec(MACRO), rungs=(0,))
