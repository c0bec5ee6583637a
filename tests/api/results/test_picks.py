"""What a strategy thinks of its search: where it stops (`--stop-when`), which trial is taken, where it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from results import refused, trials_of

from api.compose import run_search
from api.errors import OptionError
from api.results.picks import pick_trial, pick_trials
from api.store import Store
from nas.spaces import build_space
from nas.trial import Trial

Nas = Callable[..., tuple[int, str, str]]
Search = Callable[..., dict[str, Any]]
NAME = "nas-bench-macro"
SURE = 0.01


@pytest.fixture
def search(nas: Nas, benchmark_table: Path) -> Search:
    """Runs a search by recorded accuracies."""

    def run(*arguments: object) -> dict[str, Any]:
        command = ("search", "-s", NAME, "--evaluator", "table", "--data", benchmark_table, *arguments, "--json")
        status, out, err = nas(*command)
        assert status == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    return run


def test_a_search_ends_when_it_is_sure(nas: Nas, search: Search, benchmark_table: Path) -> None:
    whole = search("--trials", 20, "--name", "whole")
    found = search("--trials", 20, "--stop-when", SURE, "--name", "sure")
    assert (whole["stopped"], found["stopped"]) == ("done", "sure")
    assert found["trials"] < 20
    with Store.open() as store:
        assert store.searches.get("sure").state == "complete"
        made, all_made = trials_of(store, "sure"), trials_of(store, "whole")
        assert all_made[: len(made)] == made  # it decides the end, not the trials
        regret = [t[-1].get("expected_regret", 1) for t in all_made[: len(made)]]
        assert min(regret) <= SURE < min(regret[:6])
    assert "stops when" in nas("searches", "show", "sure")[1]
    assert "stops when" not in nas("searches", "show", "whole")[1]
    status, out, err = nas(
        "search", "-s", NAME, "--evaluator", "table", "--data", benchmark_table, "--trials", 20, "--stop-when", SURE
    )
    assert status == 0
    assert "at most 1 points are expected to be missed" in err
    assert out.startswith("sure enough: no further trial is worth it\n")


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_stopped_search_becomes_sure_at_the_same_trial(search: Search, nas: Nas, parallel: int) -> None:
    options = ("--trials", 20, "--stop-when", SURE, "--parallel", parallel, "--seed", 1)
    assert search(*options, "--name", "whole")["stopped"] == "sure"
    search(*options, "--name", "part", "--max-hours", "1e-9")
    with Store.open() as store:
        record = store.searches.get("part")
        for stop_at in (3, 8):
            run_search(store, record, should_stop=lambda n=stop_at: sum(store.searches.counts(record.id).values()) >= n)
        assert json.loads(nas("search", "--resume", "part", "--json")[1])["stopped"] == "sure"
        assert trials_of(store, "part") == trials_of(store, "whole")
        assert nas("search", "--resume", "part")[0] == 0  # nothing to do
        assert trials_of(store, "part") == trials_of(store, "whole")


def test_a_sure_search_goes_on_when_it_shall_be_surer(search: Search, nas: Nas) -> None:
    search("--trials", 20, "--stop-when", SURE, "--name", "sure")
    search("--trials", 20, "--name", "whole")
    with Store.open() as store:
        sure = len(trials_of(store, "sure"))
    status, out, err = nas("search", "--resume", "sure", "--stop-when", "1e-12", "--json")
    assert status == 0, err
    with Store.open() as store:
        assert store.searches.get("sure").spec["stop_when"] == 1e-12
        assert json.loads(out)["stopped"] in ("sure", "done")
        assert len(made := trials_of(store, "sure")) > sure
        assert trials_of(store, "whole")[: len(made)] == made
        before = store.searches.get("sure")
        for wrong in (("--stop-when", "0"), ("--trials", "0"), ("--flops", "3"), ("--seed", "4"), ("-o", "key=digits")):
            refused(nas("search", "--resume", "sure", *wrong))
        assert "--seed cannot change (--trials, --stop-when, --max-hours can)" in refused(
            nas("search", "--resume", "sure", "--seed", "4")
        )
        assert store.searches.get("sure") == before
        search("--strategy", "random", "--trials", 3, "--name", "random")
        assert "only the strategy guided" in refused(nas("search", "--resume", "random", "--stop-when", "0.1"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--stop-when", "0"), "stop-when must be between 0 and 1, in units of accuracy, not 0"),
        (("--stop-when", "-0.1"), "stop-when must be between 0 and 1"),
        (("--stop-when", "1"), "stop-when must be between 0 and 1"),
        (("--stop-when", "nan"), "stop-when must be between 0 and 1"),
        (("--stop-when", "0.01", "--strategy", "tpe"), "--stop-when needs what only the strategy guided knows; tpe"),
    ],
)
def test_regrets_that_cannot_be_are_one_line(nas: Nas, arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(nas("search", "-s", NAME, *arguments))
    with Store.open() as store:
        assert store.searches.page() == []


def test_beliefs_are_shown_listed_and_served(
    search: Search, nas: Nas, served: Callable[..., httpx.Response], benchmark_table: Path
) -> None:
    found = search("--trials", 9, "--name", "guided")
    assert search("--trials", 9, "--strategy", "random", "--name", "random")["beliefs"] is None
    beliefs = found["beliefs"]
    assert set(beliefs) == {"recommended", "expected_regret"}
    assert json.loads(nas("searches", "show", "guided", "--json")[1])["beliefs"] == beliefs
    assert [s["beliefs"] for s in json.loads(nas("searches", "list", "--json")[1])] == [None, beliefs]
    told = f"trial {beliefs['recommended']}; the best of all is expected to be {100 * beliefs['expected_regret']:.2f}"
    assert told in nas("searches", "show", "guided")[1]
    assert "expected to be" not in nas("searches", "show", "random")[1]
    with Store.open() as store:
        plain = served(store, "searches").json()["items"][0]["id"]
        assert served(store, f"searches/{plain}").json()["beliefs"] is None
        assert served(store, f"searches/{store.searches.get('guided').id}").json()["beliefs"] == beliefs
    _, out, err = nas("search", "-s", NAME, "--evaluator", "table", "--data", benchmark_table, "--trials", 9)
    assert f"recommended: trial {beliefs['recommended']}; the best network of all" in out
    assert "points expected to be missed" in err


def test_the_recommended_trial_is_taken_first(store: Store) -> None:
    space = build_space(NAME)
    record = store.searches.create({}, space=NAME, space_digest=space.digest)
    with pytest.raises(OptionError, match="has no complete trial yet"):
        pick_trial(store, record)
    log = store.searches.log(record.id)
    for n, reward in enumerate((0.5, 0.9, 0.8, 0.7)):
        log.started(Trial(n, (n,)))
        log.finished(Trial(n, (n,)).complete(reward, reward, 1.0, {}))
    assert [t.number for t in pick_trials(store, record, 3)] == [1, 2, 3]
    for recommended, order in ((2, [2, 1, 3]), (1, [1, 2, 3]), (0, [0, 1, 2])):
        store.searches.set_beliefs(record.id, {"recommended": recommended, "expected_regret": 0.01})
        record = store.searches.by_id(record.id)
        assert [t.number for t in pick_trials(store, record, 3)] == order
        assert pick_trial(store, record).number == recommended
    store.searches.set_beliefs(record.id, None)
    assert pick_trial(store, store.searches.by_id(record.id)).number == 1
