from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.auth import Role
from api.store import Store

Make = Callable[..., FastAPI]
Ask = Callable[..., httpx.Response]
Check = Callable[[httpx.Response, int], dict[str, Any]]


def test_each_role_includes_those_before(
    store: Store, make_app: Make, ask: Ask, token: Callable[..., str], check_problem: Check
) -> None:
    app = make_app(store)
    for mine in Role:
        text = token(mine)
        for place, needed in enumerate(Role):
            answer = ask(app, "GET", f"/roles/{needed}", text)
            if place <= list(Role).index(mine):
                assert answer.json() == "alice"
            else:
                detail = check_problem(answer, 403)["detail"]
                assert detail == f"this needs a token of role {needed}; yours has role {mine}"


def test_without_a_valid_token(store: Store, make_app: Make, ask: Ask, token: Callable[..., str]) -> None:
    app = make_app(store, tries_per_minute=1000)
    text = token()
    sent = (
        None,
        "Bearer",
        "Bearer x",
        f"Basic {text}",
        text,
        f"Bearer {text[:-1]}",
        f"Bearer {text}x",
        "Bearer " + "x" * 9999,
    )
    for header in sent:
        answer = ask(app, "GET", "/roles/read", headers={} if header is None else {"Authorization": header})
        assert answer.status_code == 401, header
        assert answer.headers["www-authenticate"] == 'Bearer realm="lightnas"'
        assert text not in answer.text


def test_tokens_come_in_the_header_only(store: Store, make_app: Make, ask: Ask, token: Callable[..., str]) -> None:
    app, text = make_app(store), token()
    assert ask(app, "GET", f"/roles/read?token={text}&access_token={text}").status_code == 401
    assert (
        ask(app, "GET", "/roles/read", headers={"Cookie": f"token={text}; Authorization=Bearer {text}"}).status_code
        == 401
    )


def test_a_refusal_is_logged_without_the_token(
    store: Store, make_app: Make, ask: Ask, token: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    app, text = make_app(store), token()
    with caplog.at_level(logging.DEBUG):
        ask(app, "GET", "/roles/read", text[:-1] + ("a" if text[-1] != "a" else "b"))
        ask(app, "GET", "/roles/read", text)
    assert "refused '127.0.0.1': this token is not known here" in caplog.text
    assert text[-40:-1] not in caplog.text


def test_who_may_change_what(store: Store, make_app: Make, ask: Ask, token: Callable[..., str]) -> None:
    app = make_app(store)
    alice, root, reader = token("user", "alice"), token("admin", "root"), token("read", "alice")
    for owner, of_alice in (("alice", 200), ("bob", 403), ("none", 403), ("Alice", 403)):
        assert ask(app, "GET", f"/owned/{owner}", alice).status_code == of_alice
        assert ask(app, "GET", f"/owned/{owner}", root).status_code == 200
        assert ask(app, "GET", f"/owned/{owner}", reader).status_code == 403


def test_metrics_are_open_on_loopback_only(store: Store, make_app: Make, ask: Ask, token: Callable[..., str]) -> None:
    assert ask(make_app(store), "GET", "/counts").status_code == 200
    app = make_app(store, loopback=False)
    assert ask(app, "GET", "/counts").status_code == 401
    assert ask(app, "GET", "/counts", token("read")).status_code == 200


@given(sent=st.text() | st.binary() | st.from_regex(r"\Anas_[0-9a-f]{16}_[A-Za-z0-9_-]{43}\Z"))
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_text_as_token_is_refused_cleanly(store: Store, make_app: Make, ask: Ask, sent: str | bytes) -> None:
    app = make_app(store, tries_per_minute=10**6)
    raw = sent if isinstance(sent, bytes) else sent.encode(errors="surrogatepass")
    assert ask(app, "GET", "/roles/read", headers={"Authorization": b"Bearer " + raw}).status_code == 401
