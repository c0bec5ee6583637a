"""Numbers in paths, of any length, to every route."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.rest.numbers import DIGITS, PathNumber
from api.service import Service
from api.settings import ServeSettings
from api.store import Store

Ask = Callable[..., httpx.Response]


@pytest.fixture
def app(store: Store) -> FastAPI:
    serve = ServeSettings.from_env(store.settings, {}, allowed_hosts=("test",), tries_per_minute=10_000)
    return create_app(Service(store, serve))


@pytest.mark.parametrize("digits", [DIGITS, DIGITS + 1, 4301])
def test_no_number_of_digits_is_an_error_of_the_server(
    app: FastAPI, ask: Ask, token: Callable[..., str], digits: int
) -> None:
    admin = token()
    for path, operations in app.openapi()["paths"].items():
        address = re.sub(r"\{.*?\}", "9" * digits, path)
        if address == path:
            continue
        for method in operations:
            for who in (None, admin):
                answer = ask(app, method.upper(), address, who, json=None if method != "post" else {})
                assert 400 <= answer.status_code < 500, (method, path, answer.text)


def test_more_digits_than_a_number_has_are_no_address(
    app: FastAPI, ask: Ask, check_problem: Callable[[httpx.Response, int], dict[str, Any]]
) -> None:
    for path, name in (("/api/v1/searches/", "search_id"), ("/api/v1/jobs/", "job_id")):
        described = app.openapi()["paths"][f"{path}{{{name}}}"]
        for method in ("GET", "DELETE"):
            check_problem(ask(app, method, path + "9" * 5000), 404)
            check_problem(ask(app, method, path + "9" * DIGITS), 401)
            told = next(p for p in described[method.lower()]["parameters"] if p["in"] == "path")
            assert (told["name"], told["schema"]["type"]) == (name, "integer")


def test_the_convertor_writes_what_it_reads() -> None:
    number = PathNumber()
    assert number.convert(number.to_string(2**31)) == 2**31
