from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.plans.estimate import SearchEstimate, estimate_search
from api.plans.plan import Plan, build_plan
from api.plans.spec import SearchSpec
from api.store import Store
from api.store.models import trials
from nas.spaces.recipe import SpaceSpec
from nas.trial import Trial

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # the database has no part in it
DIGITS = {"data": "digits", "epochs": 4}
SPEC = SearchSpec(SpaceSpec("nas-bench-macro", (16,), 10, 1), evaluator_options=DIGITS, trials=30, parallel=2)
Search = Callable[..., None]


def plan_of(spec: SearchSpec) -> Plan:
    return build_plan(dataclasses.replace(spec, strategy="random", stop_when=None), None)  # quick to build


def estimate(store: Store, **changes: Any) -> SearchEstimate:
    spec = dataclasses.replace(SPEC, **changes)
    return estimate_search(store, dataclasses.replace(plan_of(spec), spec=spec))


@pytest.fixture
def search(store: Store) -> Search:
    """Stores a search whose trials took so many seconds, one after the other: search("name", [1, 2, 3])."""

    def make(name: str, seconds: Sequence[float], failed: Sequence[float] = (), **changes: Any) -> None:
        spec = dataclasses.replace(SPEC, **changes)
        digest = plan_of(spec).space.digest
        made = store.searches.create(spec.to_dict(), space=spec.space.name, space_digest=digest, name=name)
        log, end = store.searches.log(made.id), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        for number, took in enumerate([*seconds, *failed]):
            trial = Trial(number, (0,) * 8)
            log.started(trial)
            good = number < len(seconds)
            log.finished(trial.complete(0.5, 0.5, took, {}) if good else trial.failed("out of memory", took))
            end += dt.timedelta(seconds=took)
            with store.database.write() as c:
                of_it = (trials.c.search_id == made.id) & (trials.c.number == number)
                c.execute(sa.update(trials).where(of_it).values(finished_at=end))

    return make


def test_nothing_is_known_before_the_first_search(store: Store, search: Search) -> None:
    assert estimate(store) == SearchEstimate()
    search("none-complete", [], failed=[5, 5])
    search("other-data", [3, 3], evaluator_options={"data": "cluttered-digits"})
    search("other-evaluator", [3, 3], evaluator="remote", evaluator_options={})
    assert estimate(store).seconds is None


def test_the_median_of_the_earlier_trials(store: Store, search: Search) -> None:
    search("first", [1, 2, 3, 4, 50], failed=[900])
    told = estimate(store)
    assert (told.trial_seconds, told.seconds) == (3, 15 * 3)
    assert told.low_s is not None
    assert told.high_s is not None
    assert 15 <= told.low_s < 15 * 3 < told.high_s <= 15 * 50
    assert told.basis == "the median of 5 trials of search first, with the same data"
    assert estimate(store, trials=31).seconds == 16 * 3  # the last one runs alone
    search("second", [5, 5])
    assert estimate(store).basis == "the median of 7 trials of 2 searches, the newest second, with the same data"


def test_few_trials_tell_no_interval(store: Store, search: Search) -> None:
    search("first", [2, 2])
    told = estimate(store)
    assert (told.seconds, told.low_s, told.high_s) == (30, None, None)


def test_the_searches_most_like_it_count(store: Store, search: Search) -> None:
    other = SpaceSpec("nas-bench-macro", (32,), 10, 1)
    for changes, seconds, words in (
        ({"space": other}, 64, "of another space or resolution, so it may be several times off"),
        ({"evaluator_options": DIGITS | {"epochs": 2}}, 16, "scaled to 4 epochs"),
        ({"parallel": 1}, 16, "they ran 1 at once, and 2 may have to share cores"),
        ({"budgets": {"flops": 1e9}}, 8, "same data"),
        ({}, 4, "same data"),
    ):
        search(f"s{seconds}-{len(words)}", [seconds] * 6, **changes)
        told = estimate(store)
        wanted = 2 * seconds if "scaled" in words else seconds
        assert (told.trial_seconds, told.basis.endswith(words)) == (wanted, True), told
        assert (told.low_s is None) == bool({"space", "parallel"} & set(changes))
    search("old-space-again", [1000], space=other)
    assert estimate(store).trial_seconds == 4


def test_epochs_that_are_not_given_are_the_evaluator_s(store: Store, search: Search) -> None:
    search("first", [8, 8], evaluator_options={"data": "digits"})  # 8 epochs
    assert estimate(store).trial_seconds == 4


def test_rungs_shorten_a_search(store: Store, search: Search) -> None:
    search("first", [8, 8])
    told = estimate(store, rungs=(1, 2), eta=2.0)
    assert told.trial_seconds == 8
    assert told.seconds == 15 * 8 * (1 + 1 / 2 + 2 / 4) / 4
    assert "rungs" in told.basis
    assert "earlier" in estimate(store, stop_when=0.01, strategy="guided").basis


def test_of_look_ups_the_strategy_s_time_counts(store: Store, search: Search, tmp_path: Path) -> None:
    looked = {"evaluator": "table", "evaluator_options": {"path": str(tmp_path / "a.csv")}}
    search("random", [0.001] * 8, strategy="random", **looked)
    search("guided", [0.5, 0.5, 9, 0.5, 0.5, 0.5, 0.5], strategy="guided", **looked)
    told = estimate(store, strategy="guided", **looked | {"evaluator_options": {"path": "b.csv"}})
    assert (told.trial_seconds, told.seconds) == (0.5, 15)  # parallel or not, they are looked up one by one
    assert told.basis == "the median time between 6 trials of search guided, with the same strategy"
    assert estimate(store, strategy="annealing", **looked).seconds is None
