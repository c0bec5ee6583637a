"""405 lists every method of an address, also where two routes share it."""

from __future__ import annotations

import asyncio

import httpx

from api.app import create_app
from api.auth import Role
from api.service import Service
from api.store import Store


def test_every_method_of_an_address_is_told(store: Store) -> None:
    token = store.tokens.create("ada", Role.ADMIN)[1]

    async def ask(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(create_app(Service.of(store)))
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            return await client.put(path)

    for path, methods in (
        ("/api/v1/boards", "GET, POST"),
        ("/api/v1/searches/1", "DELETE, GET"),
        ("/api/v1/jobs/export", "POST"),
        ("/api/v1/searches/check", "POST"),
        ("/healthz", "GET"),
    ):
        answer = asyncio.run(ask(path))
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
