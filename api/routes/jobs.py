"""Jobs: profile, verify, train and export; how far they are; stop and delete them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response

from api.auth import USER_PATTERN, User
from api.rest import paging
from api.rest.deps import ServiceDep
from api.rest.guard import Admin, Reader, Submitter, require_owner
from api.rest.heavy import HEAVY
from api.rest.idempotency import Once, OnceDep
from api.rest.paging import Cursor, Limit
from api.rest.problems import responses
from api.schemas.jobs import (
    ExportRequest,
    JobOut,
    JobPage,
    ProfileRequest,
    SearchRef,
    TrainRequest,
    VerifyRequest,
    Word,
)
from api.service import Service
from api.store.jobs import JobRecord, Wanted
from api.store.searches import Hold, SearchRecord
from api.submit import steer
from api.submit.jobs import AskedJob, export_job, profile_job, train_job, verify_job

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])
JobId = Annotated[int, Path(ge=1, lt=2**31)]


@router.post("/profile", status_code=201, response_model=JobOut, responses=responses(404), dependencies=HEAVY)
def profile(wanted: ProfileRequest, service: ServiceDep, user: Admin, once: OnceDep) -> Response:
    """Measure a space's ops on a board. For admins."""
    return _queue(service, user, once, profile_job(service.store, wanted))


@router.post("/verify", status_code=201, response_model=JobOut, responses=responses(404, 409), dependencies=HEAVY)
def verify(wanted: VerifyRequest, service: ServiceDep, user: Submitter, once: OnceDep) -> Response:
    """Run a search's networks on its board, or the test pictures through its export there."""
    search = _own(service, user, wanted.search)
    return _queue(service, user, once, verify_job(service.store, wanted, search))


@router.post("/train", status_code=201, response_model=JobOut, responses=responses(404, 409), dependencies=HEAVY)
def train(wanted: TrainRequest, service: ServiceDep, user: Submitter, once: OnceDep) -> Response:
    """Train a search's best networks to the end, and choose the winner."""
    search = _own(service, user, wanted.search)
    with service.data.hidden():
        asked = train_job(service.store, wanted, search, service.data)
    return _queue(service, user, once, asked)


@router.post("/export", status_code=201, response_model=JobOut, responses=responses(404, 409), dependencies=HEAVY)
def export(wanted: ExportRequest, service: ServiceDep, user: Submitter, once: OnceDep) -> Response:
    """Write a search's winner as torch, ONNX and ncnn; the files are the job's artifacts."""
    search = _own(service, user, wanted.search)
    return _queue(service, user, once, export_job(service.store, wanted, search))


@router.get("")
def jobs(
    service: ServiceDep,
    _user: Reader,
    kind: Literal["search", "profile", "verify", "train", "export"] | None = None,
    state: Literal["queued", "running", "paused", "complete", "failed", "cancelled"] | None = None,
    search_id: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    board: Word | None = None,
    owner: Annotated[str | None, Query(pattern=USER_PATTERN)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> JobPage:
    """The jobs, newest first."""
    asked = {"kind": kind, "state": state, "search_id": search_id, "board": board, "owner": owner}
    place = paging.decode(cursor, "jobs", paging.Id)
    found = service.store.jobs.page(
        after=None if place is None else place[0],
        limit=limit + 1,
        filters={column: value for column, value in asked.items() if value is not None},
    )
    items = [_describe(service, job) for job in found[:limit]]
    return JobPage(items=items, next=paging.encode("jobs", items[-1].id) if len(found) > limit else None)


@router.get("/{job_id:int}", responses=responses(404))
def job(job_id: JobId, service: ServiceDep, _user: Reader) -> JobOut:
    """One job."""
    return _describe(service, service.store.jobs.get(job_id))


@router.post("/{job_id:int}/cancel", response_model=JobOut, responses=responses(404, 409))
def cancel(job_id: JobId, service: ServiceDep, user: Submitter, once: OnceDep) -> Response:
    """Cancel a job: at once where it waits, after its running step where it runs."""
    found = service.store.jobs.get(job_id)
    require_owner(user, found.owner)

    def action() -> JobOut:
        require_owner(user, service.store.jobs.hold(found).owner)
        return _describe(service, service.store.jobs.stop(job_id, Wanted.CANCEL))

    return once(action, 200)


@router.delete("/{job_id:int}", status_code=204, responses=responses(404, 409))
def delete(job_id: JobId, service: ServiceDep, user: Submitter) -> None:
    """Delete a job that is over, with its artifacts. A search's own job goes with the search."""
    found = service.store.jobs.get(job_id)
    require_owner(user, found.owner)
    steer.delete_job(service.store, found)


def _own(service: Service, user: User, search: SearchRef) -> SearchRecord:
    store = service.store.searches
    record = store.by_id(search) if isinstance(search, int) else store.get(search)
    require_owner(user, record.owner)
    return record


def _queue(service: Service, user: User, once: Once, asked: AskedJob) -> Response:
    def action() -> JobOut:
        if asked.search is not None:  # since it was looked up, checks took their time
            require_owner(user, service.store.searches.again(asked.search, Hold.DELETE).owner)
        return _describe(service, asked.queue(service.store, user.name))

    return once(action)


def _describe(service: Service, record: JobRecord) -> JobOut:
    data = service.data
    values = {name: getattr(record, name) for name in JobOut.model_fields}
    shown = {name: data.shown(values[name]) for name in ("spec", "result")}
    return JobOut(**values | shown | {"error": data.told(record.error)})
