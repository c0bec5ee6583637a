from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from api.errors import StoreError
from api.rest import stream
from api.rest.server import Server
from api.rest.stream import EventHub
from api.store import Store
from api.store.events import Event, EventStore
from api.submit.steer import delete_search

Ask = Callable[..., httpx.Response]
PATIENCE_S = 60.0


@dataclass
class Running:
    """A real server in a thread."""

    url: str
    server: Server
    thread: threading.Thread
    hub: EventHub
    token: str

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()

    @asynccontextmanager
    async def open(self, path: str = "events", last: int | None = None, **query: Any) -> AsyncIterator[Stream]:
        headers = {"Authorization": f"Bearer {self.token}"}
        if last is not None:
            headers["Last-Event-ID"] = str(last)
        async with (
            httpx.AsyncClient(timeout=PATIENCE_S) as client,
            client.stream("GET", f"{self.url}/api/v1/{path}", headers=headers, params=query) as answer,
        ):
            assert answer.status_code == 200
            yield Stream(answer)


class Stream:
    """Reads server-sent events as a browser does."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer, self.last = answer, -1
        self._lines = answer.aiter_lines()

    async def next(self) -> dict[str, Any] | None:
        """The next event; None at the end."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
                continue
            if "id" in fields:
                self.last = int(fields["id"])
            if "data" in fields:
                told: dict[str, Any] = json.loads(fields["data"])
                assert (fields["event"], fields["id"]) == (told["kind"], str(told["id"]))
                return told
            if "id" in fields:
                return {"id": self.last, "kind": "listening"}
            fields = {}
        return None

    async def take(self, count: int) -> list[int]:
        """The numbers of the next events."""
        found = [await asyncio.wait_for(self.next(), PATIENCE_S) for _ in range(count)]
        assert all(event is not None for event in found)
        return [event["id"] for event in found if event is not None]


@pytest.fixture
def running(app: FastAPI, token: Callable[..., str]) -> Iterator[Running]:
    config = uvicorn.Config(app, port=0, host="127.0.0.1", log_level="warning", lifespan="off")
    server = Server(config, app)
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([taken])))
    thread.start()
    found = Running(f"http://127.0.0.1:{taken.getsockname()[1]}", server, thread, EventHub.of(app), token())
    try:
        _until(lambda: server.started)
        yield found
    finally:
        found.stop()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _search(store: Store, name: str) -> int:
    return store.searches.create({"seed": 0}, space="s", space_digest="d", name=name).id


def _add(store: Store, count: int, search_id: int | None = None) -> list[int]:
    """Their numbers."""
    found = []
    for i in range(count):
        store.events.add("trial.ended", {"i": i}, search_id=search_id, trial=i)
        found.append(store.events.newest())
    return found


def test_a_stream_begins_now_and_tells_what_happens(running: Running, store: Store) -> None:
    a, b = _search(store, "a"), _search(store, "b")
    before = store.events.newest()

    async def go() -> None:
        async with running.open() as everything, running.open(f"searches/{a}/events") as of_a:
            assert everything.answer.headers["content-type"].startswith("text/event-stream")
            assert await everything.next() == {"id": before, "kind": "listening"}
            assert await of_a.next() == {"id": before, "kind": "listening"}
            of_b = await asyncio.to_thread(_add, store, 2, b)
            mine = await asyncio.to_thread(_add, store, 3, a)
            assert await everything.take(5) == [*of_b, *mine]
            told = await of_a.next()
            assert told is not None
            stored = store.events.after(mine[0] - 1, limit=1)[0]
            assert told == {
                "id": mine[0],
                "kind": "trial.ended",
                "search_id": a,
                "job_id": None,
                "trial": 0,
                "data": {"i": 0},
                "created_at": stored.created_at.isoformat().replace("+00:00", "Z"),
            }
            assert await of_a.take(2) == mine[1:]

    asyncio.run(go())


def test_a_cut_stream_resumes_without_loss_or_doubling(
    running: Running, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_PAGE", 7)  # so that resuming takes several pages
    first = _add(store, 1)[0]

    async def go() -> None:
        writer = asyncio.create_task(asyncio.to_thread(_add, store, 60))
        got: list[int] = []
        last = first
        while len(got) < 60:  # not until the writer is done: it may have told its last one before it says so
            async with running.open(last=last) as cut:
                assert await cut.next() is not None
                got += await cut.take(min(11, 60 - len(got)))
                last = cut.last
        assert got == await writer
        assert last == store.events.newest()

    asyncio.run(go())


def test_a_deleted_search_ends_its_stream(running: Running, store: Store) -> None:
    doomed, other = _search(store, "a"), _search(store, "b")

    async def go() -> None:
        async with running.open(f"searches/{doomed}/events") as mine, running.open(f"searches/{other}/events") as not_:
            assert await mine.next() is not None
            assert await not_.next() is not None
            await asyncio.to_thread(delete_search, store, store.searches.by_id(doomed))
            told = await asyncio.wait_for(mine.next(), PATIENCE_S)
            assert told is not None
            assert (told["kind"], told["data"]) == ("search.deleted", {"search_id": doomed, "name": "a"})
            assert await asyncio.wait_for(mine.next(), PATIENCE_S) is None
            ids = await asyncio.to_thread(_add, store, 1, other)
            assert await not_.take(1) == ids

    asyncio.run(go())


def test_where_a_stream_begins(running: Running, store: Store) -> None:
    a, b = _search(store, "a"), _search(store, "b")
    of_a, of_b = _add(store, 3, a), _add(store, 3, b)

    async def ids(count: int, path: str = "events", **where: int) -> list[int]:
        async with running.open(path, **where) as opened:
            assert await opened.next() is not None
            return await opened.take(count)

    async def go() -> None:
        assert await ids(6, after=of_a[0] - 1) == of_a + of_b
        assert await ids(1, after=0, last=of_b[1]) == of_b[2:]  # what was received wins over what the link says
        assert await ids(3, f"searches/{b}/events", after=of_a[1]) == of_b
        async with running.open(last=of_b[2] + 1000) as ahead:  # of a database that was restored since
            assert await ahead.next() == {"id": of_b[2], "kind": "listening"}
            new = await asyncio.to_thread(_add, store, 1)
            assert await ahead.take(1) == new

    asyncio.run(go())


def test_many_listeners_are_one_poller(running: Running, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PER_TOKEN", 30)
    read: list[tuple[int, int | None]] = []
    after = EventStore.after

    def noted(self: EventStore, last: int, *, search_id: int | None = None, limit: int = 1000) -> list[Event]:
        found = after(self, last, search_id=search_id, limit=limit)
        read.extend((event.id, search_id) for event in found)
        return found

    monkeypatch.setattr(EventStore, "after", noted)

    async def go() -> None:
        opened = [running.open() for _ in range(30)]
        streams = [await one.__aenter__() for one in opened]
        for one in streams:
            assert await one.next() is not None
        await asyncio.to_thread(_until, lambda: len(running.hub._joined) == 30)
        await asyncio.to_thread(_add, store, 1)
        for one in streams:
            await one.take(1)  # now none reads by itself any more, as it did until it had joined
        numbers = await asyncio.to_thread(_add, store, 5)
        for one in streams:
            assert await one.take(5) == numbers
        # Each event was read once for all thirty.
        assert [one for one in read if one[0] in numbers] == [(number, None) for number in numbers]
        assert running.hub.listeners == 30
        for context in opened:
            await context.__aexit__(None, None, None)

    asyncio.run(go())
    _until(lambda: running.hub.listeners == 0)
    _until(lambda: running.hub._poller is None or running.hub._poller.done())  # nobody listens: nobody asks


def test_a_slow_client_is_let_go_and_resumes(running: Running, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue overflows while it reads nothing; the memory of the server stays bounded."""
    first = _add(store, 1)[0]

    async def go() -> None:
        async with running.open(last=first) as slow:
            assert await slow.next() is not None
            await asyncio.to_thread(_add, store, 1)
            await slow.take(1)
            await asyncio.to_thread(_until, lambda: len(running.hub._joined) == 1)
            listener = next(iter(running.hub._joined))
            large = {"text": "x" * 200_000}
            with store.database.write():
                for _ in range(stream.QUEUE + 100):
                    store.events.add("trial.step", large if _ < 60 else {})
            # Closed, and then emptied: nothing waits but the end.
            await asyncio.to_thread(_until, lambda: listener.closed and listener._waiting.qsize() <= 1)
            got = []
            while (event := await asyncio.wait_for(slow.next(), PATIENCE_S)) is not None:
                got.append(event["id"])
            last = slow.last
        left = [e.id for e in store.events.after(last, limit=5000)]
        assert left, "it was let go before it had all"
        async with running.open(last=last) as again:
            assert await again.next() is not None
            got += await again.take(len(left))
        assert got == [e.id for e in store.events.after(first + 1, limit=5000)]

    asyncio.run(go())


def test_a_client_that_leaves_amid_an_event_is_no_mistake(
    running: Running, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)  # so that its lines are seen here
    with store.database.write():
        for _ in range(60):  # more than a connection holds: the server waits with the next one in its hands
            store.events.add("trial.step", {"text": "x" * 200_000})

    async def go() -> None:
        for _ in range(5):
            async with running.open(after=0) as left:
                await left.next()
                await left.take(2)

    asyncio.run(go())
    _until(lambda: running.hub.listeners == 0)
    running.stop()
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_streams_end_when_the_server_stops(
    running: Running, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
    caplog.set_level(logging.WARNING)

    async def go() -> None:
        async with running.open() as everything, running.open() as other:
            assert await everything.next() is not None
            assert await other.next() is not None
            stopping = asyncio.create_task(asyncio.to_thread(running.stop))
            assert await asyncio.wait_for(everything.next(), PATIENCE_S) is None
            assert await asyncio.wait_for(other.next(), PATIENCE_S) is None
            await stopping

    asyncio.run(go())
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_a_database_that_is_away_for_a_moment_loses_nothing(
    running: Running, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_PATIENCE_S", 0.05)
    after, away = EventStore.after, threading.Event()

    def sometimes(self: EventStore, last: int, **more: Any) -> list[Event]:
        if away.is_set():
            raise StoreError("it cannot be reached")
        return after(self, last, **more)

    # Before that it reads what it missed by itself, and ends where it cannot.
    fed = threading.Event()
    follow = stream.Listener.next

    async def next_of(self: stream.Listener, until: float) -> Any:
        fed.set()
        return await follow(self, until)

    monkeypatch.setattr(stream.Listener, "next", next_of)

    async def go() -> None:
        async with running.open() as opened:
            assert await opened.next() is not None
            first = await asyncio.to_thread(_add, store, 1)
            assert await opened.take(1) == first
            assert await asyncio.to_thread(fed.wait, PATIENCE_S)
            monkeypatch.setattr(EventStore, "after", sometimes)
            away.set()
            numbers = await asyncio.to_thread(_add, store, 4)
            await asyncio.sleep(0.3)
            away.clear()
            assert await opened.take(4) == numbers

    asyncio.run(go())


def test_a_stream_that_cannot_begin_is_resumed_without_a_loss(
    running: Running, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = EventStore.after
    before = _add(store, 3)

    def away(self: EventStore, last: int, **more: Any) -> list[Event]:
        raise StoreError("it cannot be reached")

    async def go() -> None:
        monkeypatch.setattr(EventStore, "after", away)
        async with running.open(last=before[0]) as opened:
            assert (await opened.next() or {}).get("kind") == "listening"
            assert await asyncio.wait_for(opened.next(), PATIENCE_S) is None
        monkeypatch.setattr(EventStore, "after", after)
        async with running.open(last=opened.last) as again:
            assert await again.next() is not None
            assert await again.take(2) == before[1:]

    asyncio.run(go())


def test_a_revoked_token_ends_its_streams(running: Running, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "RECHECK_S", 0.05)

    async def go() -> None:
        async with running.open() as opened:
            assert await opened.next() is not None
            await asyncio.sleep(0.2)  # looked at and found valid
            assert await asyncio.to_thread(_add, store, 1) == await opened.take(1)
            store.tokens.revoke(running.token.split("_")[1])
            assert await asyncio.wait_for(opened.next(), PATIENCE_S) is None

    asyncio.run(go())


def test_a_token_has_few_streams(running: Running, token: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PER_TOKEN", 1)

    async def go() -> None:
        async with running.open() as opened:
            assert await opened.next() is not None
            known = {"Authorization": f"Bearer {running.token}"}
            url = f"{running.url}/api/v1/events"
            more = await asyncio.to_thread(httpx.get, url, headers=known, timeout=PATIENCE_S)
            assert (more.status_code, more.headers["Retry-After"]) == (429, "60")
            running.token = token("bob", "read")
            async with running.open() as other:
                assert await other.next() is not None

    asyncio.run(go())


def test_who_may_listen_and_to_what(running: Running, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def status(path: str, **headers: str) -> int:
        known = {"Authorization": f"Bearer {running.token}"} | headers
        return httpx.get(f"{running.url}/api/v1/{path}", headers=known, timeout=PATIENCE_S).status_code

    assert status("events", Authorization="Bearer nas_x") == 401
    assert status("searches/77/events") == 404
    assert status("events", **{"Last-Event-ID": "x"}) == 422
    assert status("events", **{"Last-Event-ID": "-1"}) == 422
    assert status("events?after=-1") == 422
    monkeypatch.setattr(stream, "LISTENERS", 0)
    assert status("events") == 429
    _until(lambda: running.hub.listeners == 0)  # a refused one goes behind its answer


def test_events_page_by_page(ask: Ask, store: Store) -> None:
    a = _search(store, "a")
    numbers = [*_add(store, 3, a), *_add(store, 2)]
    before = numbers[0] - 1
    page = ask("GET", "events/page", params={"after": before, "limit": 4}).json()
    assert ([e["id"] for e in page["items"]], page["last"]) == (numbers[:4], numbers[3])
    page = ask("GET", "events/page", params={"after": page["last"]}).json()
    assert ([e["id"] for e in page["items"]], page["last"]) == (numbers[4:], numbers[4])
    assert ask("GET", "events/page", params={"after": numbers[4]}).json() == {"items": [], "last": numbers[4]}
    mine = ask("GET", "events/page", params={"after": before, "search_id": a}).json()
    assert [e["id"] for e in mine["items"]] == numbers[:3]
    for query in ({"after": -1}, {"after": 2**63}, {"limit": 1001}, {"search_id": 2**31}):
        assert ask("GET", "events/page", params=query).status_code == 422


def test_events_page_by_page_backwards_and_by_kind(ask: Ask, store: Store) -> None:
    a = _search(store, "a")
    mine = _add(store, 5, a)
    _add(store, 2)
    store.events.add_steps(a, [(0, {"step": 1}), (0, {"step": 2})])

    def numbers(**query: Any) -> list[int]:
        page = ask("GET", "events/page", params={"search_id": a, **query}).json()
        assert page["last"] == (page["items"][-1]["id"] if page["items"] else query.get("after", 0))
        return [e["id"] for e in page["items"]]

    every = numbers()
    assert len(every) == 8
    assert every[1:6] == mine  # behind its creation
    assert numbers(before=2**53 - 1, limit=3) == every[-3:]
    assert numbers(before=every[-3], limit=3) == every[-6:-3]
    assert numbers(before=every[-3], after=every[-5], limit=3) == every[-4:-3]
    assert numbers(before=every[0]) == []
    assert numbers(kind="trial.step") == every[6:]
    assert numbers(kind=["trial.step", "search.created"], before=every[-1]) == [every[0], every[6]]
    assert numbers(trial=0) == [every[1], *every[6:]]
    assert numbers(trial=0, kind="trial.ended") == [every[1]]
    for query in ({"before": -1}, {"before": 2**63}, {"trial": -1}, {"kind": "x" * 40}, {"kind": "trial.*"}):
        assert ask("GET", "events/page", params=query).status_code == 422


def test_events_of_one_job(ask: Ask, store: Store) -> None:
    a = _search(store, "a")
    jobs = [store.jobs.create("search", {}, owner=None, search_id=a) for _ in range(2)]
    found = ask("GET", "events/page", params={"job_id": jobs[1].id}).json()["items"]
    assert found
    assert {e["job_id"] for e in found} == {jobs[1].id}
