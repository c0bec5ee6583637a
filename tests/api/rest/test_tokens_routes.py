from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from api.store import Store
from api.store.models import answers, now

Make = Callable[..., FastAPI]
Ask = Callable[..., httpx.Response]
Check = Callable[[httpx.Response, int], dict[str, Any]]
TOKENS = "/api/v1/tokens"


def test_a_token_s_life(
    store: Store, make_app: Make, ask: Ask, token: Callable[..., str], check_problem: Check
) -> None:
    app, admin = make_app(store), token("admin", "root")
    wanted = {"user": "alice", "role": "read", "note": "her laptop", "expires_in_days": 30}
    answer = ask(app, "POST", TOKENS, admin, json=wanted)
    made = answer.json()
    assert answer.status_code == 201
    assert abs(dt.datetime.fromisoformat(made["expires_at"]) - now() - dt.timedelta(days=30)) < dt.timedelta(hours=1)
    me = ask(app, "GET", "/api/v1/me", made["token"])
    assert me.json() == {"user": "alice", "role": "read", "token_id": made["id"]}
    listed = ask(app, "GET", TOKENS, admin).json()["items"]
    assert [t["user"] for t in listed] == ["alice", "root"]
    assert not {"token", "hash"} & {*listed[0]}
    assert ask(app, "DELETE", f"{TOKENS}/{made['id']}", admin).json()["revoked_at"] is not None
    assert "revoked" in check_problem(ask(app, "GET", "/api/v1/me", made["token"]), 401)["detail"]
    check_problem(ask(app, "DELETE", f"{TOKENS}/{'0' * 16}", admin), 404)
    check_problem(ask(app, "DELETE", f"{TOKENS}/x", admin), 422)


def test_for_admins_only(
    store: Store, make_app: Make, ask: Ask, token: Callable[..., str], check_problem: Check
) -> None:
    app, text = make_app(store), token("user")
    token_id = text.split("_")[1]
    for method, path in (("GET", TOKENS), ("POST", TOKENS), ("DELETE", f"{TOKENS}/{token_id}")):
        more = {"json": {"user": "eve", "role": "admin"}} if method == "POST" else {}
        check_problem(ask(app, method, path, text, **more), 403)
        check_problem(ask(app, method, path, **more), 401)
    assert len(store.tokens.list()) == 1


def test_the_same_request_again_shows_nothing(
    store: Store, make_app: Make, ask: Ask, token: Callable[..., str], check_problem: Check
) -> None:
    app, admin, key = make_app(store), token(), {"Idempotency-Key": "k"}
    made = ask(app, "POST", TOKENS, admin, json={"user": "bob"}, headers=key).json()
    again = ask(app, "POST", TOKENS, admin, json={"user": "bob"}, headers=key)
    assert "showed" in check_problem(again, 409)["detail"]
    assert len(store.tokens.list()) == 2
    with store.database.read() as c:
        assert made["token"].split("_", 2)[2] not in str(c.execute(sa.select(answers)).all())


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"user": "a b"},
        {"user": "a\n"},
        {"user": "x" * 65},
        {"user": "<script>"},
        {"user": "a", "role": "root"},
        {"user": "a", "note": "a\nb"},
        {"user": "a", "note": "\u202e"},
        {"user": "a", "note": "x" * 201},
        {"user": "a", "expires_in_days": 0},
        {"user": "a", "expires_in_days": 10**6},
        {"user": "a", "id": "0" * 16},
    ],
)
def test_malformed_wishes_name_the_field(
    store: Store, make_app: Make, ask: Ask, token: Callable[..., str], check_problem: Check, wanted: dict[str, Any]
) -> None:
    told = check_problem(ask(make_app(store), "POST", TOKENS, token(), json=wanted), 422)
    assert all(e["field"].startswith("body.") for e in told["errors"])
    assert len(store.tokens.list()) == 1


def test_pages(store: Store, make_app: Make, ask: Ask, token: Callable[..., str], check_problem: Check) -> None:
    app, admin = make_app(store), token()
    for number in range(6):
        token("read", f"user{number}")
    found, cursor = [], None
    while True:
        page = ask(app, "GET", TOKENS, admin, params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        found += [t["id"] for t in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == [t.id for t in store.tokens.list()]
    for wrong in ("x", "AAAA", "ä", "x" * 2000):
        told = check_problem(ask(app, "GET", TOKENS, admin, params={"cursor": wrong}), 422)
        assert told["errors"][0]["field"] == "query.cursor"
