from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.store import Store

Make = Callable[..., FastAPI]
Ask = Callable[..., httpx.Response]
Check = Callable[[httpx.Response, int], dict[str, Any]]


@pytest.mark.parametrize(
    ("which", "status", "detail"),
    [
        ("404", 404, "no board 'x'"),
        ("409", 409, "it is over"),
        ("taken", 409, "the name is taken"),
        ("422", 422, "nothing fits\x00\ud800"),
        ("503", 503, "the database cannot be used just now; the server's log says why"),
        ("500", 500, "an error of the server; its log has the details"),
    ],
)
def test_errors_become_problems(
    store: Store, make_app: Make, ask: Ask, check_problem: Check, which: str, status: int, detail: str
) -> None:
    answer = ask(make_app(store), "GET", f"/errors/{which}")
    assert check_problem(answer, status)["detail"] == detail
    assert "secret" not in answer.text


def test_the_framework_s_own_errors(store: Store, make_app: Make, ask: Ask, check_problem: Check) -> None:
    app = make_app(store)
    assert "nothing is at" in check_problem(ask(app, "GET", "/nowhere"), 404)["detail"]
    answer = ask(app, "DELETE", "/echo")
    check_problem(answer, 405)
    assert answer.headers["allow"] == "POST"
    told = check_problem(ask(app, "POST", "/echo", json={"name": 1, "value": 2}), 422)
    assert told["errors"] == [{"field": "body.name", "message": "Input should be a valid string"}]
    assert told["detail"].startswith("body.name: ")
    answer = ask(app, "POST", "/echo", content=b'{"name": nothing}', headers={"Content-Type": "application/json"})
    told = check_problem(answer, 400)
    assert told["errors"] == [{"field": "body", "message": "no JSON: Expecting value at character 9"}]


def test_a_detail_is_one_line(store: Store, make_app: Make, ask: Ask, check_problem: Check) -> None:
    assert check_problem(ask(make_app(store), "GET", "/errors/lines"), 404)["detail"] == "no board 'a b'"


def test_many_errors_are_cut_short(store: Store, make_app: Make, ask: Ask, check_problem: Check) -> None:
    app = make_app(store)

    @app.post("/list")
    def numbers(sent: list[int]) -> int:
        return len(sent)

    told = check_problem(ask(app, "POST", "/list", json=["x"] * 5000), 422)
    assert len(told["errors"]) == 20
    assert "and 4980 more" in told["detail"]
    name = "y" * 100_000
    assert len(ask(app, "POST", "/api/v1/tokens", json={name: 1}).content) < 2000


def test_openapi_tells_every_error_as_a_problem(store: Store, make_app: Make, ask: Ask) -> None:
    described = ask(make_app(store), "GET", "/openapi.json").json()
    assert "HTTPValidationError" not in str(described)
    assert described["components"]["schemas"]["Problem"]["required"] == ["title", "status", "detail"]
    assert "FieldError" in described["components"]["schemas"]
    post = described["paths"]["/api/v1/tokens"]["post"]
    assert list(post["responses"]) == ["201", "400", "401", "403", "409", "413", "415", "422", "429", "500", "503"]
    for code, told in post["responses"].items():
        if code != "201":
            assert told["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert post["security"] == [{"token": []}]
    assert described["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    plain = described["paths"]["/echo/{name}"]["get"]
    assert list(plain["responses"]) == ["200", "400", "422", "500", "503"]
