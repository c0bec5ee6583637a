from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable

import httpx
from fastapi import FastAPI

from api.app import create_app
from api.service import Service
from api.store import Store


def test_operations_are_called_by_what_their_routes_say(store: Store) -> None:
    app = create_app(Service.of(store))
    for _ in range(2):  # described once, told often
        paths = app.openapi()["paths"]
    operations = [operation for methods in paths.values() for operation in methods.values()]
    for operation in operations:
        assert operation["description"].startswith(operation["summary"])
        assert " " in operation["summary"]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert {"searches_pause", "tokens_make"} < set(names)
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)


def test_docs_need_nobody_else(
    store: Store, make_app: Callable[..., FastAPI], ask: Callable[..., httpx.Response]
) -> None:
    app = make_app(store)
    page = ask(app, "GET", "/docs")
    assert "://" not in page.text
    policy = page.headers["content-security-policy"]
    script = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    assert len(script) == 1
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()}'" in policy
    assert "unsafe" not in policy.split("style-src")[0]
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(files) == 3
    for file in files:
        assert ask(app, "GET", file).status_code == 200
    assert ask(app, "GET", "/docs/files/__init__.py").status_code in (200, 404)
    assert ask(app, "GET", "/docs/files/../main.py").status_code == 404
    assert ask(app, "GET", "/docs/files/%2e%2e/main.py").status_code == 404
