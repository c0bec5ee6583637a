from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from api.store import Store
from latency.engines import get_engine
from latency.table import LatencyTable
from nas.spaces import build_space

Ask = Callable[..., httpx.Response]
NAME = "nas-bench-macro"
MACRO = build_space(NAME)


@pytest.fixture
def tables(store: Store, make_table: Callable[..., LatencyTable]) -> list[LatencyTable]:
    """Five, two of board `here`, in the order in which they were stored."""
    made = [make_table(MACRO, board, residuals=(0.01 * i,)) for i, board in enumerate(("a", "here", "b", "here", "c"))]
    for table in made:
        store.tables.add(table)
    return made


def pages(ask: Ask, path: str, key: str = "items", **params: Any) -> list[Any]:
    found, cursor = [], None
    for _ in range(100):
        page = ask("GET", path, by="reader", params={**params, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page[key]) <= params["limit"]
        found += page[key]
        cursor = page["next"]
        if cursor is None:
            break
    return found


def test_tables_are_listed_newest_first(ask: Ask, tables: list[LatencyTable]) -> None:
    newest = [t.digest for t in reversed(tables)]
    assert [t["digest"] for t in pages(ask, "tables", limit=2)] == newest
    assert [t["digest"] for t in pages(ask, "tables", limit=1, board="here")] == [newest[1], newest[3]]
    assert ask("GET", "tables", params={"board": "nowhere"}).json() == {"items": [], "next": None}


def test_a_table_is_shown_without_its_entries(ask: Ask, tables: list[LatencyTable]) -> None:
    table = tables[1]
    shown = ask("GET", f"tables/{table.digest[:10]}", by="reader").json()
    content = json.loads(table.to_json())
    assert (shown["digest"], shown["ops"], shown["entries"]) == (table.digest, len(table.entries), None)
    for part in ("identity", "calibration", "provenance", "offset_ms"):
        assert shown[part] == content[part]
    path = f"tables/{table.digest}"
    entries = pages(ask, path, "entries", entries=True, limit=7)
    assert {e.pop("key"): e for e in entries} == {key: vars(entry) for key, entry in table.entries.items()}
    assert ask("GET", path, params={"cursor": "W10"}).status_code == 422
    other = ask("GET", f"tables/{tables[0].digest}", params={"entries": True, "limit": 2}).json()["next"]
    assert ask("GET", path, params={"entries": True, "cursor": other}).status_code == 422


@pytest.mark.parametrize(("digest", "status"), [("abcd", 404), ("0" * 64, 404), ("abc", 422), ("A" * 64, 422)])
def test_no_such_table(ask: Ask, tables: list[LatencyTable], digest: str, status: int) -> None:
    assert ask("GET", f"tables/{digest}").status_code == status
    assert ask("GET", f"tables/{digest}/coverage", params={"space": NAME}).status_code == status


def test_coverage_of_a_space(ask: Ask, store: Store, make_table: Callable[..., LatencyTable]) -> None:
    whole = make_table(MACRO)
    keys = sorted(whole.entries)
    entries = {key: whole.entries[key] for key in keys[10:]}
    entries[keys[20]] = replace(entries[keys[20]], samples=0, sigma=0.2)
    table = replace(whole, entries=entries)
    store.tables.add(table)
    found = ask("GET", f"tables/{table.digest}/coverage", params={"space": NAME}, by="reader").json()
    kernels = {get_engine("ncnn").engine_key(op) for op in MACRO.ops()}
    assert (found["kernels"], found["missing"], found["estimated"]) == (len(kernels), 10, 1)
    assert found["timed"] == len(kernels) - 11
    assert found["share"] == pytest.approx(1 - 10 / len(kernels))
    assert found["missing_keys"] == keys[:10]
    store.tables.add(whole)
    path = f"tables/{whole.digest}/coverage"
    assert ask("GET", path, params={"space": NAME}).json()["share"] == 1
    other = ask("GET", path, params={"space": NAME, "resolution": 64}).json()
    assert 0 <= other["share"] < 1
    assert len(other["missing_keys"]) == min(50, other["missing"])
    assert ask("GET", path, params={"space": "no-such"}).json()["errors"][0]["field"] == "query.space"


def test_a_table_is_imported_once(ask: Ask, store: Store, make_table: Callable[..., LatencyTable]) -> None:
    table = make_table(MACRO)
    content = json.loads(table.to_json())
    assert ask("POST", "tables", by="alice", json=content).status_code == 403
    first, again = (ask("POST", "tables", by="root", json=content) for _ in range(2))
    told = {"digest": table.digest, "board": "here", "ops": len(table.entries)}
    assert (first.status_code, first.json()) == (201, {**told, "new": True})
    assert again.json() == {**told, "new": False}
    assert store.tables.get(table.digest) == table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "zip"}, "its format is not"),
        ({"digest": "0" * 64}, "digest"),
        ({"entries": {"a": [1e300, 0, 1, 0]}}, "a ms"),
        ({"entries": {"a": [1.0, 0.1, 2**40, 0]}}, "a samples"),
        ({"identity": {}}, "is missing"),
        ({"entries": {"a\u0001b": [1.0, 0.1, 1, 0]}}, "control characters"),
    ],
)
def test_a_damaged_table_is_refused(
    ask: Ask, store: Store, make_table: Callable[..., LatencyTable], change: dict[str, Any], message: str
) -> None:
    answer = ask("POST", "tables", by="root", json=json.loads(make_table(MACRO).to_json()) | change)
    assert answer.status_code == 422, answer.text
    assert message in answer.json()["detail"]
    assert store.tables.list() == []


def test_a_table_of_no_known_engine_is_refused(ask: Ask, make_table: Callable[..., LatencyTable]) -> None:
    table = make_table(MACRO)
    foreign = replace(table, identity=replace(table.identity, engine="tensorrt"))
    answer = ask("POST", "tables", by="root", json=json.loads(foreign.to_json()))
    assert [error["field"] for error in answer.json()["errors"]] == ["body.identity.engine"]


@pytest.mark.parametrize("cursor", ["W251bGxd", "WyJ0YWJsZXMiLG51bGwsbnVsbF0", "!", "AAAA"])
def test_forged_cursors_are_refused(ask: Ask, cursor: str) -> None:
    answer = ask("GET", "tables", params={"cursor": cursor})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["query.cursor"]
