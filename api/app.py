"""The REST service: a read-only view of the store. Submitting jobs needs authentication and is not served yet."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api import schemas
from api.commands.spaces import describe_space
from api.compose import summarise_search
from api.errors import NotFound, StoreError
from api.fronts import describe_front
from api.store import Store
from latency.predict import latency_models
from nas.cost import flops_model, params_model
from nas.errors import LightnasError, UnknownPlugin
from nas.space import SearchSpace
from nas.spaces import build_space, space_names

PROBLEM = "application/problem+json"
Name = Annotated[str, Path(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=1000)]


def create_app(store: Store) -> FastAPI:
    """The application over a store, which the caller closes."""
    problems: dict[int | str, dict[str, Any]] = {
        code: {"model": schemas.Problem, "description": HTTPStatus(code).phrase, "content": {PROBLEM: {}}}
        for code in (404, 422, 503)
    }
    app = FastAPI(
        title="lightnas",
        version=version("lightnas"),
        description="Searches, boards and latency tables, to read. FLOPs are multiply-accumulates at batch 1.",
        responses=problems,
    )
    app.add_exception_handler(LightnasError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)

    @app.get("/healthz", tags=["service"])
    def health() -> schemas.Health:
        """Whether the service and its database answer."""
        store.database.revision()
        return schemas.Health(version=app.version)

    @app.get("/api/v1/spaces", tags=["spaces"])
    def spaces() -> list[schemas.SpaceSummary]:
        """The search spaces."""
        found = [build_space(name) for name in space_names()]
        return [
            schemas.SpaceSummary(space=s.name, genes=len(s.genes), size=s.size, inputs=[list(i) for i in s.inputs])
            for s in found
        ]

    @app.get("/api/v1/spaces/{name}", tags=["spaces"])
    def space(
        name: Name,
        resolution: Annotated[int | None, Query(ge=1, le=4096)] = None,
        classes: Annotated[int | None, Query(ge=1, le=100_000)] = None,
    ) -> schemas.SpaceDetail:
        """A space's genes and cost range."""
        return schemas.SpaceDetail(**describe_space(_space(name, resolution, classes)))

    @app.post("/api/v1/spaces/{name}/price", tags=["spaces"])
    def price(name: Name, wanted: schemas.PriceRequest) -> list[schemas.Price]:
        """FLOPs, parameters and, with a table, latency of networks."""
        found = _space(name, wanted.resolution, wanted.classes)
        x = np.stack([found.parse(text) for text in wanted.encodings])
        columns = {"flops": flops_model(found)(x).astype(int), "params": params_model(found)(x).astype(int)}
        if wanted.table is not None:
            models = latency_models(store.tables.get(wanted.table), found)
            columns |= {name: model(x) for name, model in models.items()}
        rows = zip(wanted.encodings, *(c.tolist() for c in columns.values()), strict=True)
        return [schemas.Price(**dict(zip(("encoding", *columns), row, strict=True))) for row in rows]

    @app.get("/api/v1/boards", tags=["boards"])
    def boards() -> list[schemas.BoardOut]:
        """The registered boards."""
        return [
            schemas.BoardOut(**{k: v for k, v in b.to_dict().items() if k != "identity_file"})
            for b in store.boards.all()
        ]

    @app.get("/api/v1/tables", tags=["boards"])
    def tables(board: Annotated[str | None, Query(max_length=64)] = None) -> list[schemas.TableOut]:
        """The latency tables, newest first."""
        return [schemas.TableOut(**t.to_dict()) for t in store.tables.list(board=board)]

    @app.get("/api/v1/searches", tags=["searches"])
    def searches(after: Annotated[int | None, Query(ge=1)] = None, limit: Limit = 50) -> schemas.SearchPage:
        """The searches, newest first."""
        records = store.searches.page(after=after, limit=limit)
        items = [schemas.SearchOut(**summarise_search(store, r)) for r in records]
        return schemas.SearchPage(items=items, next=records[-1].id if len(records) == limit else None)

    @app.get("/api/v1/searches/{search_id}", tags=["searches"])
    def search(search_id: Annotated[int, Path(ge=1, lt=2**31)]) -> schemas.SearchOut:
        """One search."""
        return schemas.SearchOut(**summarise_search(store, store.searches.by_id(search_id)))

    @app.get("/api/v1/searches/{search_id}/trials", tags=["searches"])
    def trials(
        search_id: Annotated[int, Path(ge=1, lt=2**31)],
        after: Annotated[int, Query(ge=-1, lt=2**62)] = -1,
        limit: Limit = 100,
    ) -> schemas.TrialPage:
        """A search's trials, in number order, those after number `after`."""
        store.searches.by_id(search_id)
        rows = store.searches.trials_page(search_id, after=after, limit=limit)
        items = [schemas.TrialOut(**row) for row in rows]
        return schemas.TrialPage(items=items, next=items[-1].number if len(items) == limit else None)

    @app.get("/api/v1/searches/{search_id}/front", tags=["searches"])
    def front(
        search_id: Annotated[int, Path(ge=1, lt=2**31)],
        by: Annotated[str | None, Query(max_length=16)] = None,
        at: Annotated[list[float], Query(max_length=100)] = [],  # noqa: B006 - FastAPI copies it
    ) -> schemas.FrontOut:
        """The trials no other beats in accuracy and cost, and the best one inside each budget `at`."""
        return schemas.FrontOut(**describe_front(store, store.searches.by_id(search_id), by, at))

    return app


def _space(name: str, resolution: int | None, classes: int | None) -> SearchSpace:
    if name not in space_names():  # build_space would also read a YAML file: a request must not name one
        raise UnknownPlugin(f"no search space {name!r}; there are {', '.join(space_names())}")
    return build_space(name, resolution=resolution, classes=classes)


def _problem(status: int, detail: str, errors: list[dict[str, Any]] | None = None) -> JSONResponse:
    body = schemas.Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors)
    return JSONResponse(body.model_dump(exclude_none=True), status_code=status, media_type=PROBLEM)


def _on_error(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, (NotFound, UnknownPlugin)):
        return _problem(404, str(error))
    return _problem(503 if isinstance(error, StoreError) else 422, str(error))


def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [{"field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()]
    return _problem(422, "; ".join(f"{e['field']}: {e['message']}" for e in found), found)


def _on_http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, str(error.detail))


def _on_bug(_request: Request, _error: Exception) -> JSONResponse:
    return _problem(500, "an error of the server; its log has the details")
