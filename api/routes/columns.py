"""A search's trials as columns, and the best so far: what charts and tables are drawn from."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic_core import to_json

from api.rest.deps import ServiceDep
from api.rest.guard import Reader
from api.rest.heavy import HEAVY
from api.rest.problems import responses
from api.routes.searches import SearchId
from api.schemas.columns import ColumnsOut, Improvement, ImprovementsOut
from api.store.columns import STATES

router = APIRouter(prefix="/api/v1/searches/{search_id}", tags=["trials"])


@router.get("/columns", response_model=ColumnsOut, responses=responses(404), dependencies=HEAVY)
def columns(
    search_id: SearchId,
    service: ServiceDep,
    _user: Reader,
    after: Annotated[int, Query(ge=-1, lt=2**62, description="Only trials with a higher number.")] = -1,
    limit: Annotated[int, Query(ge=1, le=20_000)] = 20_000,
    encodings: Annotated[bool, Query(description="Tell each trial's encoding, too.")] = False,
) -> Response:
    """All trials of a search, as lists of numbers: for charts and tables of 100 000 of them."""
    event = service.store.events.newest()  # first: what happens meanwhile is told twice, never lost
    since = service.store.searches.by_id(search_id).created_at
    found = service.store.columns.page(search_id, since, after=after, limit=limit, encodings=encodings)
    # Written as it is: to validate each of a hundred thousand numbers takes longer than to read them.
    told = {"event": event, "began_at": since.isoformat(), "states": STATES, **found}
    return Response(to_json(told, inf_nan_mode="null"), media_type="application/json")


@router.get("/improvements", responses=responses(404))
def improvements(search_id: SearchId, service: ServiceDep, _user: Reader) -> ImprovementsOut:
    """The complete trials whose reward beat all complete ones of lower number: the best so far."""
    event = service.store.events.newest()
    since = service.store.searches.by_id(search_id).created_at
    found = service.store.columns.improvements(search_id, since)
    return ImprovementsOut(event=event, items=[Improvement(**item) for item in found])
