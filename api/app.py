"""The REST service put together: limits, who may, errors, and the routes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version

from fastapi import Depends, FastAPI

from api import web
from api.rest import docs, limits, problems
from api.rest.access_log import AccessLog
from api.rest.content import check_content
from api.rest.guard import sign_in_senders
from api.rest.stream import Leaving
from api.rest.turnstile import Turnstile
from api.routes import (
    artifacts,
    boards,
    catalogue,
    columns,
    evaluations,
    events,
    jobs,
    searches,
    spaces,
    tables,
    tokens,
    trials,
)
from api.routes import (
    service as service_routes,
)
from api.service import Service

_ABOUT = """Searches, boards, latency tables and jobs. FLOPs are multiply-accumulates at batch 1.

Send `Authorization: Bearer nas_...` with every request, and an `Idempotency-Key` of your own with every POST: repeated
with the same key, it is done once. Errors are `application/problem+json` (RFC 9457). Lists go on with `cursor=next`."""


def create_app(service: Service) -> FastAPI:
    """The application over a service, whose store the caller closes."""
    app = FastAPI(
        title="lightnas",
        version=version("lightnas"),
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=_sweeping,
        redirect_slashes=False,  # a redirect would name whatever host and scheme the request does
        generate_unique_id_function=docs.operation_id,
        dependencies=[Depends(sign_in_senders), Depends(check_content)],
    )
    app.state.service = service
    problems.install(app)
    limits.install(app, service.serve)
    docs.install(app)
    web.install(app)
    routers = (
        catalogue,
        spaces,
        boards,
        tables,
        searches,
        trials,
        columns,
        evaluations,
        events,
        jobs,
        artifacts,
        tokens,
        service_routes,
    )
    for module in routers:
        app.include_router(module.router)
    app.add_middleware(Leaving)
    app.add_middleware(AccessLog, metrics=service.metrics)  # outermost: it sees what the limits refuse, too
    return app


@contextlib.asynccontextmanager
async def _sweeping(app: FastAPI) -> AsyncIterator[None]:
    """While the application is served, remote evaluations that are lost for good end."""
    sweep = asyncio.create_task(Turnstile.of(app).sweep())
    try:
        yield
    finally:
        sweep.cancel()
        await asyncio.wait([sweep])
