"""Cursors: where a page of a list ended, as text that means nothing to a client."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from typing import Annotated, Any

from fastapi import Query

from api.rest.problems import invalid

Limit = Annotated[int, Query(ge=1, le=1000, description="Most items of a page.")]
Cursor = Annotated[
    str | None, Query(max_length=1024, pattern="^[A-Za-z0-9_-]*$", description="`next` of the page before.")
]
_WHOLE = 2**63
_ID = 2**31


class Id(int):
    """Kind of a value: the number of a row, which the column holds in 32 bits."""


def encode(of: str, *place: int | float | str | dt.datetime | None) -> str:
    """The cursor of an item.

    Args:
        of: the list and its order, e.g. `searches:name`: a cursor is of no use elsewhere.
        *place: the item's values of the columns the list is sorted by.
    """
    values = [value.isoformat() if isinstance(value, dt.datetime) else value for value in place]
    return base64.urlsafe_b64encode(json.dumps([of, *values], separators=(",", ":")).encode()).rstrip(b"=").decode()


def decode(cursor: str | None, of: str, *kinds: type) -> tuple[Any, ...] | None:
    """The place that `encode` was given; None for the first page.

    Args:
        cursor: as a client sent it.
        of: as for `encode`.
        *kinds: the type of each value: int, Id, float, str or datetime; any may also be None.

    Raises:
        RequestValidationError: it is no cursor of this list; names `query.cursor`.
    """
    if not cursor:
        return None
    try:
        name, *place = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        if name != of:
            raise ValueError
        return tuple(_read(value, kind) for value, kind in zip(place, kinds, strict=True))
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise invalid("query.cursor", "is no cursor of this list; take `next` of the page before") from None


def decode_whole(cursor: str | None, of: str, *kinds: type) -> tuple[Any, ...] | None:
    """Like `decode`, for a list whose columns are never null: a forged cursor with a null is none of it."""
    place = decode(cursor, of, *kinds)
    if place is not None and None in place:
        raise invalid("query.cursor", "is no cursor of this list; take `next` of the page before")
    return place


def _read(value: Any, kind: type) -> Any:
    if value is None:
        return None
    if kind is dt.datetime:
        moment = dt.datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(dt.UTC)  # an OverflowError where that is beyond the years there are
    if kind is Id:
        if type(value) is not int or not 0 <= value < _ID:
            raise ValueError
        return value
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError
    if isinstance(value, str):
        value.encode()  # half a surrogate has no UTF-8: a ValueError
    broken = (
        (isinstance(value, str) and "\0" in value)
        or (isinstance(value, float) and not math.isfinite(value))
        or (isinstance(value, int) and not -_WHOLE <= value < _WHOLE)
    )
    if broken:
        raise ValueError
    return value
