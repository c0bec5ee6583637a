"""Artifacts: the files that jobs made."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import FileResponse

from api.rest import paging
from api.rest.deps import ServiceDep
from api.rest.guard import Reader
from api.rest.paging import Cursor, Limit
from api.rest.problems import responses
from api.results.artifacts import ArtifactStore
from api.routes.jobs import JobId
from api.routes.searches import SearchId
from api.schemas.jobs import ArtifactOut, ArtifactPage
from api.service import Service

router = APIRouter(prefix="/api/v1", tags=["artifacts"])
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


@router.get("/jobs/{job_id}/artifacts", responses=responses(404))
def of_job(
    job_id: JobId, service: ServiceDep, _user: Reader, cursor: Cursor = None, limit: Limit = 100
) -> ArtifactPage:
    """The files of a job, oldest first."""
    service.store.jobs.get(job_id)
    return _page(service, cursor, limit, job_id=job_id)


@router.get("/searches/{search_id}/artifacts", responses=responses(404))
def of_search(
    search_id: SearchId, service: ServiceDep, _user: Reader, cursor: Cursor = None, limit: Limit = 100
) -> ArtifactPage:
    """The files of all jobs about a search, oldest first."""
    service.store.searches.by_id(search_id)
    return _page(service, cursor, limit, search_id=search_id)


@router.get(
    "/artifacts/{artifact_id}/content",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}, **responses(404)},
)
def content(artifact_id: Annotated[int, Path(ge=1, lt=2**31)], service: ServiceDep, _user: Reader) -> FileResponse:
    """Download a file; a browser saves it and shows nothing of it."""
    record = service.store.artifacts.get(artifact_id)
    name = _UNSAFE.sub("_", record.name.rpartition("/")[2])
    return FileResponse(
        ArtifactStore(service.store).open_path(record),
        media_type=record.media_type,
        filename=name,
        headers={"X-Content-Type-Options": "nosniff", "ETag": f'"{record.sha256}"'},
    )


def _page(service: Service, cursor: str | None, limit: int, **of: int) -> ArtifactPage:
    place = paging.decode(cursor, "artifacts", paging.Id)
    found = service.store.artifacts.page(**of, after=0 if place is None else place[0], limit=limit + 1)
    items = [ArtifactOut(**vars(record)) for record in found[:limit]]
    return ArtifactPage(items=items, next=paging.encode("artifacts", items[-1].id) if len(found) > limit else None)
