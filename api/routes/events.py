"""Events: as a stream that resumes, and page by page."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import StringConstraints

from api.rest.deps import ServiceDep
from api.rest.guard import Reader
from api.rest.problems import responses
from api.rest.stream import EventHub, Listener
from api.routes.searches import SearchId
from api.schemas.events import EventOut, EventPage

router = APIRouter(prefix="/api/v1", tags=["events"])
_Number = Annotated[int | None, Query(ge=0, lt=2**63)]
_Kind = Annotated[str, StringConstraints(max_length=32, pattern=r"^[a-z]+\.[a-z]+$")]


def _resume_at(
    after: Annotated[_Number, Query(description="Begin behind this event; without it, with what comes now.")] = None,
    last_event_id: Annotated[
        int | None,
        Header(alias="Last-Event-ID", ge=0, lt=2**63, description="The last event received; wins over `after`."),
    ] = None,
) -> int | None:
    return after if last_event_id is None else last_event_id


def _known(search_id: SearchId, service: ServiceDep, _user: Reader) -> int:
    return service.store.searches.by_id(search_id).id


async def _listen(request: Request, user: Reader) -> AsyncIterator[Listener]:
    with EventHub.of(request.app).listen(None, user.token_id) as listener:
        yield listener


async def _listen_to_search(
    request: Request, user: Reader, search_id: Annotated[int, Depends(_known)]
) -> AsyncIterator[Listener]:
    with EventHub.of(request.app).listen(search_id, user.token_id) as listener:
        yield listener


ResumeAt = Annotated[int | None, Depends(_resume_at)]


@router.get("/events", response_class=EventSourceResponse, responses=responses(429))
async def events(
    request: Request, listener: Annotated[Listener, Depends(_listen)], last: ResumeAt
) -> AsyncIterator[ServerSentEvent]:
    """What happens, as server-sent events: `id` is an event's number, `event` its kind, `data` an EventOut.

    A client that was cut off sends the last number as Last-Event-ID and misses nothing; EventSource does so by itself.
    A stream ends after an hour, when the server stops, or when its client is too slow: then connect again. It also
    ends when its token is revoked or expires.
    """
    async for message in EventHub.of(request.app).stream(listener, last):
        yield message


@router.get("/searches/{search_id}/events", response_class=EventSourceResponse, responses=responses(404, 429))
async def search_events(
    request: Request, listener: Annotated[Listener, Depends(_listen_to_search)], last: ResumeAt
) -> AsyncIterator[ServerSentEvent]:
    """What happens to a search and its trials and jobs, as server-sent events; resumable like all events."""
    async for message in EventHub.of(request.app).stream(listener, last):
        yield message


@router.get("/events/page")
def page(
    service: ServiceDep,
    _user: Reader,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    search_id: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    job_id: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    trial: Annotated[int | None, Query(ge=0, lt=2**31, description="Its number in the search.")] = None,
    before: Annotated[
        _Number, Query(description="The last events in front of this one, instead of the first ones behind `after`.")
    ] = None,
    kind: Annotated[list[_Kind] | None, Query(max_length=16, description="Of these kinds only.")] = None,
) -> EventPage:
    """Events in order, those behind `after`, for clients without server-sent events.

    Backwards from the newest: `before` is any number beyond it, then the number of the first event of each answer.
    """
    found = service.store.events.page(
        after, before=before, search_id=search_id, job_id=job_id, trial=trial, kinds=kind or (), limit=limit
    )
    items = [EventOut(**dataclasses.asdict(event)) for event in found]
    return EventPage(items=items, last=items[-1].id if items else after)
