"""Boards: list, show, register, forget."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from api.rest import paging
from api.rest.deps import ServiceDep
from api.rest.fields import naming
from api.rest.guard import Admin, Reader
from api.rest.idempotency import OnceDep
from api.rest.paging import Cursor, Limit
from api.rest.problems import responses
from api.schemas.boards import BoardDetail, BoardOut, BoardPage, BoardRequest
from latency.board import LOCAL, Board, parse_address
from latency.engines import get_engine
from latency.errors import LatencyError
from nas.errors import UnknownPlugin

router = APIRouter(prefix="/api/v1/boards", tags=["boards"])
BoardName = Annotated[str, Path(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples=["pi4"])]


@router.get("")
def boards(service: ServiceDep, _user: Reader, cursor: Cursor = None, limit: Limit = 100) -> BoardPage:
    """The registered boards, by name."""
    place = paging.decode_whole(cursor, "boards", str)
    found = service.store.boards.page(after="" if place is None else place[0], limit=limit + 1)
    items = [_out(board) for board in found[:limit]]
    return BoardPage(items=items, next=paging.encode("boards", items[-1].name) if len(found) > limit else None)


@router.get("/{name}", responses=responses(404))
def board(name: BoardName, service: ServiceDep, _user: Reader) -> BoardDetail:
    """A board, and what its last check found."""
    found = service.store.boards.get(name)
    return BoardDetail(**vars(_out(found)), facts=service.store.boards.facts(name))


@router.post("", status_code=201, response_model=BoardOut, responses=responses(409))
def register(wanted: BoardRequest, service: ServiceDep, _admin: Admin, once: OnceDep) -> Response:
    """Register a board; nothing is sent to it yet. For admins."""
    with naming("body.engine", UnknownPlugin):
        get_engine(wanted.engine)
    if wanted.address != LOCAL:
        with naming("body.address", LatencyError):
            parse_address(wanted.address)
    with naming("body", LatencyError):
        made = Board(**{**wanted.model_dump(), "cores": tuple(wanted.cores)})

    def action() -> BoardOut:
        service.store.boards.add(made)
        return _out(made)

    return once(action)


@router.delete("/{name}", status_code=204, responses=responses(404))
def forget(name: BoardName, service: ServiceDep, _admin: Admin) -> None:
    """Forget a board; its latency tables stay. For admins."""
    service.store.boards.remove(name)


def _out(board: Board) -> BoardOut:
    told = board.to_dict()
    del told["identity_file"]
    return BoardOut(**told)
