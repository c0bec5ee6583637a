"""Silence of remote evaluators counts while they could be heard, and then also where nobody asks."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.app import create_app
from api.errors import StoreError
from api.rest.turnstile import AWAY_S, Turnstile
from api.service import Service
from api.store import Store
from api.store.models import evaluations
from nas.executor import Task


@pytest.fixture
def search(store: Store) -> int:
    """A search whose one trial is with a client, for the last time."""
    made = store.searches.create({"seed": 0}, space="s", space_digest="d").id
    store.evaluations.put(made, Task(0, (1, 2), 7, Path()), attempts=1, lease_s=60)
    assert len(store.evaluations.lease(made, "a client")) == 1
    return made


def _lapse(store: Store) -> None:
    """The client was silent for a second too long."""
    with store.database.write() as c:
        past = store.database.now(c) - dt.timedelta(seconds=1)
        c.execute(sa.update(evaluations).values(lease_until=past))


def _is_lost(store: Store, search: int) -> bool:
    return store.evaluations.standing(search, [0])[0].outcome is not None


async def _until(condition: Callable[[], bool]) -> None:
    while not await asyncio.to_thread(condition):
        await asyncio.sleep(0.02)


def _run(serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(serve(), 240))


def test_what_is_lost_for_good_ends_though_nobody_asks(store: Store, search: int) -> None:
    app = create_app(Service.of(store))

    async def serve() -> None:
        _lapse(store)  # before this start nobody could hear the client
        async with app.router.lifespan_context(app):
            turnstile = Turnstile.of(app)
            await _until(lambda: turnstile._swept_at is not None)
            assert not _is_lost(store, search)
            _lapse(store)
            await _until(lambda: _is_lost(store, search))

    _run(serve)


def test_no_silence_counts_while_the_process_or_its_database_stood_still(store: Store, search: int) -> None:
    turnstile = Turnstile(store)

    async def serve() -> None:
        sweeping = asyncio.create_task(turnstile.sweep())
        await _until(lambda: turnstile._swept_at is not None)
        sweeping.cancel()
        await asyncio.wait([sweeping])
        _lapse(store)
        assert turnstile._swept_at is not None
        turnstile._swept_at -= AWAY_S + 60
        await turnstile.open()  # as before each lease

    _run(serve)
    store.evaluations.expire()
    assert not _is_lost(store, search)


def test_the_sweep_outlives_a_database_that_is_away(store: Store, search: int, monkeypatch: pytest.MonkeyPatch) -> None:
    turnstile, expire, failures = Turnstile(store), store.evaluations.expire, [StoreError("it is away")]

    def fail_once(before: dt.datetime | None = None) -> dt.datetime:
        if failures:
            _lapse(store)  # while nobody could be heard of: that does not count
            raise failures.pop()
        return expire(before)

    monkeypatch.setattr(turnstile._evaluations, "expire", fail_once)

    async def serve() -> None:
        sweeping = asyncio.create_task(turnstile.sweep())
        await _until(lambda: turnstile._swept_at is not None)
        assert not _is_lost(store, search)
        _lapse(store)
        await _until(lambda: _is_lost(store, search))
        sweeping.cancel()

    _run(serve)
    assert not failures
