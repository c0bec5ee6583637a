from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import HTMLResponse

from api.rest.problems import HEADERS
from api.store import Store

Make = Callable[..., FastAPI]
Ask = Callable[..., httpx.Response]
Check = Callable[[httpx.Response, int], dict[str, Any]]


def test_only_known_hosts(store: Store, make_app: Make, ask: Ask, check_problem: Check) -> None:
    app = make_app(store, allowed_hosts=("test", "nas.example.org", "[::1]"))
    for host in ("test", "TEST:8080", "nas.example.org", "[::1]", "[::1]:8080"):
        assert ask(app, "GET", "/echo/a", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "test.evil.example", "", "[::1", "test@evil.example", "evil/test", "127.0.0.1"):
        check_problem(ask(app, "GET", "/echo/a", headers={"Host": host}), 400)
    assert ask(make_app(store, allowed_hosts=("*",)), "GET", "/echo/a", headers={"Host": "x.y"}).status_code == 200


def test_headers_of_every_answer(store: Store, make_app: Make, ask: Ask, check_problem: Check) -> None:
    app = make_app(store)

    @app.get("/page")
    def page() -> HTMLResponse:
        return HTMLResponse("<p>", headers={"Content-Security-Policy": "default-src 'self'"})

    for path in ("/echo/a", "/openapi.json", "/nowhere", "/errors/500"):
        answer = ask(app, "GET", path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "set-cookie" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    assert ask(app, "GET", "/page").headers["content-security-policy"] == "default-src 'self'"


def test_packed_bodies_are_refused(store: Store, make_app: Make, ask: Ask, check_problem: Check) -> None:
    app = make_app(store)
    for encoding in ("gzip", "br", "identity, gzip", "x"):
        answer = ask(app, "POST", "/echo", content=b"\x1f\x8b", headers={"Content-Encoding": encoding})
        check_problem(answer, 415)
        assert answer.headers["accept-encoding"] == "identity"
    assert ask(app, "POST", "/echo", json={}, headers={"Content-Encoding": "identity"}).status_code == 200


@pytest.mark.parametrize("path", ["/echo", "/deep", "/nowhere"])
def test_long_bodies_are_refused(store: Store, make_app: Make, ask: Ask, check_problem: Check, path: str) -> None:
    app = make_app(store, max_body_bytes=1000)
    told = check_problem(ask(app, "POST", path, json={"name": "x" * 1000}), 413)
    assert "1000 bytes" in told["detail"]
    check_problem(ask(app, "GET", path, headers={"Content-Length": "9" * 4000}), 413)
    check_problem(ask(app, "GET", path, headers={"Content-Length": "-1"}), 413)


def test_long_bodies_in_chunks_are_refused(store: Store, make_app: Make, ask: Ask, check_problem: Check) -> None:
    app = make_app(store, max_body_bytes=1000)
    sent = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(100)
            yield b" " * 100

    check_problem(ask(app, "POST", "/echo", content=endless(), headers={"Content-Type": "application/json"}), 413)
    check_problem(ask(app, "POST", "/deep", content=endless()), 413)
    assert sum(sent) <= 2 * 1100


@pytest.fixture
def one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the limits stands: where two minutes meet, the sliding window lets one more through."""
    clock = SimpleNamespace(time=lambda: 1_800_000_030.0)
    for module in ("limits.storage.memory", "limits.strategies", "api.rest.limits"):
        monkeypatch.setattr(f"{module}.time", clock)


def _statuses(ask: Ask, app: FastAPI, count: int, **more: Any) -> list[int]:
    return [ask(app, "GET", "/roles/read", **more).status_code for _ in range(count)]


def test_refused_log_ins_are_counted_per_address(
    store: Store, make_app: Make, ask: Ask, token: Callable[..., str], check_problem: Check, one_minute: None
) -> None:
    app = make_app(store, tries_per_minute=5)
    valid = token("read")
    assert _statuses(ask, app, 12, token="wrong") == [401] * 5 + [429] * 7
    answer = ask(app, "GET", "/roles/read")
    check_problem(answer, 429)
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert _statuses(ask, app, 3, token=valid) == [200] * 3  # from the same address
    assert _statuses(ask, app, 1, client=("10.0.0.9", 1)) == [401]
    assert _statuses(ask, app, 6, client=("2001:db8::1", 1)) == [401] * 5 + [429]
    assert _statuses(ask, app, 1, client=("2001:db8::2:3", 1)) == [429]  # the same /64
    assert _statuses(ask, app, 1, client=("2001:db8:0:1::1", 1)) == [401]


def test_requests_are_counted_per_token(
    store: Store, make_app: Make, ask: Ask, token: Callable[..., str], check_problem: Check, one_minute: None
) -> None:
    app = make_app(store, rate_per_minute=5)
    one, other = token("read"), token("read")
    assert _statuses(ask, app, 12, token=one) == [200] * 5 + [429] * 7
    assert "5 requests of a token" in check_problem(ask(app, "GET", "/roles/read", token=one), 429)["detail"]
    assert _statuses(ask, app, 2, token=other) == [200] * 2
