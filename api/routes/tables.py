"""Latency tables: list, show, coverage of a space, import."""

from __future__ import annotations

import datetime as dt
import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Response

from api.boards.coverage import describe_coverage
from api.networks.spaces import find_space
from api.rest import paging
from api.rest.deps import ServiceDep
from api.rest.fields import naming
from api.rest.guard import Admin, Reader
from api.rest.heavy import HEAVY
from api.rest.idempotency import OnceDep
from api.rest.paging import Cursor, Limit
from api.rest.problems import invalid, responses
from api.schemas.jobs import Channels, Classes, Sides, Word
from api.schemas.tables import Coverage, EntryOut, TableDetail, TableImported, TableOut, TablePage
from api.store.tables import TablePlace
from latency.engines import get_engine
from latency.errors import InvalidTable
from latency.table import LatencyTable
from nas.errors import InvalidSpace, UnknownPlugin

router = APIRouter(prefix="/api/v1/tables", tags=["tables"])
Digest = Annotated[
    str,
    Path(pattern="^[0-9a-f]{4,64}$", description="A table's digest, or its beginning.", examples=["3f2a9c41"]),
]
_EXAMPLE = {"format": "lightnas-latency-table", "version": 2, "digest": "...", "identity": {}, "entries": {}}


@router.get("")
def tables(
    service: ServiceDep,
    _user: Reader,
    board: Annotated[Word | None, Query(description="Only this board's.")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> TablePage:
    """The latency tables, newest first."""
    place = paging.decode_whole(cursor, "tables", dt.datetime, str)
    after = None if place is None else TablePlace(*place)
    found = service.store.tables.page(board=board, after=after, limit=limit + 1)
    items = [TableOut(**table.to_dict()) for table in found[:limit]]
    last = items[-1] if len(found) > limit else None
    return TablePage(items=items, next=None if last is None else paging.encode("tables", last.created_at, last.digest))


@router.get("/{digest}", responses=responses(404))
def table(
    digest: Digest,
    service: ServiceDep,
    _user: Reader,
    entries: Annotated[bool, Query(description="Also a page of the entries.")] = False,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> TableDetail:
    """What a table holds for, how it came about and how good it is."""
    if cursor is not None and not entries:
        raise invalid("query.cursor", "is of a table's entries: ask with entries=true")
    summary, content = service.store.tables.describe(digest)
    shown: list[EntryOut] | None = None
    following = None
    if entries:
        of = f"entries:{summary.digest}"
        place = paging.decode_whole(cursor, of, str)
        found = service.store.tables.entries(summary.digest, after="" if place is None else place[0], limit=limit + 1)
        shown = [EntryOut(key=key, **vars(entry)) for key, entry in found.items()][:limit]
        following = paging.encode(of, shown[-1].key) if len(found) > limit else None
    told = {key: content[key] for key in ("offset_ms", "identity", "calibration", "provenance")}
    return TableDetail(**summary.to_dict(), **told, entries=shown, next=following)


@router.get("/{digest}/coverage", responses=responses(404), dependencies=HEAVY)
def coverage(
    digest: Digest,
    service: ServiceDep,
    _user: Reader,
    space: Annotated[str, Query(max_length=64, description="A search space's name.", examples=["light-nas"])],
    resolution: Annotated[Sides, Query(description="Picture sides in pixels; several make it a gene.")] = [],  # noqa: B006 - FastAPI copies it
    classes: Annotated[Classes | None, Query()] = None,
    channels: Annotated[Channels | None, Query()] = None,
) -> Coverage:
    """Which share of a space's kernels the table has, and which it lacks."""
    with naming("query.space", UnknownPlugin, InvalidSpace):
        found = find_space(space, tuple(resolution), classes, channels).space
    return Coverage(**describe_coverage(service.store, digest, found))


@router.post("", status_code=201, response_model=TableImported)
def take(
    content: Annotated[
        dict[str, Any],
        Body(description="What `nas tables export` writes; `nas tables schema` prints its form.", examples=[_EXAMPLE]),
    ],
    service: ServiceDep,
    _admin: Admin,
    once: OnceDep,
) -> Response:
    """Import a latency table; a damaged one is refused. For admins."""
    with naming("body", InvalidTable):
        made = LatencyTable.from_json(json.dumps(content))
    with naming("body.identity.engine", UnknownPlugin):
        get_engine(made.identity.engine)

    def action() -> TableImported:
        new = service.store.tables.add(made)
        return TableImported(digest=made.digest, board=made.identity.board, ops=len(made.entries), new=new)

    return once(action)
