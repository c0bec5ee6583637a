from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.schemas.columns import ColumnsOut
from api.store import Store
from api.store.columns import rounded
from api.store.models import now, searches, trials
from nas.trial import Trial, TrialState

Ask = Callable[..., httpx.Response]
REWARDS = (0.2, 0.5, 0.5, 0.3, 1 / 3, 0.9, 0.6, 0.95, 0.1, 0.97)
STATES = ["running", "complete", "pruned", "failed"]


def trial_of(number: int) -> Trial:
    """One of each end; rewards with a tie, costs and attributes that not all have."""
    costs = {"flops": 123_456_789.0, "latency_ms": math.pi} | ({"params": 7.0} if number == 3 else {})
    attrs: dict[str, Any] = {"chain": number % 2, "temperature": 1 / 7 if number > 2 else None, "secret": "long"}
    trial = Trial(number, (number, 1), costs=costs, attrs=attrs if number else {"base": "text \ud800"})
    reward = REWARDS[number]
    match number:
        case 5:
            return trial.pruned(reward, reward, 1, 2.0, {})
        case 6:
            return trial.failed("out of memory", 2.0)
        case 8:
            return trial
    return trial.complete(reward + 0.01, reward, 1.23456789, {})


@pytest.fixture
def search(store: Store) -> int:
    return fill(store, [trial_of(n) for n in range(len(REWARDS))])


def fill(store: Store, made: list[Trial]) -> int:
    search_id = store.searches.create({"seed": 0}, space="s", space_digest="d").id
    log = store.searches.log(search_id)
    for trial in made:
        log.started(dataclasses.replace(trial, state=TrialState.RUNNING, accuracy=None, reward=None, error=None))
        if trial.state is not TrialState.RUNNING:
            log.finished(trial)
    return search_id


def columns(ask: Ask, search: int, **params: Any) -> dict[str, Any]:
    answer = ask("GET", f"searches/{search}/columns", by="reader", params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    assert set(found) == set(ColumnsOut.model_validate(found).model_dump())
    return found


def test_columns_hold_what_the_trials_do(ask: Ask, store: Store, search: int) -> None:
    found, rows = columns(ask, search), [trial_of(n) for n in range(len(REWARDS))]
    assert (found["states"], found["next"], found["encoding"]) == (STATES, None, None)
    assert found["event"] == store.events.newest()
    assert dt.datetime.fromisoformat(found["began_at"]) == store.searches.by_id(search).created_at
    assert found["number"] == [t.number for t in rows]
    assert [STATES[i] for i in found["state"]] == [t.state.value for t in rows]
    assert found["accuracy"] == [t.accuracy for t in rows]
    assert found["reward"] == [t.reward for t in rows]  # in full: ties stay ties, and nothing else becomes one
    assert found["seconds"] == pytest.approx([t.seconds for t in rows], rel=1e-6)
    assert 1.234568 in found["seconds"]
    since = store.searches.by_id(search).created_at
    for place, seconds in enumerate(found["finished_s"]):
        ended = store.trials.one(search, place)["finished_at"]
        assert seconds == (None if place == 8 else pytest.approx((ended - since).total_seconds(), abs=1e-3))
    assert found["costs"] == {
        "flops": [123_456_789] * 10,
        "latency_ms": [3.141593] * 10,
        "params": [7 if n == 3 else None for n in range(10)],
    }
    assert found["attrs"] == {
        "chain": [None, *(n % 2 for n in range(1, 10))],
        "temperature": [0.1428571 if n > 2 else None for n in range(10)],
        "base": [None] * 10,
    }
    assert columns(ask, search, encodings=True)["encoding"] == [f"{n},1" for n in range(10)]


@pytest.mark.parametrize("limit", [1, 3, 10, 20_000])
def test_pages_hold_every_trial_once(ask: Ask, search: int, limit: int) -> None:
    seen: list[int] = []
    after: int | None = -1
    while after is not None:
        page = columns(ask, search, after=after, limit=limit, encodings=True)
        lists = [page[k] for k in ("number", "state", "accuracy", "reward", "seconds", "finished_s", "encoding")]
        assert {len(a) for a in [*lists, *page["costs"].values(), *page["attrs"].values()]} == {len(page["number"])}
        assert 0 < len(page["number"]) <= limit
        seen += page["number"]
        after = page["next"]
    assert seen == list(range(10))


def test_a_stream_behind_the_columns_tells_the_rest(ask: Ask, store: Store, search: int) -> None:
    before = columns(ask, search)
    store.searches.log(search).finished(trial_of(8).complete(0.25, 0.99, 3.0000000001, {}))
    later = columns(ask, search)
    (event,) = store.events.after(before["event"], search_id=search)
    assert later["event"] == event.id
    assert (event.kind, event.trial) == ("trial.ended", 8)
    since = dt.datetime.fromisoformat(before["began_at"])
    ended = (dt.datetime.fromisoformat(event.data["finished_at"]) - since).total_seconds()
    assert later["finished_s"][8] == pytest.approx(ended, abs=2e-3)
    for name in ("accuracy", "reward", "seconds"):
        before[name][8] = event.data[name]
    before["state"][8] = STATES.index(event.data["state"])
    for name in ("accuracy", "reward", "seconds", "state"):
        assert before[name] == later[name]


def test_a_start_tells_what_the_columns_do(ask: Ask, store: Store, search: int) -> None:
    found = columns(ask, search, encodings=True)
    started = [e for e in store.events.after(0, search_id=search) if e.kind == "trial.started"]
    assert [e.trial for e in started] == found["number"]
    for n, event in enumerate(started):
        assert event.data["encoding"] == found["encoding"][n]
        assert event.data["costs"] == {k: v[n] for k, v in found["costs"].items() if v[n] is not None}
        assert set(event.data["attrs"]) == ({"temperature", "chain"} if n else {"base"})
        assert event.data["attrs"] == {k: found["attrs"][k][n] for k in event.data["attrs"]}
        assert "long" not in json.dumps(event.data)


def test_a_search_without_trials_has_empty_columns(ask: Ask, store: Store) -> None:
    found = columns(ask, fill(store, []), encodings=True)
    assert (found["number"], found["encoding"], found["costs"], found["attrs"]) == ([], [], {}, {})
    assert found["next"] is None


def test_what_cannot_be_asked_is_told(ask: Ask, search: int) -> None:
    for params, field in (({"limit": 0}, "limit"), ({"limit": 20_001}, "limit"), ({"after": -2}, "after")):
        answer = ask("GET", f"searches/{search}/columns", params=params)
        assert [e["field"] for e in answer.json()["errors"]] == [f"query.{field}"]
    for path in ("columns", "improvements"):
        assert ask("GET", f"searches/99/{path}").status_code == 404
        assert ask("GET", f"searches/0/{path}").status_code == 422
        assert ask("GET", f"searches/{search}/{path}", headers={"Authorization": ""}).status_code == 401


def test_improvements_are_the_best_so_far(ask: Ask, store: Store, search: int) -> None:
    found = ask("GET", f"searches/{search}/improvements", by="reader").json()
    assert found["event"] == store.events.newest()
    whole = columns(ask, search)
    assert found["items"] == [
        {"number": n} | {k: whole[k][n] for k in ("accuracy", "reward", "finished_s")} for n in (0, 1, 7, 9)
    ]
    assert ask("GET", f"searches/{fill(store, [])}/improvements").json()["items"] == []


def test_thousands_of_trials_come_in_a_few_pages(ask: Ask, store: Store) -> None:
    search = fill(store, [])
    began, rewards = now(), np.random.default_rng(0).random(30_000)
    plain = {"search_id": search, "encoding": "1,2", "state": "complete", "costs": {"flops": 1.0}, "seconds": 1.0}
    plain |= {"extras": {"history": [1] * 20}, "attrs": {}, "stop_below": {}, "started_at": began, "finished_at": began}
    rows = [{**plain, "number": n, "accuracy": float(r), "reward": float(r)} for n, r in enumerate(rewards)]
    with store.database.write() as c:
        c.execute(sa.insert(trials), rows)
        c.execute(sa.update(searches).where(searches.c.id == search).values(created_at=began))
    first = columns(ask, search)
    assert (len(first["number"]), first["next"]) == (20_000, 19_999)
    rest = columns(ask, search, after=first["next"])
    assert first["reward"] + rest["reward"] == rewards.tolist()
    best = np.flatnonzero(rewards > np.concatenate([[-1], np.maximum.accumulate(rewards)[:-1]]))
    items = ask("GET", f"searches/{search}/improvements").json()["items"]
    assert [i["number"] for i in items] == best.tolist()


@example([9999999.5])
@given(st.lists(st.floats() | st.none() | st.integers(-(2**60), 2**60), max_size=20))
@hypothesis_settings(max_examples=100, deadline=None)
def test_rounding_keeps_seven_digits_and_whole_numbers(values: list[float | None]) -> None:
    for value, near in zip(values, rounded(values), strict=True):
        if value is None or not math.isfinite(value):
            assert near is None
        else:
            assert near is not None
            assert near == pytest.approx(value, rel=5.1e-7, abs=0)
            if float(value).is_integer():
                assert near == float(value)
            elif 1e-15 < abs(near) < 1e7:  # 9999999.5 becomes 10000000.0, written in nine digits
                assert len(repr(near).strip("-").replace(".", "").lstrip("0").partition("e")[0]) <= 8
