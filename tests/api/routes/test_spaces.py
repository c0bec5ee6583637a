from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from api.networks.spaces import PricedSpace, find_space, kept_space
from api.rest.heavy import AT_ONCE, PER_TOKEN, place
from api.store import Store
from latency.board import Board
from latency.predict import latency_models
from latency.table import LatencyTable
from nas.compiled import CompiledSpace, compile_space
from nas.errors import UnknownPlugin
from nas.objective import GRAPH_COSTS
from nas.space import Encodings, SearchSpace
from nas.spaces import build_space, space_names

Ask = Callable[..., httpx.Response]
NAME = "nas-bench-macro"
MACRO = build_space(NAME)
ROWS: Encodings = np.unique(MACRO.canonical(np.concatenate(list(MACRO.enumerate()))), axis=0)
RESIDUALS = tuple(np.random.default_rng(0).normal(0, 0.05, 48).tolist())


def fields(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {error["field"]: error["message"] for error in answer.json()["errors"]}


@pytest.fixture
def table(store: Store, make_table: Callable[..., LatencyTable]) -> LatencyTable:
    """Stored, of board `here`, with intervals."""
    made = make_table(MACRO, residuals=RESIDUALS)
    store.tables.add(made)
    store.boards.add(Board("here", "local"))
    return made


def test_spaces_are_listed_and_shown(ask: Ask) -> None:
    listed = ask("GET", "spaces", by="reader").json()
    assert [s["space"] for s in listed] == space_names()
    shown = ask("GET", f"spaces/{NAME}", by="reader").json()
    assert (shown["size"], len(shown["genes"]), shown["digest"]) == (6561, 8, MACRO.digest)
    for metric, build in GRAPH_COSTS.items():
        assert (shown[metric]["min"], shown[metric]["max"]) == (build(MACRO)(ROWS).min(), build(MACRO)(ROWS).max())
    larger = ask("GET", f"spaces/{NAME}", params={"resolution": 64, "channels": 1, "classes": 3}).json()
    assert larger["inputs"] == [[1, 64, 64]]
    assert ask("GET", "spaces/mobilenetv2-small", params={"resolution": [32, 48]}).json()["inputs"][1] == [3, 48, 48]


@pytest.mark.parametrize("name", ["no-such", "space.yaml", "%2Fetc%2Fpasswd", "..%2Fspace.yaml"])
def test_only_names_of_the_registry_are_spaces(ask: Ask, name: str, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text("name: mine\nclasses: 2\n")
    assert ask("GET", f"spaces/{name}").status_code == 404
    with pytest.raises(UnknownPlugin):
        find_space(str(tmp_path / "space.yaml"))


def test_networks_are_priced(ask: Ask, table: LatencyTable) -> None:
    rows = ROWS[:: len(ROWS) // 5]
    texts = [",".join(map(str, row)) for row in rows]
    found = ask("POST", f"spaces/{NAME}/price", json={"encodings": texts, "table": table.digest[:8]}, by="reader")
    models = {m: build(MACRO) for m, build in GRAPH_COSTS.items()} | latency_models(table, MACRO)
    assert [p["encoding"] for p in found.json()] == texts
    for metric, model in models.items():
        assert [p[metric] for p in found.json()] == pytest.approx(model(rows).tolist())
    (without,) = ask("POST", f"spaces/{NAME}/price", json={"encodings": texts[:1]}).json()
    assert without["latency_ms"] is None
    again = ask("POST", f"spaces/{NAME}/price", json={"encodings": texts[:1]}, headers={"Idempotency-Key": "a"})
    assert again.json() == [without]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body.encodings"),
        ({"encodings": []}, "body.encodings"),
        ({"encodings": ["0,0,0,0,0,0,0,0", "0,0,0,0,0,0,0,9"]}, "body.encodings.1"),
        ({"encodings": ["0"], "resolution": [0]}, "body.resolution.0"),
        ({"encodings": ["0,0,0,0,0,0,0,0"], "table": "abcd"}, "body.table"),
        ({"encodings": ["0,0,0,0,0,0,0,0"], "table": "../x"}, "body.table"),
        ({"encodings": ["0,0,0,0,0,0,0,0"], "file": "x"}, "body.file"),
    ],
)
def test_what_cannot_be_priced_names_the_field(ask: Ask, body: dict[str, Any], field: str) -> None:
    assert list(fields(ask("POST", f"spaces/{NAME}/price", json=body))) == [field]


def test_what_budgets_leave_of_a_space(ask: Ask, table: LatencyTable) -> None:
    models = {m: build(MACRO) for m, build in GRAPH_COSTS.items()}
    limits = {m: float(np.quantile(models[m](ROWS), 0.6)) for m in ("flops", "peak_memory_mb")}
    about = ask("POST", f"spaces/{NAME}/feasibility", json={"budgets": limits}, by="reader").json()
    inside = np.all([models[m](ROWS) <= limit for m, limit in limits.items()], axis=0)
    assert about["inside"] == {"at_least": inside.sum(), "about": inside.sum(), "at_most": inside.sum()}
    assert about["share"]["about"] == inside.sum() / len(ROWS) == about["inside"]["about"] / about["networks"]
    assert about["budgets"]["flops"] == {"limit": limits["flops"], "smallest_possible": models["flops"](ROWS).min()}
    assert sum(about["metrics"]["params"]["histogram"]["inside"]) == inside.sum()
    assert about["metrics"]["latency_ms"] is None
    assert models["flops"].one(MACRO.parse(about["example"]["encoding"])) <= limits["flops"]
    assert (about["table"], about["confidence"]) == (None, None)
    timed = latency_models(table, MACRO)["latency_ms"](ROWS)
    ms = float(np.quantile(timed, 0.5))
    by_board = ask("POST", f"spaces/{NAME}/feasibility", json={"budgets": {"latency_ms": ms}, "board": "here"}).json()
    assert (by_board["table"], by_board["board"], by_board["confidence"]) == (table.digest, "here", 0.95)
    body = {"budgets": {"latency_ms": ms}, "table": table.digest[:6], "confidence": 0.5}
    even = ask("POST", f"spaces/{NAME}/feasibility", json=body).json()
    assert by_board["inside"]["about"] < even["inside"]["about"]
    assert even["metrics"]["latency_ms"]["max"] == pytest.approx(timed.max())


def test_everything_is_inside_no_budget(ask: Ask) -> None:
    about = ask("POST", f"spaces/{NAME}/feasibility", json={}).json()
    assert about["inside"]["about"] == about["networks"] == len(ROWS)
    assert about["share"]["about"] == 1


def test_an_impossible_budget_names_itself_and_the_smallest_possible(ask: Ask, table: LatencyTable) -> None:
    for metric, more in (("flops", {}), ("peak_memory_mb", {}), ("latency_ms", {"table": table.digest})):
        answer = ask("POST", f"spaces/{NAME}/feasibility", json={"budgets": {metric: 1e-6}, **more})
        assert answer.headers["content-type"] == "application/problem+json"
        (field, message), *_ = fields(answer).items()
        assert field == f"body.budgets.{metric}"
        assert "smallest achievable is" in message
        smallest = float(message.split("smallest achievable is ")[1].split(" ")[0])
        body = {"budgets": {metric: smallest}, **more}
        assert ask("POST", f"spaces/{NAME}/feasibility", json=body).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"budgets": {"flops": 0}}, "body.budgets.flops"),
        ({"budgets": {"speed": 1}}, "body.budgets.speed"),
        ({"budgets": {"latency_ms": 1}}, "body"),
        ({"confidence": 0.9}, "body"),
        ({"board": "here", "table": "abcd"}, "body"),
        ({"board": "nowhere"}, "body.board"),
        ({"board": "fresh"}, "body.board"),
        ({"table": "abcd"}, "body.table"),
        ({"table": "TABLE", "resolution": [64]}, "body.table"),
        ({"resolution": [64] * 6}, "body.resolution"),
    ],
)
def test_what_cannot_be_asked_names_the_field(
    ask: Ask, store: Store, table: LatencyTable, body: dict[str, Any], field: str
) -> None:
    store.boards.add(Board("fresh", "local"))
    body = {key: table.digest if value == "TABLE" else value for key, value in body.items()}
    assert list(fields(ask("POST", f"spaces/{NAME}/feasibility", json=body))) == [field]


def test_a_computing_request_waits_for_a_place(ask: Ask, token: Callable[..., str]) -> None:
    mine = token("alice", "user")
    stack = contextlib.ExitStack()
    for _ in range(PER_TOKEN):
        stack.enter_context(place(mine.split("_")[1]))
    threading.Timer(0.5, stack.close).start()
    known = {"Authorization": f"Bearer {mine}"}
    assert ask("POST", f"spaces/{NAME}/feasibility", headers=known, json={}).status_code == 200


def test_computing_requests_leave_threads_to_the_others(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.rest.heavy.WAIT_S", 0.1)
    with contextlib.ExitStack() as stack:
        for number in range(AT_ONCE):
            stack.enter_context(place(f"token {number}"))
        answer = ask("POST", f"spaces/{NAME}/feasibility", json={})
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
        assert answer.headers["content-type"] == "application/problem+json"
        assert ask("GET", "boards").status_code == 200
    assert ask("POST", f"spaces/{NAME}/feasibility", json={}).status_code == 200
    assert ask("GET", "spaces/no-such").status_code == 404  # an error gives its place back
    assert ask("GET", f"spaces/{NAME}").status_code == 200


def test_one_token_holds_few_of_the_places(
    ask: Ask, token: Callable[..., str], asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.rest.heavy.WAIT_S", 0.1)
    mine = token("alice", "user")
    known = {"Authorization": f"Bearer {mine}"}
    with contextlib.ExitStack() as stack:
        for _ in range(PER_TOKEN):
            stack.enter_context(place(mine.split("_")[1]))
        for method, path, body in (
            ("POST", f"spaces/{NAME}/feasibility", {}),
            ("POST", "searches", asked),
            ("POST", "jobs/train", {"search": 1}),
            ("POST", "jobs/verify", {"search": 1}),
            ("POST", "jobs/export", {"search": 1}),
            ("GET", "searches/1/trials/0/onnx", None),
            ("GET", "searches/1/trials/0/architecture", None),
        ):
            answer = ask(method, path, headers=known, json=body)
            assert (answer.status_code, answer.headers.get("Retry-After")) == (429, "2"), path
        assert ask("POST", "searches", by="bob", json=asked).status_code == 201
    assert ask("POST", "searches", headers=known, json=asked).status_code == 201


def test_a_request_asks_for_a_space_of_bounded_size(ask: Ask, asked: dict[str, Any]) -> None:
    assert list(fields(ask("POST", "searches", json={**asked, "resolution": [32] * 6}))) == ["body.resolution"]
    assert list(fields(ask("POST", "searches", json={**asked, "classes": 10_001}))) == ["body.classes"]
    assert ask("GET", f"spaces/{NAME}", params={"classes": 10_001}).status_code == 422


def test_submitting_again_compiles_nothing_again(
    ask: Ask, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def counted(space: SearchSpace) -> CompiledSpace:
        compiled.append(space)
        return compile_space(space)

    monkeypatch.setattr("nas.space.compile_space", counted)
    kept_space.cache_clear()
    for _ in range(2):
        assert ask("POST", "searches", json=asked).status_code == 201
    assert len(compiled) == 1


def test_a_priced_space_is_built_once_and_tables_are_kept_few(make_table: Callable[..., LatencyTable]) -> None:
    assert find_space(NAME) is find_space(NAME)
    assert find_space(NAME, (64,)) is not find_space(NAME)
    priced = PricedSpace(MACRO)
    tables = [make_table(MACRO, f"b{i}") for i in range(6)]
    with_tables = [priced.with_table(table) for table in tables]
    assert with_tables[5] is priced.with_table(tables[5])
    assert with_tables[5].model("flops") is priced.model("flops")
    assert with_tables[5].distribution("flops") is priced.distribution("flops")
    assert with_tables[5].everything is priced.everything
    assert [priced.known(t.digest) is None for t in tables] == [True, True, False, False, False, False]
