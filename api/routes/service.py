"""Whether the service lives, and what it counts."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Response

from api.rest.deps import ServiceDep
from api.rest.guard import MetricsReader
from api.schemas.common import Health

router = APIRouter(tags=["service"])


@router.get("/healthz")
async def health() -> Health:
    """Whether the service lives; asks nothing else."""
    return Health(version=version("lightnas"))


@router.get("/readyz")
def ready(service: ServiceDep) -> Health:
    """Whether requests can be answered: the database is there and has this program's schema."""
    service.store.database.ensure_schema()
    return Health(version=version("lightnas"))


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
    openapi_extra={"security": [{}]},  # beside the token: on loopback none is needed
)
def metrics(service: ServiceDep, _user: MetricsReader) -> Response:
    """Counts for Prometheus. Without a token on loopback only."""
    from api.operations.metrics import CONTENT_TYPE, render

    return Response(render(service.store, service.metrics), media_type=CONTENT_TYPE)
