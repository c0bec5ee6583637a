"""Turnstile: many clients wait for trials to evaluate, and one look is taken for all of them."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from dataclasses import dataclass, field
from typing import Final

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from api.errors import StoreError
from api.store import Store

SWEEP_S: Final = 1.0
"""How often evaluations are looked for that are lost for good."""
AWAY_S: Final = 3.0
"""Without such a look for longer, no client could be heard of meanwhile."""

_log = logging.getLogger(__name__)


@dataclass
class _Gate:
    """The clients that wait for a search's trials."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    count: int = 0
    looked_at: float = float("-inf")


class Turnstile:
    """Lets about as many of those that wait through as there are trials for them.

    Who waits holds no thread, and any number of them costs a look every `every_s` per search.

    Args:
        store: has the evaluations.
        every_s: how old a look may be.
    """

    def __init__(self, store: Store, every_s: float = 0.25) -> None:
        self._evaluations, self._every_s = store.evaluations, every_s
        self._gates: dict[int, _Gate] = {}
        self._opening = asyncio.Lock()
        self._open = self._closed = False
        self._swept_at: float | None = None  # time.time(), which goes on while the machine sleeps

    @classmethod
    def of(cls, app: FastAPI) -> Turnstile:
        """The application's, made when it is first asked for."""
        if not hasattr(app.state, "turnstile"):
            app.state.turnstile = cls(app.state.service.store)
        found: Turnstile = app.state.turnstile
        return found

    async def open(self) -> None:
        """To be called before a trial is given away or given up: no silence counts that could not be heard.

        That is all before this process began, and while it stood still or had no database.
        """
        async with self._opening:
            now = time.time()
            if not self._open:
                await run_in_threadpool(self._evaluations.hold_all)
                self._open = True
            elif self._swept_at is not None and now - self._swept_at > AWAY_S:
                await run_in_threadpool(self._evaluations.hold_all, now - self._swept_at)
                self._swept_at = now

    async def sweep(self) -> None:
        """End evaluations that are lost for good, again and again until it is cancelled: perhaps no client asks.

        Only this process does, which hears of the clients; the worker that waits for them may live while it does not.
        """
        looked, well = None, True
        while True:
            began = time.time()
            try:
                await self.open()
                # Lost at the last look already: a database that stands still lets this one wait, and the clients, too.
                looked = await run_in_threadpool(self._evaluations.expire, looked)
                self._swept_at, well = max(began, self._swept_at or began), True
            except StoreError as e:
                self._open = self._open and self._swept_at is not None  # else nobody knows how long it was away
                if well:
                    _log.warning("remote evaluations cannot be looked at, and are later: %s", e)
                well = False
            except Exception:  # one look that goes wrong must not be the last
                _log.exception("remote evaluations could not be looked at")
            await asyncio.sleep(SWEEP_S)

    def close(self) -> None:
        """Send all away that wait; a server calls it before it waits for its connections to end."""
        self._closed = True

    async def wait(self, search_id: int, deadline: float) -> None:
        """Wait until there may be a trial for the caller, the search is over, or `deadline` (`time.monotonic`).

        Raises:
            HTTPException: 503, the server stops.
        """
        gate = self._gates.setdefault(search_id, _Gate())
        gate.waiting += 1
        try:
            while (left := deadline - time.monotonic()) > 0:
                await asyncio.sleep(min(self._every_s, left))
                if self._closed:
                    raise HTTPException(503, "the server is stopping; try again", {"Retry-After": "5"})
                if await self._count(gate, search_id) > 0:
                    gate.count -= 1
                    return
        finally:
            gate.waiting -= 1
            if not gate.waiting:
                del self._gates[search_id]

    async def _count(self, gate: _Gate, search_id: int) -> int:
        async with gate.lock:
            if time.monotonic() - gate.looked_at >= self._every_s:
                gate.count = await run_in_threadpool(self._look, search_id)
                gate.looked_at = time.monotonic()
            return gate.count

    def _look(self, search_id: int) -> int:
        return sys.maxsize if self._evaluations.is_over(search_id) else self._evaluations.waiting(search_id)
