"""A search's trials: pages, single ones, their networks, and the front of them all."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response

from api.networks.architecture import describe_network, untrained_onnx
from api.networks.spaces import PricedSpace, space_of
from api.rest import paging
from api.rest.deps import ServiceDep
from api.rest.fields import naming_costs
from api.rest.guard import Reader
from api.rest.heavy import HEAVY
from api.rest.paging import Cursor, Limit
from api.rest.problems import invalid, responses
from api.results.fronts import describe_front
from api.schemas.trials import FrontOut, NetworkOut, TrialOut, TrialPage, TrialSummary
from api.service import Service
from api.store.trial_pages import Rank
from nas.space import Encoding
from nas.trial import TrialState

router = APIRouter(prefix="/api/v1/searches/{search_id}", tags=["trials"])
SearchId = Annotated[int, Path(ge=1, lt=2**31)]
Number = Annotated[int, Path(ge=0, lt=2**62, description="Of the trial in its search.")]
_REWARDED = (TrialState.COMPLETE, TrialState.PRUNED)


@router.get("/trials", responses=responses(404))
def trials(
    search_id: SearchId,
    service: ServiceDep,
    _user: Reader,
    state: Annotated[TrialState | None, Query(description="Only those in this state.")] = None,
    order: Annotated[
        Literal["number", "reward"],
        Query(description="`reward`: the best first, of the complete trials unless `state` is `pruned`."),
    ] = "number",
    cursor: Cursor = None,
    limit: Limit = 100,
) -> TrialPage:
    """A search's trials, without what their evaluators told."""
    service.store.searches.by_id(search_id)
    pages, of = service.store.trials, f"trials:{order}"
    if order == "number":
        place = paging.decode_whole(cursor, of, int)
        found = pages.page(search_id, after=-1 if place is None else place[0], limit=limit + 1, state=state)
    else:
        if state is not None and state not in _REWARDED:
            raise invalid("query.state", f"{state.value} trials have no reward to be ordered by")
        place = paging.decode_whole(cursor, of, float, int)
        after = None if place is None else Rank(*place)
        found = pages.best(search_id, after=after, limit=limit + 1, state=state or TrialState.COMPLETE)
    items = [TrialSummary(**row) for row in found[:limit]]
    if len(found) <= limit:
        return TrialPage(items=items, next=None)
    last = items[-1]
    ended = (last.number,) if order == "number" else (last.reward, last.number)
    return TrialPage(items=items, next=paging.encode(of, *ended))


@router.get("/trials/{number}", responses=responses(404))
def trial(search_id: SearchId, number: Number, service: ServiceDep, _user: Reader) -> TrialOut:
    """One trial with what its evaluator told."""
    return TrialOut(**service.store.trials.one(search_id, number))


@router.get("/trials/{number}/architecture", responses=responses(404, 409), dependencies=HEAVY)
def architecture(search_id: SearchId, number: Number, service: ServiceDep, _user: Reader) -> NetworkOut:
    """A trial's network: genes, stages, and every op with its FLOPs, parameters and predicted ms."""
    priced, row = _network(service, search_id, number)
    with naming_costs("path.search_id"):
        return NetworkOut(**describe_network(priced.space, row, priced.table))


@router.get(
    "/trials/{number}/onnx",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        **responses(404, 409),
    },
    dependencies=HEAVY,
)
def onnx(search_id: SearchId, number: Number, service: ServiceDep, _user: Reader) -> Response:
    """A trial's network as an untrained ONNX file: random weights, norms folded into them."""
    priced, row = _network(service, search_id, number)
    name = f"search-{search_id}-trial-{number}.onnx"
    return Response(
        untrained_onnx(priced.space.graph(row)),
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.get("/front", responses=responses(404, 409))
def front(
    search_id: SearchId,
    service: ServiceDep,
    _user: Reader,
    by: Annotated[
        Literal["latency_ms", "flops", "params", "model_mb", "peak_memory_mb"] | None,
        Query(description="The cost; default: the one searched for, else of the first budget, else flops."),
    ] = None,
    at: Annotated[
        list[Annotated[float, Query(gt=0, le=1e18, allow_inf_nan=False)]],
        Query(max_length=100, description="Budgets in that cost to answer."),
    ] = [],  # noqa: B006 - FastAPI copies it
) -> FrontOut:
    """The trials no other beats in accuracy and cost, and the best one inside each budget `at`."""
    return FrontOut(**describe_front(service.store, service.store.searches.by_id(search_id), by, at))


def _network(service: Service, search_id: int, number: int) -> tuple[PricedSpace, Encoding]:
    """The space of a search, with its table, and a trial's row."""
    record = service.store.searches.by_id(search_id)
    encoding = service.store.trials.one(search_id, number)["encoding"]
    priced = space_of(service.store, record)
    return priced, priced.space.parse(encoding)
