from __future__ import annotations

from collections.abc import Callable

import httpx

Ask = Callable[..., httpx.Response]


def test_who_sends_is_asked_for_a_token_before_the_body_is_looked_at(ask: Ask) -> None:
    wrong = {"Authorization": "Bearer nas_x"}
    for method, path in (("POST", "searches"), ("POST", "tables"), ("DELETE", "boards/x")):
        for content in (b'{"k": "\\u0000"}', b'{"unknown": 1}'):
            headers = {**wrong, "Content-Type": "application/json"}
            assert ask(method, path, content=content, headers=headers).status_code == 401
    assert (
        ask("POST", "searches", content=b'{"k": "\\u0000"}', headers={"Content-Type": "text/plain"}).status_code == 415
    )


def test_nothing_is_redirected(ask: Ask) -> None:
    assert ask("GET", "searches/").status_code == 404
    assert ask("GET", "searches").status_code == 200
