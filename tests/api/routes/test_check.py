from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from api.compose import run_search
from api.executors.choice import TrialExecutor
from api.store import Store
from latency.board import Board
from latency.table import LatencyTable
from nas.spaces import build_space

Ask = Callable[..., httpx.Response]
Asked = dict[str, Any]
pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # what the database does is not asked


def test_a_check_says_what_a_search_would_be_and_makes_none(ask: Ask, asked: Asked, store: Store) -> None:
    answer = ask("POST", "searches/check", json=asked | {"name": "mine"})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    estimate = told.pop("estimate")
    assert told == {"name_free": True, "board": None, "table": None, "confidence": None, "classes": 10}
    assert (estimate["seconds"], "first trials will tell" in estimate["basis"]) == (None, True)
    assert store.searches.page() == []
    assert store.jobs.page() == []
    assert ask("POST", "searches", json=asked | {"name": "mine"}).status_code == 201
    assert ask("POST", "searches/check", json=asked | {"name": "mine"}).json()["name_free"] is False
    assert ask("POST", "searches/check", json=asked | {"name": "min"}).json()["name_free"] is True
    assert ask("POST", "searches/check", json=asked).json()["name_free"] is True
    assert len(store.searches.page()) == 1


def test_after_a_search_the_next_one_s_time_is_told(ask: Ask, asked: Asked, store: Store) -> None:
    ask("POST", "searches", json=asked | {"name": "first", "strategy": "random", "trials": 30})
    claim = store.jobs.claim("w", 60)
    assert claim is not None
    assert claim.job.search_id is not None
    run_search(store, store.searches.by_id(claim.job.search_id), executor=TrialExecutor(), fence=claim.fence)
    told = ask("POST", "searches/check", json=asked | {"strategy": "random", "trials": 300}).json()["estimate"]
    assert "search first" in told["basis"]
    assert told["seconds"] == pytest.approx(300 * told["trial_seconds"])
    assert 0 < told["low_s"] <= told["seconds"] <= told["high_s"]


def test_a_board_s_table_and_confidence_are_told(
    ask: Ask, asked: Asked, store: Store, make_table: Callable[..., LatencyTable]
) -> None:
    table = make_table(build_space("nas-bench-macro"), residuals=tuple(np.random.default_rng(0).normal(0, 0.05, 48)))
    store.tables.add(table)
    store.boards.add(Board("here", "local"))
    wanted = asked | {"budgets": {"latency_ms": 1e3}}
    for named in ({"board": "here"}, {"table": table.digest[:8]}):
        told = ask("POST", "searches/check", json=wanted | named).json()
        assert (told["board"], told["table"], told["confidence"]) == ("here", table.digest, 0.95)
    impossible = ask("POST", "searches/check", json=wanted | {"board": "here", "budgets": {"latency_ms": 1e-6}})
    assert [e["field"] for e in impossible.json()["errors"]] == ["body.budgets.latency_ms"]
    other = ask("POST", "searches/check", json=wanted | {"board": "here", "resolution": [64]})
    assert [e["field"] for e in other.json()["errors"]] == ["body.board"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"trials": 0}, "body.trials"),
        ({"name": "17"}, "body.name"),
        ({"budgets": {"flops": 1}}, "body.budgets.flops"),
        ({"data": "../recorded.csv"}, "body.data"),
        ({"data": None}, "body.data"),
        ({"evaluator_options": {"arch": "nothing"}}, "body.evaluator_options"),
        ({"evaluator_options": {"file": "x"}}, "body.evaluator_options.file"),
        ({"rungs": [2]}, "body.rungs"),
        ({"rungs": [2, 1]}, "body.rungs"),
        ({"evaluator": "training", "data": "digits", "epochs": 2, "rungs": [3]}, "body.rungs"),
    ],
)
def test_both_refuse_alike_and_name_the_field(
    ask: Ask, asked: Asked, data_root: Path, changes: Asked, field: str
) -> None:
    refused = [ask("POST", path, json=asked | changes) for path in ("searches/check", "searches")]
    assert [answer.status_code for answer in refused] == [422, 422], refused[0].text
    assert refused[0].json() == refused[1].json()
    assert [error["field"] for error in refused[0].json()["errors"]] == [field]
    assert str(data_root) not in refused[0].text


def test_who_may_submit_may_check(ask: Ask, asked: Asked) -> None:
    assert ask("POST", "searches/check", json=asked, by="reader").status_code == 403
    for _ in range(2):
        assert ask("POST", "searches/check", json=asked, headers={"Idempotency-Key": "k"}).status_code == 200
    assert ask("POST", "searches/check", json=asked | {"space": "no-such"}).status_code == 404
