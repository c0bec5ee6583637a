"""The event stream: one poller a process reads new events and hands them to all who listen."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Final

from anyio import BrokenResourceError
from fastapi import FastAPI
from fastapi.sse import ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import StoreError
from api.schemas.events import EventOut
from api.store import Store
from api.store.events import Event

QUEUE: Final = 1000
"""Events a listener may be behind; one that falls further behind is let go, and resumes by itself."""
LISTENERS: Final = 1000
"""Listeners of a process, of whom each holds a connection."""
PER_TOKEN: Final = 20
"""Of them with one token."""
RECHECK_S: Final = 30.0
"""How often the tokens of open streams are looked at; that of a revoked or expired one ends."""
DELETED: Final = "search.deleted"
"""The last event of a search's own stream, which ends with it."""
_PAGE: Final = 500
_LONGEST_S: Final = 3600.0
"""Then a stream ends and its client connects again."""
_RETRY_MS: Final = 1000
_PATIENCE_S: Final = 2.0

_log = logging.getLogger(__name__)


class Leaving:
    """ASGI middleware: that the client of a stream leaves is no mistake of ours, even while an event is handed to it.

    FastAPI raises then (its discussion 15725), and the server would log a traceback for every such client.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            await self.app(scope, receive, send)
        except* BrokenResourceError:
            _log.debug("a client left its event stream")


class Listener:
    """One open stream.

    Attributes:
        search_id: whose events it wants; None: all.
        token_id: of who listens.
        closed: whether it gets no more.
    """

    def __init__(self, search_id: int | None, token_id: str) -> None:
        self.search_id, self.token_id, self.closed = search_id, token_id, False
        self._waiting: asyncio.Queue[tuple[int, ServerSentEvent] | None] = asyncio.Queue(QUEUE)

    def offer(self, event: Event, message: ServerSentEvent) -> None:
        """Queue an event if it is wanted; a listener whose queue is full is closed."""
        # A deleted search has no events any more, so its last one is nobody's.
        about = event.data["search_id"] if event.kind == DELETED else event.search_id
        if self.closed or self.search_id not in (None, about):
            return
        try:
            self._waiting.put_nowait((event.id, message))
        except asyncio.QueueFull:
            self.close()

    def close(self) -> None:
        """End the stream; what waits is dropped: its client asks for it again."""
        self.closed = True
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put_nowait(None)

    async def next(self, until: float) -> tuple[int, ServerSentEvent] | None:
        """An event's number and the event; None at the end, or when the loop's clock says `until`."""
        if asyncio.get_running_loop().time() >= until:
            return None
        try:
            async with asyncio.timeout_at(until):
                return await self._waiting.get()
        except TimeoutError:
            return None


class EventHub:
    """Hands out events as they appear. All of it belongs to the event loop.

    Args:
        store: has the events.
        poll_s: how often new ones are looked for, while anybody listens.
    """

    def __init__(self, store: Store, poll_s: float) -> None:
        self._events, self._tokens, self._poll_s = store.events, store.tokens, poll_s
        self._open: set[Listener] = set()
        self._joined: set[Listener] = set()  # those that get what the poller finds
        self._starting = asyncio.Lock()
        self._poller: asyncio.Task[None] | None = None
        self._guard: asyncio.Task[None] | None = None
        self._last = 0  # number of the newest event handed out
        self._closed = False

    @classmethod
    def of(cls, app: FastAPI) -> EventHub:
        """The application's, made when it is first asked for."""
        if not hasattr(app.state, "events"):
            service = app.state.service
            app.state.events = cls(service.store, service.serve.events_poll_s)
        hub: EventHub = app.state.events
        return hub

    @property
    def listeners(self) -> int:
        """How many streams are open."""
        return len(self._open)

    async def close(self) -> None:
        """End all streams and take no more; a server calls it before it waits for its connections to end."""
        self._closed = True
        for listener in self._open:
            listener.close()
        running = [task for task in (self._poller, self._guard) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    @contextlib.contextmanager
    def listen(self, search_id: int | None, token_id: str) -> Iterator[Listener]:
        """A listener, as long as the block runs; closed when the token is revoked or expires.

        Raises:
            HTTPException: 503, the server stops, or 429, too many listen.
        """
        if self._closed:
            raise HTTPException(503, "the server is stopping; try again", {"Retry-After": "5"})
        if len(self._open) >= LISTENERS:
            raise HTTPException(429, f"{LISTENERS} event streams are open; close some", {"Retry-After": "60"})
        if sum(other.token_id == token_id for other in self._open) >= PER_TOKEN:
            detail = f"{PER_TOKEN} event streams of this token are open; close some"
            raise HTTPException(429, detail, {"Retry-After": "60"})
        listener = Listener(search_id, token_id)
        self._open.add(listener)
        if self._guard is None or self._guard.done():
            self._guard = asyncio.create_task(self._recheck())
        try:
            yield listener
        finally:
            self._open.discard(listener)
            self._joined.discard(listener)

    async def stream(self, listener: Listener, last: int | None) -> AsyncIterator[ServerSentEvent]:
        """The events of a listener in order, each once, until it is closed.

        Args:
            listener: of `listen`.
            last: number of the last event its client has; None: it wants what comes from now on.
        """
        until = asyncio.get_running_loop().time() + _LONGEST_S
        try:
            newest = await asyncio.to_thread(self._events.newest)
            # A number beyond the newest is of a database that has been restored since.
            last = newest if last is None else min(last, newest)
            # Tells the client where it is before anything happens: there it resumes if it is cut off.
            yield ServerSentEvent(id=str(last), retry=_RETRY_MS, comment="listening")
            for joined in (False, True):
                if joined:
                    await self._join(listener)  # only now, nearly up to date: a long way would overflow the queue
                async for event in self._stored(listener, last):
                    last = event.id
                    yield _message(event)
            if (end := await self._deletion(listener, newest)) is not None:
                yield _message(end)
                return
            while (found := await listener.next(until)) is not None:
                number, message = found
                if number > last:
                    last = number
                    yield message
                    if message.event == DELETED and listener.search_id is not None:
                        return
        except StoreError as e:
            _log.warning("an event stream ends, its client will resume: %s", e)

    async def _stored(self, listener: Listener, last: int) -> AsyncIterator[Event]:
        """What the database has after an event, as far as it is there now."""
        while not listener.closed:
            page = await asyncio.to_thread(self._events.after, last, search_id=listener.search_id, limit=_PAGE)
            for event in page:
                yield event
            if len(page) < _PAGE:
                return
            last = page[-1].id

    async def _deletion(self, listener: Listener, after: int) -> Event | None:
        """The last event of a search that was deleted while its listener joined: it is among no search's events."""
        if listener.search_id is None:
            return None
        page = await asyncio.to_thread(self._events.page, after, kinds=(DELETED,))
        return next((event for event in page if event.data["search_id"] == listener.search_id), None)

    async def _join(self, listener: Listener) -> None:
        """From now on the listener gets what appears; what appeared before this call ends is in the database."""
        async with self._starting:
            if self._poller is None or self._poller.done():
                self._last = await asyncio.to_thread(self._events.newest)
                self._poller = asyncio.create_task(self._poll())
            if not listener.closed:
                self._joined.add(listener)

    async def _recheck(self) -> None:
        while self._open:
            await asyncio.sleep(RECHECK_S)
            asked = {listener.token_id for listener in self._open}
            try:
                lost = asked - await asyncio.to_thread(self._tokens.valid, asked)
            except StoreError as e:
                _log.warning("tokens of event streams cannot be checked, and are later: %s", e)
                continue
            for listener in self._open:
                if listener.token_id in lost:
                    listener.close()

    async def _poll(self) -> None:
        while True:
            try:
                page = await asyncio.to_thread(self._events.after, self._last, limit=_PAGE)
            except StoreError as e:
                _log.warning("events cannot be read, and are tried again: %s", e)
                await asyncio.sleep(_PATIENCE_S)
                continue
            for event in page:
                message = _message(event)
                for listener in self._joined:
                    listener.offer(event, message)
                self._last = event.id
            if len(page) < _PAGE:
                await asyncio.sleep(self._poll_s)
                if not self._joined:
                    return


def _message(event: Event) -> ServerSentEvent:
    """Written once, however many get it."""
    told = EventOut(**dataclasses.asdict(event)).model_dump_json()
    return ServerSentEvent(raw_data=told, event=event.kind, id=str(event.id))
