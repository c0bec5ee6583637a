from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.auth import Role
from api.service import Service
from api.settings import ServeSettings
from api.store import Store


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """A data root with the whole nas-bench-macro space, made up: more work, more accuracy."""
    root = tmp_path / "data"
    root.mkdir()
    rows = [f"{''.join(g)},{(v := 60 + 2 * sum(map(int, g)))},{v},{v}" for g in itertools.product("012", repeat=8)]
    (root / "recorded.csv").write_text("\n".join(["arch,acc_seed0,acc_seed1,acc_seed2", *rows]) + "\n")
    return root


@pytest.fixture
def app(store: Store, data_root: Path) -> FastAPI:
    """The service over a store."""
    serve = ServeSettings(data_root, rate_per_minute=100_000, allowed_hosts=("test", "127.0.0.1"))
    return create_app(Service(store, serve))


@pytest.fixture
def token(store: Store) -> Callable[..., str]:
    """Makes a token: token("alice", "user")."""
    return lambda name="admin", role="admin": store.tokens.create(name, Role(role))[1]


@pytest.fixture
def ask(app: FastAPI, token: Callable[..., str]) -> Callable[..., httpx.Response]:
    """Asks as somebody: ask("POST", "searches", by="alice", json=...); root is an admin, reader may only read."""
    tokens: dict[str, str] = {}

    def send(method: str, path: str, *, by: str = "alice", **more: Any) -> httpx.Response:
        if by not in tokens:
            tokens[by] = token(by, {"root": "admin", "reader": "read"}.get(by, "user"))
        headers = {"Authorization": f"Bearer {tokens[by]}", **more.pop("headers", {})}

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v1/") as client:
                return await client.request(method, path, headers=headers, **more)

        return asyncio.run(go())

    return send


@pytest.fixture
def asked() -> dict[str, Any]:
    """A search that can be submitted."""
    return {
        "space": "nas-bench-macro",
        "evaluator": "table",
        "data": "recorded.csv",
        "budgets": {"flops": 30e6},
        "trials": 5,
    }
