"""Tokens: make, list, revoke; and who a token belongs to."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from fastapi import APIRouter, Path, Response

from api.rest import paging
from api.rest.deps import ServiceDep
from api.rest.guard import Admin, Reader
from api.rest.idempotency import OnceDep
from api.rest.paging import Cursor, Limit
from api.rest.problems import responses
from api.schemas.tokens import Me, TokenMade, TokenOut, TokenPage, TokenRequest
from api.store.models import now

router = APIRouter(prefix="/api/v1", tags=["tokens"])
_SHOWN = (
    "this request made a token, which its first answer showed and nothing keeps; if it was lost, revoke that token and "
    "make another one with a new Idempotency-Key"
)
TokenId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", examples=["0123456789abcdef"])]


@router.get("/me")
def me(user: Reader) -> Me:
    """Whose token this is, and what it may do."""
    return Me(user=user.name, role=user.role, token_id=user.token_id)


@router.post("/tokens", status_code=201, response_model=TokenMade, responses=responses(409))
def make(wanted: TokenRequest, service: ServiceDep, _admin: Admin, once: OnceDep) -> Response:
    """Make a token; its text is in this answer and nowhere else. For admins."""
    days = wanted.expires_in_days
    expires_at = None if days is None else now() + dt.timedelta(days=days)

    def action() -> TokenMade:
        record, text = service.store.tokens.create(wanted.user, wanted.role, note=wanted.note, expires_at=expires_at)
        return TokenMade(**vars(record), token=text)

    return once(action, shown_once=_SHOWN)


@router.get("/tokens")
def tokens(service: ServiceDep, _admin: Admin, cursor: Cursor = None, limit: Limit = 100) -> TokenPage:
    """The tokens without their secrets, newest first, revoked ones too. For admins."""
    place = paging.decode_whole(cursor, "tokens", dt.datetime, str)
    after = None if place is None else (place[0], place[1])
    found = service.store.tokens.list(after=after, limit=limit + 1)
    items = [TokenOut(**vars(record)) for record in found[:limit]]
    more = len(found) > limit
    return TokenPage(items=items, next=paging.encode("tokens", items[-1].created_at, items[-1].id) if more else None)


@router.delete("/tokens/{token_id}", responses=responses(404))
def revoke(token_id: TokenId, service: ServiceDep, _admin: Admin) -> TokenOut:
    """Revoke a token: it is worthless from now on, and stays in the list. For admins."""
    return TokenOut(**vars(service.store.tokens.revoke(token_id)))
