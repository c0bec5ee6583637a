from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, Response
from pydantic import BaseModel

from api.auth import Role
from api.errors import AlreadyExists, Conflict, NotFound, StoreError
from api.rest import docs, limits, problems
from api.rest.content import check_content
from api.rest.deps import ServiceDep
from api.rest.guard import Admin, MetricsReader, Reader, Submitter, require_owner
from api.rest.idempotency import OnceDep
from api.rest.problems import responses
from api.routes import tokens
from api.service import Service
from api.settings import ServeSettings, Settings
from api.store import Store
from nas.errors import ImpossibleBudget

Make = Callable[..., FastAPI]
Ask = Callable[..., httpx.Response]
router = APIRouter()
ERRORS: dict[str, Exception] = {
    "404": NotFound("no board 'x'"),
    "lines": NotFound("no board 'a\r\nb'"),
    "409": Conflict("it is over"),
    "taken": AlreadyExists("the name is taken"),
    "422": ImpossibleBudget("nothing fits\x00\ud800", {}),
    "503": StoreError("database postgresql://secret-host/x: it is gone"),
    "500": ValueError("secret inside"),
}


class Anything(BaseModel):
    value: Any = None
    name: str | None = None


class Made(BaseModel):
    job: int
    value: float | None = None


@router.get("/errors/{which}", responses=responses(404, 409))
def fail(which: str) -> None:
    raise ERRORS[which]


@router.post("/echo")
def echo(sent: Anything) -> Anything:
    return sent


@router.get("/echo/{name}")
def echo_name(name: str, also: Annotated[str, Query(max_length=99)] = "") -> str:
    return name + also


@router.post("/deep")
def no_body() -> str:
    return "read nothing"


@router.post("/jobs", status_code=201, response_model=Made)
def make(sent: Anything, service: ServiceDep, _user: Submitter, once: OnceDep) -> Response:
    def action() -> Made:
        job = service.store.jobs.create("export", {"trial": None})
        if sent.name == "fails":
            raise Conflict("not now")
        return Made(job=job.id, value=float("nan") if sent.name == "nan" else 1.5)

    return once(action)


@router.post("/nothing", status_code=202)
def nothing(service: ServiceDep, _user: Submitter, once: OnceDep) -> Response:
    def action() -> None:
        service.store.jobs.create("export", {})

    return once(action, 202)


@router.get("/roles/read")
def reads(user: Reader) -> str:
    return user.name


@router.get("/roles/user")
def submits(user: Submitter) -> str:
    return user.name


@router.get("/roles/admin")
def administers(user: Admin) -> str:
    return user.name


@router.get("/owned/{owner}")
def owned(owner: str, user: Submitter) -> str:
    require_owner(user, None if owner == "none" else owner)
    return "yours"


@router.get("/counts")
def counts(_user: MetricsReader) -> str:
    return "1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """SQLite: what differs between databases is tested with the stores."""
    return Settings(tmp_path / "home")


@pytest.fixture
def make_app() -> Make:
    """An application around the parts under test: make_app(store, rate_per_minute=...)."""

    def make(store: Store, **serve: Any) -> FastAPI:
        serving = ServeSettings.from_env(
            store.settings, {}, **{"allowed_hosts": ("test", "127.0.0.1", "[::1]"), **serve}
        )
        app = FastAPI(docs_url=None, redoc_url=None, dependencies=[Depends(check_content)])
        app.state.service = Service(store, serving)
        problems.install(app)
        limits.install(app, serving)
        app.include_router(router)
        app.include_router(tokens.router)
        docs.install(app)
        return app

    return make


@pytest.fixture
def ask() -> Ask:
    """Sends one request: ask(app, method, path, token=..., ...)."""

    def send(app: FastAPI, method: str, path: str, token: str | None = None, **more: Any) -> httpx.Response:
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **more.pop("headers", {})}
        client_address = more.pop("client", ("127.0.0.1", 1))

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=client_address)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, headers=headers, **more)

        return asyncio.run(go())

    return send


@pytest.fixture
def token(store: Store) -> Callable[..., str]:
    """Makes a token: token("user", name="alice")."""

    def make(role: str = "admin", name: str = "alice") -> str:
        return store.tokens.create(name, Role(role))[1]

    return make


@pytest.fixture
def check_problem() -> Callable[[httpx.Response, int], dict[str, Any]]:
    """Makes sure that an answer is a problem of that status, with all headers, and gives its JSON."""

    def check(answer: httpx.Response, status: int) -> dict[str, Any]:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        for name, value in problems.HEADERS.items():
            assert answer.headers[name] == value
        told: dict[str, Any] = answer.json()
        assert told["status"] == status
        assert told["type"] == "about:blank"
        assert told["title"]
        assert told["detail"]
        assert "\n" not in told["detail"]
        return told

    return check
