"""What a request may say: nothing that a database or a computer word cannot hold."""

from __future__ import annotations

import math
from typing import Any, Final

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from api.rest.problems import invalid

MAX_DEPTH: Final = 32
"""Levels of lists and objects in a body; Python's own limit depends on how deep the stack is already."""
MAX_VALUES: Final = 50_000
"""Numbers, strings, lists and objects in a body."""
MAX_NAMES: Final = 1000
"""Names in an object, for each unknown one of which an error would be told."""
_OF_TABLES: Final = "/tables"  # whose entries are one object
_WHOLE: Final = 2**63
_INLINE_BYTES: Final = 16 * 1024  # checked between other requests; longer bodies in a thread of their own
_CHARACTER: Final = "a character that cannot be stored (NUL or half a surrogate)"


async def check_content(request: Request) -> None:
    """Refuse text that a database cannot store, numbers no computer word holds, and bodies of another type.

    A dependency of the whole application (`FastAPI(dependencies=[Depends(check_content)])`), so that no other place
    has to think of these.

    Raises:
        HTTPException: 415, the body is no JSON.
        RequestValidationError: a string holds NUL or half a character, a number is not finite or beyond 64 bits,
            the body is nested too deep or has too many parts; names the field.
    """
    for place, given in (("path", request.path_params.items()), ("query", request.query_params.multi_items())):
        for name, value in given:
            if _is_broken(name) or _is_broken(str(value)):
                raise invalid(f"{place}.{name}", f"holds {_CHARACTER}")
    body = await request.body()
    if not body:
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "send the body as application/json", {"Accept": "application/json"})
    try:
        value = await request.json()  # FastAPI has read it already, if the route takes one
    except (ValueError, RecursionError) as e:
        raise HTTPException(400, "the body is no JSON") from e
    names = MAX_VALUES if request.url.path.endswith(_OF_TABLES) else MAX_NAMES
    if len(body) <= _INLINE_BYTES:
        _check(value, names)
    else:
        await run_in_threadpool(_check, value, names)


def _check(body: Any, names: int) -> None:
    waiting: list[tuple[tuple[str, ...], Any]] = [((), body)]
    count = 1
    while waiting:
        path, value = waiting.pop()
        count += len(value) if isinstance(value, list | dict) else 0
        wrong = _wrong(value, len(path)) if count <= MAX_VALUES else f"the body has more than {MAX_VALUES} values"
        if wrong is None and isinstance(value, dict) and len(value) > names:
            wrong = f"has more than {names} names"
        if wrong is not None:
            raise invalid(".".join(("body", *path)), wrong)
        if isinstance(value, dict):
            waiting += [((*path, key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [((*path, str(index)), inner) for index, inner in enumerate(value)]


def _wrong(value: Any, depth: int) -> str | None:
    if isinstance(value, str):
        return f"holds {_CHARACTER}" if _is_broken(value) else None
    if isinstance(value, float):
        return None if math.isfinite(value) else "is not a finite number"
    if isinstance(value, int):
        return None if -_WHOLE <= value < _WHOLE else "is beyond 64 bits"
    if isinstance(value, dict) and any(_is_broken(key) for key in value):
        return f"has a name with {_CHARACTER}"
    return f"is nested deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else None


def _is_broken(text: str) -> bool:
    if "\0" in text:
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
