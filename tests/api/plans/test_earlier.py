"""`nas search --from SEARCH`: what is known before the first trial."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from results import refused, trials_of

from api.compose import create_search, reopen, run_search
from api.errors import Conflict, OptionError, StoreError
from api.plans.earlier import earlier_trials, pin_earlier
from api.plans.plan import build_plan
from api.plans.spec import SearchSpec
from api.settings import Settings
from api.store import Store
from api.submit.steer import delete_search
from latency.table import LatencyTable
from nas.spaces import build_space
from nas.spaces.recipe import SpaceSpec
from nas.trial import Trial, TrialState

Nas = Callable[..., tuple[int, str, str]]
MACRO = "nas-bench-macro"


def search(nas: Nas, table: Path, *arguments: object) -> dict[str, Any]:
    status, out, err = nas("search", "-s", MACRO, "--evaluator", "table", "--data", table, *arguments, "--json")
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture
def first(nas: Nas, benchmark_table: Path) -> dict[str, Any]:
    """A search called `first` of 10 random networks."""
    return search(nas, benchmark_table, "--strategy", "random", "--trials", 10, "--name", "first")


def test_what_was_known_spares_the_random_beginning(nas: Nas, benchmark_table: Path, first: dict[str, Any]) -> None:
    search(nas, benchmark_table, "--trials", 5, "--name", "cold")
    warm = search(nas, benchmark_table, "--trials", 5, "--from", "first", "--name", "warm")
    with Store.open() as store:
        record = store.searches.get("warm")
        assert record.spec["earlier"] == {"search": store.searches.get("first").id, "trials": 10}
        cold_found, found = trials_of(store, "cold"), trials_of(store, "warm")
    assert [t[-1] for t in cold_found] == [{}] * 5
    assert all({"expected_regret"} <= set(t[-1]) for t in found[1:])  # a belief needs a trial of its own
    assert warm["best"]["accuracy"] > max(t[3] for t in cold_found)
    assert warm["trials"] == 5  # the earlier ones are knowledge, not trials


def test_it_is_told_when_running_and_shown(nas: Nas, benchmark_table: Path, first: dict[str, Any]) -> None:
    status, out, err = nas(
        "search", "-s", MACRO, "--evaluator", "table", "--data", benchmark_table, "--trials", 2, "--from", "first",
        "--name", "warm",
    )  # fmt: skip
    assert status == 0
    assert "search warm: 2 trials complete" in out
    assert "starts from the first 10 trials of search first" in err
    assert "the first 10 trials of search first" in nas("searches", "show", "warm")[1]
    assert "starts from" not in nas("searches", "show", "first")[1]


def test_annealing_begins_at_the_best_inside_the_budgets(
    nas: Nas, benchmark_table: Path, first: dict[str, Any]
) -> None:
    with Store.open() as store:
        known = list(store.searches.log(store.searches.get("first").id).load())
    limit = sorted(t.costs["flops"] for t in known)[4]
    best = max((t for t in known if t.costs["flops"] <= limit), key=lambda t: (t.accuracy, -t.number))
    options = ("--from", "first", "--strategy", "annealing", "--flops", limit, "--trials", 3, "--name", "warm")
    assert search(nas, benchmark_table, *options)["beliefs"] is None
    with Store.open() as store:
        assert trials_of(store, "warm")[0][1] == best.encoding


@pytest.mark.parametrize(("strategy", "parallel"), [("guided", 1), ("guided", 3), ("annealing", 2)])
def test_a_stopped_search_goes_on_as_if_nothing_had_happened(
    nas: Nas, benchmark_table: Path, first: dict[str, Any], strategy: str, parallel: int
) -> None:
    options = ("--from", "first", "--strategy", strategy, "--parallel", parallel, "--seed", 5)
    search(nas, benchmark_table, *options, "--trials", 9, "--name", "whole")
    search(nas, benchmark_table, *options, "--trials", 9, "--name", "part", "--max-hours", "1e-9")
    with Store.open() as store:
        # What becomes of the earlier search in between does not matter.
        assert nas("search", "--resume", "first", "--trials", "14")[0] == 0
        record = store.searches.get("part")
        for stop_at in (2, 5):
            run_search(store, record, should_stop=lambda n=stop_at: sum(store.searches.counts(record.id).values()) >= n)
        assert 5 <= len(trials_of(store, "part")) < 9
        assert nas("searches", "resume", "part")[0] == 0
        assert trials_of(store, "part") == trials_of(store, "whole")
        assert len(earlier_trials(store, SearchSpec.from_dict(store.searches.get("part").spec))) == 10


def test_what_cannot_be_started_from_is_one_line(
    nas: Nas, home: Path, benchmark_table: Path, first: dict[str, Any]
) -> None:
    command = ("search", "-s", MACRO, "--evaluator", "table", "--data", benchmark_table)
    assert "no search 'nope'" in refused(nas(*command, "--from", "nope"))
    told = refused(nas("search", "-s", MACRO, "--resolution", "64", "--from", "first", "--data", "digits"))
    assert "searched another space (nas-bench-macro)" in told
    assert "cannot start from an earlier search" in refused(nas(*command, "--from", "first", "--strategy", "random"))
    search(nas, benchmark_table, "--max-hours", "1e-9", "--name", "empty")
    told = refused(nas(*command, "--from", "empty"))
    assert "has no trial with an accuracy to start from" in told
    assert "nas search --resume empty" in told
    with Store.open() as store:
        assert [r.name for r in store.searches.page()] == ["empty", "first"]


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "home")


def test_only_trials_up_to_one_that_runs_are_pinned(on_sqlite: Settings) -> None:
    space = build_space(MACRO)
    with Store.open(on_sqlite) as store:
        record = store.searches.create({}, space=MACRO, space_digest=space.digest, name="mine")
        log = store.searches.log(record.id)
        for n, row in enumerate(space.sample(np.random.default_rng(0), 5)):
            log.started(Trial(n, tuple(row.tolist())))
        log.finished(next(log.load()).failed("no", 1.0))
        with pytest.raises(OptionError, match="no trial with an accuracy"):
            pin_earlier(store, "mine", space)
        for trial in list(log.load())[1:]:
            if trial.number != 3:
                log.finished(trial.complete(0.5, 0.5, 1.0, {}))
        assert pin_earlier(store, "mine", space) == {"search": record.id, "trials": 3}
        with pytest.raises(OptionError, match="another space"):
            pin_earlier(store, "mine", build_space(MACRO, classes=3))
        with pytest.raises(StoreError, match="of search 9, which this one starts from, 0 of 3 trials are there"):
            earlier_trials(store, SearchSpec(SpaceSpec(MACRO), earlier={"search": 9, "trials": 3}))


def test_earlier_trials_are_worth_what_they_would_be_here(
    on_sqlite: Settings, benchmark_table: Path, make_table: Callable[..., LatencyTable]
) -> None:
    space, table = build_space(MACRO), make_table(build_space(MACRO))
    options = {"evaluator": "table", "evaluator_options": {"path": str(benchmark_table)}, "trials": 8}
    with Store.open(on_sqlite) as store:
        store.tables.add(table)
        record = create_search(store, build_plan(SearchSpec(SpaceSpec(MACRO), **options), None), board=None)
        run_search(store, record)
        pinned = pin_earlier(store, record.name, space)
        spec = SearchSpec(SpaceSpec(MACRO), {"latency_ms": 0.1}, reward="soft", earlier=pinned, **options)
        plan = build_plan(spec, table, earlier_trials(store, spec))
        before = list(store.searches.log(record.id).load())
        assert [t.reward for t in before] == [t.accuracy for t in before]
        for old, new in zip(before, plan.earlier, strict=True):
            assert new.costs == {
                m: plan.costs[m].one(np.array(old.encoding)) for m in ("flops", "params", "latency_ms")
            }
            assert new.reward == spec.build_reward()(old.accuracy, new.costs) != old.reward
            assert new.state is TrialState.COMPLETE
        warm = create_search(store, plan, board=None)
        assert reopen(store, warm, to_run=True).earlier == plan.earlier
        assert reopen(store, warm).earlier == ()  # what looks at its networks needs none


def test_a_search_that_others_started_from_can_go_when_they_are_over(
    nas: Nas, benchmark_table: Path, first: dict[str, Any]
) -> None:
    search(nas, benchmark_table, "--trials", 5, "--from", "first", "--name", "warm")
    with Store.open() as store:
        warm, old = store.searches.get("warm"), store.searches.get("first")
        for state in ("queued", "running"):
            store.searches.set_state(warm.id, state)
            with pytest.raises(Conflict, match="'warm' starts from the trials of 'first'"):
                delete_search(store, old)
        store.searches.set_state(warm.id, "complete")
        delete_search(store, old)
        warm = store.searches.get("warm")
        assert reopen(store, warm).space.name == MACRO  # it can still be trained and exported
        with pytest.raises(Conflict, match="was deleted, so it cannot go on"):  # nor from one that gets its number
            reopen(store, warm, to_run=True)
