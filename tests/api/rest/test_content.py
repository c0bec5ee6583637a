from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.store import Store

Make = Callable[..., FastAPI]
Ask = Callable[..., httpx.Response]
Check = Callable[[httpx.Response, int], dict[str, Any]]
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"value": NaN}', "body.value"),
        (b'{"value": [1, Infinity]}', "body.value.1"),
        (b'{"value": {"a": -Infinity}}', "body.value.a"),
        (b'{"value": 1e999}', "body.value"),
        (b'{"value": 9223372036854775808}', "body.value"),
        (b'{"value": ' + b"9" * 4000 + b"}", "body.value"),
        (b'{"name": "a\\u0000b"}', "body.name"),
        (b'{"name": "\\ud800"}', "body.name"),
        (b'{"value": {"\\udfff": 1}}', "body.value"),
        (b'{"value": ' + b"[" * 40 + b"]" * 40 + b"}", "body.value" + ".0" * 32),
        (b'{"value": [' + b"0," * 60_000 + b"0]}", "body.value"),
    ],
)
def test_what_nothing_can_hold_is_refused(
    store: Store, make_app: Make, ask: Ask, check_problem: Check, body: bytes, field: str
) -> None:
    told = check_problem(ask(make_app(store), "POST", "/echo", content=body, headers=JSON), 422)
    assert [e["field"] for e in told["errors"]] == [field]


@pytest.mark.parametrize("path", ["/echo", "/deep"])  # with and without a body model
@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"value": ' + b"9" * 5000 + b"}", b'{"name": "\xff\xfe"}', b"\x00", b"nonsense", b'"\x01"'],
)
def test_malformed_json(store: Store, make_app: Make, ask: Ask, check_problem: Check, path: str, body: bytes) -> None:
    check_problem(ask(make_app(store), "POST", path, content=body, headers=JSON), 400)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_other_types_are_refused(store: Store, make_app: Make, ask: Ask, check_problem: Check, kind: str) -> None:
    answer = ask(make_app(store), "POST", "/echo", content=b'{"value": 1}', headers={"Content-Type": kind})
    check_problem(answer, 415)
    assert answer.headers["accept"] == "application/json"


def test_text_in_addresses(store: Store, make_app: Make, ask: Ask, check_problem: Check) -> None:
    app = make_app(store)
    assert check_problem(ask(app, "GET", "/echo/a%00b"), 422)["errors"][0]["field"] == "path.name"
    assert check_problem(ask(app, "GET", "/echo/a?also=%00"), 422)["errors"][0]["field"] == "query.also"
    assert check_problem(ask(app, "GET", "/echo/a?other=%00"), 422)["errors"][0]["field"] == "query.other"
    assert ask(app, "GET", "/echo/%ED%A0%80?also=%ff").status_code == 200  # read as replacement characters


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=4),
        max_leaves=20,
    )
)  # fmt: skip
@hypothesis_settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_all_else_passes(store: Store, make_app: Make, ask: Ask, value: object) -> None:
    answer = ask(make_app(store), "POST", "/echo", content=json.dumps({"value": value}), headers=JSON)
    assert answer.status_code == 200
    assert answer.json()["value"] == value


def test_an_object_has_few_names_unless_it_is_a_table(
    store: Store, make_app: Make, ask: Ask, check_problem: Check
) -> None:
    app = make_app(store)

    @app.post("/tables")
    def tables(content: dict[str, Any]) -> int:
        return len(content)

    many = {f"k{i}": 1 for i in range(1001)}
    told = check_problem(ask(app, "POST", "/echo", json={"value": many}), 422)
    assert told["errors"] == [{"field": "body.value", "message": "has more than 1000 names"}]
    assert ask(app, "POST", "/tables", json=many).json() == 1001
