"""Remote evaluators: clients ask for trials, report their steps and tell their accuracies."""

from __future__ import annotations

import contextlib
import time
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api.auth import User
from api.errors import Conflict
from api.executors.choice import REMOTE
from api.networks.architecture import describe_network, untrained_onnx
from api.networks.spaces import space_of
from api.rest.deps import ServiceDep
from api.rest.guard import Submitter, require_owner
from api.rest.heavy import place
from api.rest.idempotency import Once, OnceDep
from api.rest.problems import responses
from api.rest.turnstile import Turnstile
from api.schemas.evaluations import (
    AskAnswer,
    AskRequest,
    Given,
    HeartbeatAnswer,
    HeartbeatRequest,
    LeaseFacts,
    LeaseOut,
    ReportAnswer,
    ReportRequest,
    TellRequest,
)
from api.schemas.trials import NetworkOut
from api.service import Service
from api.store import Store
from api.store.searches import SearchRecord
from nas.evaluator import Progress
from nas.space import SearchSpace

router = APIRouter(prefix="/api/v1/searches/{search_id}", tags=["evaluations"])
SearchId = Annotated[int, Path(ge=1, lt=2**31)]
Number = Annotated[int, Path(ge=0, lt=2**53)]


class _NothingYet(Exception):
    """Nothing to lease: undoes the claim on the request's Idempotency-Key."""


@router.post("/ask", response_model=AskAnswer, responses=responses(404, 409))
async def ask(
    search_id: SearchId, wanted: AskRequest, request: Request, service: ServiceDep, user: Submitter, once: OnceDep
) -> Response:
    """Lease trials of a search that remote clients evaluate (evaluator `remote`); waits for them up to `wait_s`.

    A trial is the client's while a heartbeat or a report comes every `lease_s` seconds; then another one may get it.
    """
    deadline = time.monotonic() + wanted.wait_s
    record = await run_in_threadpool(_mine, service, user, search_id)
    if record.spec["evaluator"] != REMOTE:
        raise Conflict(f"search {search_id} is evaluated by {record.spec['evaluator']} on the server, not by clients")
    turnstile = Turnstile.of(request.app)
    while True:
        if await request.is_disconnected():  # a trial of nobody would stand still for a lease, an attempt the less
            raise ClientDisconnect
        await turnstile.open()
        try:
            last = time.monotonic() >= deadline
            with place(user.token_id) if wanted.onnx else contextlib.nullcontext():  # before anything is leased
                kept = await run_in_threadpool(_lease, service.store, record, wanted, once, last)
                return await run_in_threadpool(_describe, service.store, record, kept, wanted.onnx)
        except _NothingYet:
            await turnstile.wait(search_id, deadline)


@router.post("/evaluations/{number}/heartbeat", response_model=HeartbeatAnswer, responses=responses(404, 409))
def heartbeat(
    search_id: SearchId, number: Number, told: HeartbeatRequest, service: ServiceDep, user: Submitter, once: OnceDep
) -> Response:
    """Keep a trial. 409: it is another client's by now, or the search is over; 404: nobody waits for it."""
    _mine(service, user, search_id)
    evaluations = service.store.evaluations
    return once(lambda: HeartbeatAnswer(lease_s=evaluations.heartbeat(search_id, number, told.token)), 200)


@router.post("/evaluations/{number}/report", response_model=ReportAnswer, responses=responses(404, 409))
def report(
    search_id: SearchId, number: Number, told: ReportRequest, service: ServiceDep, user: Submitter, once: OnceDep
) -> Response:
    """Tell what is known after a step, and hear whether to go on; keeps the trial. The same step may come again."""
    _mine(service, user, search_id)
    progress = Progress(told.step, told.steps, told.metrics)
    evaluations = service.store.evaluations
    return once(lambda: ReportAnswer(stop=evaluations.report(search_id, number, told.token, progress)), 200)


@router.post("/evaluations/{number}/tell", status_code=204, responses=responses(404, 409))
def tell(
    search_id: SearchId, number: Number, told: TellRequest, service: ServiceDep, user: Submitter, once: OnceDep
) -> Response:
    """End a trial by its accuracy, or by why it failed. The same token may tell again: only the first time counts."""
    _mine(service, user, search_id)
    end = told.model_dump(exclude={"token"})
    return once(lambda: service.store.evaluations.tell(search_id, number, told.token, **end), 204)


# Parts -----------------------------------------------------------------------------------------------------------


def _mine(service: Service, user: User, search_id: int) -> SearchRecord:
    record = service.store.searches.by_id(search_id)
    require_owner(user, record.owner)
    return record


def _lease(store: Store, record: SearchRecord, wanted: AskRequest, once: Once, last: bool) -> Response:
    def action() -> Given:
        leases = store.evaluations.lease(record.id, wanted.client, wanted.count)
        finished = not leases and store.evaluations.is_over(record.id)
        if not (leases or finished or last):
            raise _NothingYet
        return Given(
            leases=[LeaseFacts(**{**vars(lease), "encoding": list(lease.encoding)}) for lease in leases],
            finished=finished,
        )

    return once(action, 200)


def _describe(store: Store, record: SearchRecord, kept: Response, onnx: bool) -> Response:
    """The answer with the networks; those are not kept, they follow from the encodings."""
    given = Given.model_validate_json(bytes(kept.body))
    space = space_of(store, record).space
    leases = [_with_network(space, lease, onnx) for lease in given.leases]
    answer = AskAnswer(leases=leases, finished=given.finished)
    headers = {k: v for k, v in kept.headers.items() if k == "idempotency-replayed"}
    return Response(answer.model_dump_json(), kept.status_code, headers, "application/json")


def _with_network(space: SearchSpace, lease: LeaseFacts, onnx: bool) -> LeaseOut:
    graph = space.graph(lease.encoding)
    return LeaseOut.model_construct(
        **lease.model_dump(),
        architecture=NetworkOut(**describe_network(space, space.row(lease.encoding))),
        graph=graph.to_dict(),
        onnx=untrained_onnx(graph, lease.seed) if onnx else None,
    )
