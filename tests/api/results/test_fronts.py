"""`--front` and `nas searches front`: one search, the best network inside every budget."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from results import refused

from api.store import Store
from latency.predict import latency_model
from latency.table import LatencyTable
from nas.cost import flops_model, params_model
from nas.pareto import hypervolume, pareto_front
from nas.spaces import build_space
from nas.trial import Trial

Nas = Callable[..., tuple[int, str, str]]
NAME = "nas-bench-macro"
MACRO = build_space(NAME)


def answer(nas: Nas, *arguments: object) -> dict[str, Any]:
    status, out, err = nas("searches", "front", *arguments, "--json")
    assert (status, out.count("\n")) == (0, 1), err
    found: dict[str, Any] = json.loads(out)
    return found


def complete(name: str) -> list[Trial]:
    with Store.open() as store:
        return list(store.searches.log(store.searches.get(name).id).load())


@pytest.fixture
def search(nas: Nas, benchmark_table: Path) -> Callable[..., None]:
    """Runs a search by recorded accuracies."""

    def run(*arguments: object) -> None:
        command = ("search", "-s", NAME, "--evaluator", "table", "--data", benchmark_table, *arguments)
        status, _, err = nas(*command)
        assert status == 0, err

    return run


def test_a_front_is_searched_told_and_shown(nas: Nas, benchmark_table: Path) -> None:
    common = ("search", "-s", NAME, "--evaluator", "table", "--data", benchmark_table, "--trials", "24")
    status, out, err = nas(*common, "--front", "flops", "--name", "front")
    assert status == 0, err
    assert "front of accuracy against flops" in err
    assert "nas searches front front" in out
    assert "of accuracy against flops" in nas("searches", "show", "front")[1]
    status, out, _ = nas(*common, "--name", "best", "--json")
    assert "searches front" not in nas("searches", "show", "best")[1]
    with Store.open() as store:
        assert [store.searches.get(n).spec["front"] for n in ("front", "best")] == ["flops", None]
    # The other one trains only what is most accurate.
    volume = {name: answer(nas, name, "--by", "flops")["hypervolume"] for name in ("front", "best")}
    assert volume["front"] > volume["best"]


def test_the_front_is_that_of_the_complete_trials(nas: Nas, search: Callable[..., None]) -> None:
    search("--strategy", "random", "--trials", "30", "--name", "mine")
    trials = complete("mine")
    cost = [t.costs["params"] for t in trials]
    limits = sorted(cost)[3] - 1, float(np.median(cost)), max(cost)
    found = answer(nas, "mine", "--by", "params", *(x for limit in limits for x in ("--at", limit)))
    accuracy = [t.accuracy for t in trials]
    assert (found["search"], found["by"], found["unit"], found["confidence"]) == ("mine", "params", "parameters", None)
    assert [t["number"] for t in found["front"]] == pareto_front(cost, accuracy).tolist()
    assert found["front"][0] == {
        "number": (cheapest := trials[int(np.argmin(cost))]).number,
        "accuracy": cheapest.accuracy,
        "cost": cheapest.costs["params"],
        "encoding": ",".join(map(str, cheapest.encoding)),
    }
    model = params_model(MACRO)
    ends = {"smallest": model.minimum()[0], "largest": model.maximum()[0]}
    assert {k: found[k] for k in ends} == ends
    assert found["hypervolume"] == hypervolume(cost, accuracy, **ends)
    for limit, told in zip(limits, found["answers"], strict=True):
        best = max((t for t in trials if t.costs["params"] <= limit), key=lambda t: (t.accuracy, -t.number))
        assert (told["limit"], told["best"]["number"]) == (limit, best.number)


def test_more_trials_never_make_the_hypervolume_smaller(nas: Nas, search: Callable[..., None]) -> None:
    search("--strategy", "random", "--trials", "3", "--name", "mine")
    found = [answer(nas, "mine")]
    for trials in ("6", "12", "24"):
        assert nas("search", "--resume", "mine", "--trials", trials)[0] == 0
        found.append(answer(nas, "mine"))
    volumes = [f["hypervolume"] for f in found]
    assert volumes == sorted(volumes)
    assert len(set(volumes)) > 1
    assert len({(f["smallest"], f["largest"]) for f in found}) == 1


def test_people_see_a_row_a_trial_and_an_answer_a_budget(nas: Nas, search: Callable[..., None]) -> None:
    search("--strategy", "random", "--trials", "12", "--name", "mine")
    found = answer(nas, "mine", "--at", "5e7", "--at", "1e6")
    assert found["answers"][1]["best"] is None
    status, out, _ = nas("searches", "front", "mine", "--at", "5e7", "--at", "1e6")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split() == ["trial", "accuracy", "flops", "encoding"]
    assert [int(line.split()[0]) for line in lines[1 : 1 + len(found["front"])]] == [
        t["number"] for t in found["front"]
    ]
    assert f"hypervolume {100 * found['hypervolume']:.2f} %" in lines[-3]
    best = found["answers"][0]["best"]
    assert lines[-2] == f"at most 50 M multiply-adds: trial {best['number']}, {100 * best['accuracy']:.2f} %"
    assert lines[-1] == "at most 1 M multiply-adds: no trial keeps it"


def test_the_cost_is_the_one_asked_for_else_the_front_or_the_first_budget(
    nas: Nas, search: Callable[..., None]
) -> None:
    search("--trials", "3", "--front", "params", "--flops", "8e7", "--name", "front")
    search("--trials", "3", "--params", "2e6", "--flops", "8e7", "--name", "budgets")
    search("--trials", "3", "--name", "none")
    assert answer(nas, "front")["by"] == "params"
    assert answer(nas, "front", "--by", "flops")["largest"] == 8e7
    assert answer(nas, "front")["largest"] == params_model(MACRO).maximum()[0]
    found = answer(nas, "budgets")
    assert (found["by"], found["largest"]) == ("flops", 8e7)
    assert answer(nas, "none")["by"] == "flops"


def test_a_latency_is_held_with_confidence(
    nas: Nas, home: Path, search: Callable[..., None], make_table: Callable[..., LatencyTable]
) -> None:
    table = make_table(MACRO, residuals=tuple(np.random.default_rng(0).normal(0, 0.05, 48)))
    with Store.open() as store:
        store.tables.add(table)
    sure = latency_model(table, MACRO, quantile=0.95)
    limit = float(np.median(sure(MACRO.sample(np.random.default_rng(1), 200))))
    search("--trials", "20", "--front", "latency_ms", "--table", table.digest, "--name", "mine")
    search("--trials", "8", "--table", table.digest, "--latency-ms", limit, "--confidence", "0.5", "--name", "even")
    trials = complete("mine")
    dearest = max(trials, key=lambda t: t.costs["latency_ms"])
    predicted = dearest.costs["latency_ms"]
    upper = sure.one(np.array(dearest.encoding, dtype=np.uint8))
    found = answer(nas, "mine", "--at", predicted, "--at", upper)
    assert (found["by"], found["unit"], found["confidence"]) == ("latency_ms", "ms", 0.95)
    for told in found["answers"]:
        row = MACRO.parse(told["best"]["encoding"])
        assert sure.one(row) <= told["limit"]
    assert found["answers"][0]["best"]["number"] != dearest.number
    assert "ms with confidence 0.95: trial" in nas("searches", "front", "mine", "--at", str(upper))[1]
    # The search's own budget is answered by its own best trial, with its own confidence.
    found = answer(nas, "even", "--at", limit)
    best = max(complete("even"), key=lambda t: (t.accuracy, -t.number))
    assert (found["confidence"], found["answers"][0]["best"]["number"]) == (0.5, best.number)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--front", "flops", "--strategy", "annealing"), "--front needs what only the strategy guided knows"),
        (("--front", "speed"), "no metric 'speed' for a front; there are latency_ms, flops, params"),
        (("--front", "latency_ms"), "a front over latency needs a latency table"),
        (("--front", "flops", "--stop-when", "0.01"), "--stop-when judges the one best network"),
        (("--front", "latency_ms", "--reward", "soft", "--latency-ms", "3"), "holds the latency already"),
    ],
)
def test_fronts_that_cannot_be_are_one_line(
    nas: Nas, benchmark_table: Path, arguments: tuple[str, ...], message: str
) -> None:
    command = ("search", "-s", NAME, "--evaluator", "table", "--data", benchmark_table, *arguments)
    assert message in refused(nas(*command))
    with Store.open() as store:
        assert store.searches.page() == []


def test_questions_without_an_answer_are_one_line(nas: Nas, search: Callable[..., None]) -> None:
    search("--max-hours", "1e-9", "--name", "empty")
    assert "no complete trial yet; run it: nas search --resume empty" in refused(nas("searches", "front", "empty"))
    search("--trials", "2", "--name", "mine")
    assert "no search 'nope'" in refused(nas("searches", "front", "nope"))
    assert "no metric 'speed'" in refused(nas("searches", "front", "mine", "--by", "speed"))
    assert "had no latency table" in refused(nas("searches", "front", "mine", "--by", "latency_ms"))
    for limit in ("nan", "0", "-3", "inf"):
        assert "a budget must be a positive number" in refused(nas("searches", "front", "mine", f"--at={limit}"))


def test_fronts_are_served(nas: Nas, search: Callable[..., None], served: Callable[..., httpx.Response]) -> None:
    search("--trials", "6", "--name", "mine")
    search("--max-hours", "1e-9", "--name", "empty")
    too_little = flops_model(MACRO).minimum()[0] / 2
    with Store.open() as store:
        mine, empty = (f"searches/{store.searches.get(name).id}/front" for name in ("mine", "empty"))
        assert served(store, mine).json() == answer(nas, "mine")
        asked = served(store, mine, by="params", at=[5e5, 3e6])
        assert asked.json() == answer(nas, "mine", "--by", "params", "--at", "5e5", "--at", "3e6")
        assert served(store, mine, at=too_little).json()["answers"] == [{"limit": too_little, "best": None}]
        for wrong, status in (
            (served(store, mine, by="speed"), 422),
            (served(store, mine, at="nan"), 422),
            (served(store, empty), 422),
            (served(store, "searches/99/front"), 404),
        ):
            assert (wrong.status_code, wrong.headers["content-type"]) == (status, "application/problem+json")
