"""Searches: submit, look at, steer, delete."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response

from api.auth import USER_PATTERN
from api.compose import queue_search
from api.errors import Conflict, OptionError
from api.plans.checks import check_evaluator
from api.plans.estimate import estimate_search
from api.plans.plan import Plan
from api.plans.spec import check_name
from api.rest import paging
from api.rest.deps import ServiceDep
from api.rest.fields import naming, naming_costs
from api.rest.guard import Reader, Submitter, require_owner
from api.rest.heavy import HEAVY
from api.rest.idempotency import KeyHeader, Once, OnceDep
from api.rest.paging import Cursor, Limit
from api.rest.problems import responses
from api.schemas.jobs import Word
from api.schemas.searches import (
    BeliefsOut,
    CheckOut,
    EstimateOut,
    Pace,
    ResumeRequest,
    SearchJob,
    SearchOut,
    SearchPage,
    SearchRequest,
    SearchState,
    SearchSummary,
)
from api.service import Service
from api.store.jobs import Wanted
from api.store.searches import Hold, SearchRecord
from api.submit import steer
from api.submit.searches import plan_search, read_request
from nas.errors import DataError, EvaluationError, SearchError

router = APIRouter(prefix="/api/v1/searches", tags=["searches"])
SearchId = Annotated[int, Path(ge=1, lt=2**31)]
_Printable = Annotated[str | None, Query(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]


@router.post("", status_code=201, response_model=SearchOut, responses=responses(404, 409), dependencies=HEAVY)
def submit(wanted: SearchRequest, service: ServiceDep, user: Submitter, once: OnceDep) -> Response:
    """Submit a search: everything is checked now, and a worker makes it."""
    earlier = None if wanted.earlier is None else service.store.searches.get(str(wanted.earlier))
    plan, board = _check(service, wanted)

    def action() -> SearchOut:
        if earlier is not None:
            _check_pinned(service, plan, earlier)
        made = queue_search(service.store, plan, board=board, name=wanted.name, owner=user.name)
        return _describe(service, made.id)

    return once(action)


@router.post("/check", responses=responses(404, 409), dependencies=HEAVY)
def check(wanted: SearchRequest, service: ServiceDep, _user: Submitter, _key: KeyHeader = None) -> CheckOut:
    """Check a search as when it is submitted, and tell how long it will take. Changes nothing."""
    plan, board = _check(service, wanted)
    taken = wanted.name is not None and service.store.overviews.page(limit=1, filters={"named": wanted.name})
    return CheckOut(
        name_free=not taken,
        board=board,
        table=None if plan.table is None else plan.table.digest,
        confidence=plan.spec.confidence,
        classes=plan.space.graph([0] * len(plan.space.genes)).output.shape[0],
        estimate=EstimateOut(**dataclasses.asdict(estimate_search(service.store, plan))),
    )


@router.get("")
def searches(
    service: ServiceDep,
    _user: Reader,
    state: SearchState | None = None,
    space: _Printable = None,
    board: _Printable = None,
    owner: Annotated[str | None, Query(pattern=USER_PATTERN)] = None,
    name: Annotated[_Printable, Query(description="A text the name contains, in capitals or not.")] = None,
    named: Annotated[Word | None, Query(description="The whole name.")] = None,
    sort: Literal["newest", "oldest"] = "newest",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> SearchPage:
    """The searches, newest first."""
    asked = {"state": state, "space": space, "board": board, "owner": owner, "name": name, "named": named}
    place = paging.decode(cursor, f"searches:{sort}", paging.Id)
    found = service.store.overviews.page(
        after=None if place is None else place[0],
        limit=limit + 1,
        oldest_first=sort == "oldest",
        filters={column: value for column, value in asked.items() if value is not None},
    )
    items = [SearchSummary(**one | {"error": service.data.told(one["error"])}) for one in found[:limit]]
    more = paging.encode(f"searches:{sort}", items[-1].id) if len(found) > limit else None
    return SearchPage(items=items, next=more)


@router.get("/{search_id:int}", responses=responses(404))
def search(search_id: SearchId, service: ServiceDep, _user: Reader) -> SearchOut:
    """One search."""
    return _describe(service, search_id)


@router.post("/{search_id}/cancel", response_model=SearchOut, responses=responses(404, 409))
def cancel(search_id: SearchId, service: ServiceDep, user: Submitter, once: OnceDep) -> Response:
    """Cancel a search: at once where it waits, after its running step where it runs. It can be resumed."""
    record = _own(service, user, search_id)
    return _change(service, user, record, once, lambda: steer.stop_search(service.store, record, Wanted.CANCEL))


@router.post("/{search_id}/pause", response_model=SearchOut, responses=responses(404, 409))
def pause(search_id: SearchId, service: ServiceDep, user: Submitter, once: OnceDep) -> Response:
    """Pause a search: at once where it waits, after its running step where it runs."""
    record = _own(service, user, search_id)
    return _change(service, user, record, once, lambda: steer.stop_search(service.store, record, Wanted.PAUSE))


@router.post("/{search_id}/resume", response_model=SearchOut, responses=responses(404, 409))
def resume(
    search_id: SearchId, service: ServiceDep, user: Submitter, once: OnceDep, wanted: ResumeRequest | None = None
) -> Response:
    """Go on with a search that was stopped or is over, perhaps for more trials."""
    record = _own(service, user, search_id)
    changes = {} if wanted is None else wanted.model_dump(exclude_none=True)
    steer.check_idle(service.store, record)

    def change() -> None:
        if "trials" in changes:
            with naming("body.trials", OptionError):
                steer.check_trials(service.store, record, changes["trials"])
        with naming("body.stop_when", OptionError):
            steer.resume_search(service.store, record, changes)

    return _change(service, user, record, once, change)


@router.post("/{search_id}/retry", response_model=SearchOut, responses=responses(404, 409))
def retry(search_id: SearchId, service: ServiceDep, user: Submitter, once: OnceDep) -> Response:
    """Evaluate a search's failed trials again."""
    record = _own(service, user, search_id)
    steer.check_idle(service.store, record)
    return _change(service, user, record, once, lambda: steer.retry_search(service.store, record))


@router.delete("/{search_id:int}", status_code=204, responses=responses(404, 409))
def delete(search_id: SearchId, service: ServiceDep, user: Submitter) -> None:
    """Delete a search that neither waits nor runs, with its trials, jobs, checkpoints and artifacts."""
    steer.delete_search(service.store, _own(service, user, search_id))


def _check(service: Service, wanted: SearchRequest) -> tuple[Plan, str | None]:
    """The plan of a request, everything in it checked, and its board."""
    if wanted.name is not None:
        with naming("body.name", OptionError):
            check_name(wanted.name)
    with (
        naming("body.data", DataError),
        naming("body.rungs", SearchError),
        naming("body.evaluator_options" if wanted.evaluator_options else "body.data", EvaluationError),
        naming_costs("body.board" if wanted.table is None else "body.table"),
        service.data.hidden(),
    ):
        plan, board = plan_search(service.store, read_request(wanted, service.data))
        check_evaluator(plan, service.store.settings)
    return plan, board


def _check_pinned(service: Service, plan: Plan, earlier: SearchRecord) -> None:
    """Raises NotFound or Conflict if a search starts from another one than was meant: its checks took their time."""
    service.store.searches.again(earlier, Hold.DELETE)
    if plan.spec.earlier is None or plan.spec.earlier["search"] != earlier.id:
        raise Conflict(f"which search is {earlier.name!r} changed just now; send the request again")


def _own(service: Service, user: Submitter, search_id: int) -> SearchRecord:
    record = service.store.searches.by_id(search_id)
    require_owner(user, record.owner)
    return record


def _change(
    service: Service, user: Submitter, record: SearchRecord, once: Once, change: Callable[[], None]
) -> Response:
    def action() -> SearchOut:
        require_owner(user, service.store.searches.again(record).owner)  # looked up before this transaction
        change()
        return _describe(service, record.id)

    return once(action, 200)


def _describe(service: Service, search_id: int) -> SearchOut:
    store, data = service.store, service.data
    record = store.searches.by_id(search_id)
    short = store.overviews.of(search_id)
    job = store.jobs.of_search(search_id)
    pace = None
    if record.state == "running" and (rate := store.overviews.trials_per_s(search_id)) is not None:
        left = short["wanted"] - record.complete - record.pruned - record.failed
        pace = Pace(trials_per_hour=3600 * rate, eta_s=max(0, left) / rate)
    return SearchOut(
        **short | {"error": data.told(record.error)},
        spec={**record.spec, "evaluator_options": data.shown(record.spec["evaluator_options"])},
        beliefs=None if record.beliefs is None else BeliefsOut(**record.beliefs),
        winner=data.shown(record.winner),
        job=None if job is None else SearchJob(**{name: getattr(job, name) for name in SearchJob.model_fields}),
        pace=pace,
    )
