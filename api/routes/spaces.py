"""Search spaces: look at them, price networks, and see what budgets leave."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query

from api.boards.tables import find_table
from api.errors import NotFound
from api.networks.architecture import describe_network
from api.networks.reference import find_mobilenet_v2
from api.networks.spaces import PricedSpace, describe_space, find_space
from api.plans.feasibility import describe_feasible
from api.plans.plan import default_confidence
from api.plans.spec import SearchSpec
from api.rest.deps import ServiceDep
from api.rest.fields import naming, naming_costs
from api.rest.guard import Reader
from api.rest.heavy import HEAVY
from api.rest.idempotency import KeyHeader
from api.rest.problems import responses
from api.schemas.jobs import Channels, Classes, Sides
from api.schemas.spaces import (
    Feasibility,
    FeasibilityRequest,
    NetworkRequest,
    Price,
    PriceRequest,
    SpaceDetail,
    SpaceSummary,
)
from api.schemas.trials import NetworkOut
from api.store import Store
from latency.interval import has_intervals
from nas.cost import costs
from nas.errors import InvalidEncoding
from nas.objective import GRAPH_COSTS
from nas.spaces import space_names
from nas.spaces.recipe import SpaceSpec

router = APIRouter(prefix="/api/v1/spaces", tags=["spaces"])
Name = Annotated[str, Path(max_length=64, examples=["light-nas"])]
_WHOLE = ("flops", "params")


@router.get("")
def spaces(_user: Reader) -> list[SpaceSummary]:
    """The search spaces."""
    found = [find_space(name).space for name in space_names()]
    return [
        SpaceSummary(space=s.name, genes=len(s.genes), size=s.size, inputs=[list(i) for i in s.inputs]) for s in found
    ]


@router.get("/{name}", responses=responses(404), dependencies=HEAVY)
def space(
    name: Name,
    _user: Reader,
    resolution: Annotated[Sides, Query(description="Picture sides in pixels; several make it a gene.")] = [],  # noqa: B006 - FastAPI copies it
    classes: Annotated[Classes | None, Query()] = None,
    channels: Annotated[Channels | None, Query()] = None,
) -> SpaceDetail:
    """A space's genes and cost ranges."""
    return SpaceDetail(**describe_space(find_space(name, tuple(resolution), classes, channels)))


@router.post("/{name}/price", responses=responses(404), dependencies=HEAVY)
def price(name: Name, wanted: PriceRequest, service: ServiceDep, _user: Reader, _key: KeyHeader = None) -> list[Price]:
    """FLOPs, parameters, memory and, with a table, latency of networks. Changes nothing."""
    priced = find_space(name, tuple(wanted.resolution), wanted.classes, wanted.channels)
    rows = []
    for number, text in enumerate(wanted.encodings):
        with naming(f"body.encodings.{number}", InvalidEncoding):
            rows.append(priced.space.parse(text))
    models = {metric: priced.model(metric) for metric in GRAPH_COSTS}
    if wanted.table is not None:
        priced = _with_table(service.store, priced, wanted.table, None)
        with naming_costs("body.table"):
            models["latency_ms"] = priced.model("latency_ms")
            if priced.table is not None and has_intervals(priced.table):
                models |= {"low_ms": priced.model("latency_ms", 0.05), "high_ms": priced.model("latency_ms", 0.95)}
    columns = dict(zip(models, costs(list(models.values()), np.stack(rows)), strict=True))
    values = zip(*((c.astype(int) if m in _WHOLE else c).tolist() for m, c in columns.items()), strict=True)
    return [
        Price(encoding=text, **dict(zip(columns, row, strict=True)))
        for text, row in zip(wanted.encodings, values, strict=True)
    ]


@router.post("/{name}/feasibility", responses=responses(404), dependencies=HEAVY)
def feasibility(
    name: Name, wanted: FeasibilityRequest, service: ServiceDep, _user: Reader, _key: KeyHeader = None
) -> Feasibility:
    """What budgets leave of a space: smallest and largest costs, the share inside, histograms, an example network.

    Changes nothing. Budgets that no network keeps are an error that tells the smallest possible value.
    """
    priced = find_space(name, tuple(wanted.resolution), wanted.classes, wanted.channels)
    budgets = wanted.budgets.model_dump(exclude_none=True)
    confidence = wanted.confidence
    if wanted.table is not None or wanted.board is not None:
        priced = _with_table(service.store, priced, wanted.table, wanted.board)
        if priced.table is not None and confidence is None and "latency_ms" in budgets:
            confidence = default_confidence(priced.table)
    with naming_costs("body.board" if wanted.table is None else "body.table"):
        spec = SearchSpec(SpaceSpec(name), budgets, confidence=confidence)
        return Feasibility(**describe_feasible(spec, priced))


@router.post("/{name}/architecture", responses=responses(404), dependencies=HEAVY)
def architecture(
    name: Name, wanted: NetworkRequest, service: ServiceDep, _user: Reader, _key: KeyHeader = None
) -> NetworkOut:
    """A network of the space, or MobileNetV2 beside it: genes, stages, and every op with its cost.

    Changes nothing. Ops that the table lacks have no `predicted_ms`, and then nor have their stages and the network.
    """
    priced = find_space(name, tuple(wanted.resolution), wanted.classes, wanted.channels)
    if wanted.encoding is None:
        space, row = find_mobilenet_v2(priced.space)
    else:
        with naming("body.encoding", InvalidEncoding):
            space, row = priced.space, priced.space.parse(wanted.encoding)
    if wanted.table is not None or wanted.board is not None:
        priced = _with_table(service.store, priced, wanted.table, wanted.board)
    return NetworkOut(**describe_network(space, row, priced.table, partial=True))


def _with_table(store: Store, priced: PricedSpace, table: str | None, board: str | None) -> PricedSpace:
    """The space priced by a table, or by the board's newest that covers it."""
    if table is not None:
        with naming("body.table", NotFound):
            return priced.with_table(store.tables.get(table))
    with naming("body.board", NotFound):
        return priced.with_table(find_table(store, store.boards.get(board or "").name, priced.space))
