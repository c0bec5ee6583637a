from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from api.store import Store
from api.store.models import answers, jobs

Make = Callable[..., FastAPI]
Ask = Callable[..., httpx.Response]
Check = Callable[[httpx.Response, int], dict[str, Any]]
KEY = {"Idempotency-Key": "a-key"}


def _count(store: Store, table: sa.Table) -> int:
    with store.database.read() as c:
        return c.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def test_the_same_request_again_is_answered_the_same(
    store: Store, make_app: Make, ask: Ask, token: Callable[..., str]
) -> None:
    app, text = make_app(store), token("user")
    first = ask(app, "POST", "/jobs", text, json={"value": 1}, headers=KEY)
    again = ask(app, "POST", "/jobs", token("user"), json={"value": 1}, headers=KEY)  # another token of the same user
    assert (first.status_code, first.json()) == (201, {"job": 1, "value": 1.5})
    assert (again.status_code, again.content) == (201, first.content)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert _count(store, jobs) == 1


def test_other_requests_are_others(
    store: Store, make_app: Make, ask: Ask, token: Callable[..., str], check_problem: Check
) -> None:
    app, text = make_app(store), token("user")
    ask(app, "POST", "/jobs", text, json={"value": 1}, headers=KEY)
    for path, body in (("/jobs", {"value": 2}), ("/jobs?x=1", {"value": 1}), ("/nothing", {"value": 1})):
        told = check_problem(ask(app, "POST", path, text, json=body, headers=KEY), 422)
        assert told["errors"][0]["field"] == "header.Idempotency-Key"
    assert _count(store, jobs) == 1
    bob = token("user", "bob")
    assert ask(app, "POST", "/jobs", bob, json={"value": 2}, headers=KEY).json()["job"] == 2  # his key is another one
    for _ in range(2):
        ask(app, "POST", "/jobs", text, json={"value": 1})  # without a key, each is one
    assert _count(store, jobs) == 4


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "ä", "a\x7f"])
def test_malformed_keys(
    store: Store, make_app: Make, ask: Ask, token: Callable[..., str], check_problem: Check, key: str
) -> None:
    answer = ask(make_app(store), "POST", "/jobs", token(), json={}, headers={"Idempotency-Key": key.encode("latin-1")})
    assert check_problem(answer, 422)["errors"][0]["field"] == "header.Idempotency-Key"


def test_what_failed_is_not_remembered(
    store: Store, make_app: Make, ask: Ask, token: Callable[..., str], check_problem: Check
) -> None:
    app, text = make_app(store), token("user")
    for _ in range(2):
        check_problem(ask(app, "POST", "/jobs", text, json={"name": "fails"}, headers=KEY), 409)
    assert (_count(store, jobs), _count(store, answers)) == (0, 0)
    assert ask(app, "POST", "/jobs", text, json={}, headers=KEY).status_code == 201  # the key is free


def test_answers_that_json_cannot_hold_and_empty_ones(
    store: Store, make_app: Make, ask: Ask, token: Callable[..., str]
) -> None:
    app, text = make_app(store), token("user")
    odd = [ask(app, "POST", "/jobs", text, json={"name": "nan"}, headers=KEY) for _ in range(2)]
    assert [a.json()["value"] for a in odd] == [None, None]
    none = [ask(app, "POST", "/nothing", text, headers={"Idempotency-Key": "b"}) for _ in range(2)]
    assert [(a.status_code, a.content) for a in none] == [(202, b"")] * 2
    assert _count(store, jobs) == 2
