from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from api.errors import Conflict
from api.rest.idempotency import Once
from api.store import Store
from api.store.answers import KEPT
from api.store.models import answers, jobs, now


def _count(store: Store, table: sa.Table) -> int:
    with store.database.read() as c:
        return c.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


class _Made(BaseModel):
    job: int


@pytest.mark.parametrize("fails", [False, True])
def test_two_at_the_same_moment(store: Store, fails: bool) -> None:
    """The second one waits for the first; where that fails, it does the work itself."""
    inside, go_on = threading.Event(), threading.Event()
    calls = []

    def action() -> _Made:
        calls.append(1)
        job = store.jobs.create("export", {})
        if len(calls) == 1:
            inside.set()
            assert go_on.wait(60)
            if fails:
                raise Conflict("not now")
        return _Made(job=job.id)

    once = Once(store, "alice", "key", "f" * 64)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(once, action)
        assert inside.wait(60)
        second = threads.submit(once, action)
        assert not second.done()
        go_on.set()
        answer = second.result(60)
        if fails:
            assert isinstance(first.exception(60), Conflict)
        else:
            assert first.result(60).body == answer.body
    assert len(calls) == (2 if fails else 1)
    assert ("idempotency-replayed" in answer.headers) is not fails
    assert _count(store, jobs) == 1


def test_the_same_request_again(store: Store) -> None:
    def act(key: str, fingerprint: str = "f" * 64, user: str = "alice") -> bytes:
        once = Once(store, user, key, fingerprint)
        return bytes(once(lambda: _Made(job=store.jobs.create("export", {}).id)).body)

    assert act("one") == act("one")
    with pytest.raises(RequestValidationError):
        act("one", "e" * 64)
    assert len({act("one"), act("two"), act("one", user="bob")}) == 3
    assert _count(store, jobs) == 3


def test_many_at_the_same_moment(store: Store) -> None:
    gate = threading.Barrier(8)

    def send(_number: int) -> bytes:
        gate.wait(60)
        once = Once(store, "alice", "key", "f" * 64)
        return bytes(once(lambda: _Made(job=store.jobs.create("export", {}).id)).body)

    with ThreadPoolExecutor(8) as threads:
        assert len({*threads.map(send, range(8))}) == 1
    assert _count(store, jobs) == 1


def test_a_secret_is_not_kept(store: Store) -> None:
    once = Once(store, "alice", "key", "f" * 64)
    assert b"7" in once(lambda: _Made(job=7), shown_once="shown once").body
    with store.database.read() as c:
        assert c.execute(sa.select(answers.c.body)).scalar_one() is None
    with pytest.raises(Conflict, match="shown once"):
        once(lambda: _Made(job=8), shown_once="shown once")
    with pytest.raises(RequestValidationError):
        Once(store, "alice", "key", "e" * 64)(lambda: _Made(job=8), shown_once="shown once")


def test_old_answers_are_forgotten(store: Store) -> None:
    for key in ("old", "new"):
        Once(store, "alice", key, "f" * 64)(lambda: _Made(job=1))
    with store.database.write() as c:
        c.execute(sa.update(answers).where(answers.c.key == "old").values(created_at=now() - KEPT))
    assert store.answers.forget() == 1
    assert store.answers.forget() == 0
    with store.database.read() as c:
        assert c.execute(sa.select(answers.c.key)).scalars().all() == ["new"]
