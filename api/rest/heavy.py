"""Requests that may compute for seconds: only so many at once, so that they never hold every thread of the service."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Final

from fastapi import Depends
from starlette.exceptions import HTTPException

from api.rest.guard import SignedIn

AT_ONCE: Final = 8
"""Of the 40 threads that requests share."""
PER_TOKEN: Final = 2
"""So that one user's requests are not all of them."""
WAIT_S = 10.0
_LOOK_S = 0.02
_lock = threading.Lock()
_taken: Counter[str] = Counter()  # token's id -> its places


@contextlib.contextmanager
def place(token_id: str) -> Iterator[None]:
    """Hold one of the places while the block runs.

    Raises:
        HTTPException: 429, all are taken, or this token has as many as it may.
    """
    with _lock:
        if _taken[token_id] >= PER_TOKEN:
            _refuse(f"{PER_TOKEN} requests of this token that compute are under way")
        if _taken.total() >= AT_ONCE:
            _refuse(f"{AT_ONCE} requests that compute are under way")
        _taken[token_id] += 1
    try:
        yield
    finally:
        with _lock:
            _taken[token_id] -= 1
            if not _taken[token_id]:
                del _taken[token_id]


def _refuse(why: str) -> None:
    raise HTTPException(429, f"{why}; try again in a moment", {"Retry-After": "2"})


async def take_place(user: SignedIn) -> AsyncIterator[None]:
    """A dependency that holds a place while the request is answered; waits for one, without a thread.

    Raises:
        HTTPException: 429, none came free in time.
    """
    until = time.monotonic() + WAIT_S
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(place(user.token_id))
                break
            except HTTPException:
                if time.monotonic() >= until:
                    raise
            await asyncio.sleep(_LOOK_S)
        yield


HEAVY = (Depends(take_place, scope="function"),)  # not until the client has read all of the answer
"""For a route's `dependencies`."""
