from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from api.operations.metrics import Metrics, render
from api.service import Service
from api.settings import Settings
from api.store import Store
from api.store.jobs import Wanted
from api.store.models import evaluations, jobs, now, searches, trials

Key = tuple[str, tuple[tuple[str, str], ...]]


def scrape(store: Store) -> dict[Key, float]:
    families = text_string_to_metric_families(render(store, Metrics()).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def insert_search(c: sa.Connection, name: str, state: str, **counts: int) -> int:
    values = {"name": name, "state": state, "spec": {}, "space": "s", "space_digest": "d", "created_at": now()}
    found = c.execute(sa.insert(searches).values(**values, **counts)).inserted_primary_key
    assert found is not None
    return int(found[0])


def test_counts_what_is_stored(store: Store) -> None:
    with store.database.write() as c:
        first = insert_search(c, "a", "running", complete=90, running=2, failed=1)
        insert_search(c, "b", "running", complete=10, pruned=4)
        insert_search(c, "c", "paused")
        row = {"search_id": first, "task": {}, "attempts": 0, "steps": []}
        for number, state in enumerate(("open", "open", "leased")):
            c.execute(sa.insert(evaluations).values(**row, number=number, state=state))
    old = store.jobs.create("profile", {})
    store.jobs.create("profile", {})
    assert store.jobs.claim("w", 60) is not None  # the oldest
    with store.database.write() as c:
        c.execute(sa.update(jobs).where(jobs.c.id != old.id).values(queued_at=now() - dt.timedelta(seconds=500)))
    store.workers.seen("w", host="h", pid=1, capacity=3, executor="processes")
    found = scrape(store)
    assert found["lightnas_database_up", ()] == 1
    assert found["lightnas_searches", (("state", "running"),)] == 2
    assert found["lightnas_searches", (("state", "paused"),)] == 1
    wanted = {"running": 2, "complete": 100, "pruned": 4, "failed": 1}
    assert {s: found["lightnas_trials", (("state", s),)] for s in wanted} == wanted
    assert found["lightnas_jobs", (("kind", "profile"), ("state", "running"))] == 1
    assert found["lightnas_jobs", (("kind", "profile"), ("state", "queued"))] == 1
    assert 500 <= found["lightnas_oldest_queued_job_seconds", ()] < 700
    assert found["lightnas_workers_alive", ()] == 1
    assert found["lightnas_worker_capacity", ()] == 3
    assert found["lightnas_evaluations", (("state", "open"),)] == 2
    assert found["lightnas_evaluations", (("state", "leased"),)] == 1
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_a_job_is_as_old_as_it_waits(store: Store) -> None:
    def oldest_s() -> float:
        return scrape(store)["lightnas_oldest_queued_job_seconds", ()]

    def long_ago() -> None:
        with store.database.write() as c:
            past = now() - dt.timedelta(days=30)
            c.execute(sa.update(jobs).values(created_at=past, queued_at=past))

    job = store.jobs.create("profile", {})
    assert oldest_s() < 300
    long_ago()
    assert oldest_s() > 1e6
    store.jobs.stop(job.id, Wanted.CANCEL)
    store.jobs.requeue(job.id)
    assert oldest_s() < 300
    for wait_s in (0.0, 3600.0):
        long_ago()
        claim = store.jobs.claim("w", 60)
        assert claim is not None
        store.jobs.give_back(claim.fence, wait_s=wait_s)
        assert oldest_s() < 300
    long_ago()  # it is held back still
    assert oldest_s() == 0


def test_reads_no_trial(store: Store) -> None:
    said: list[str] = []
    sa.event.listen(store.database.engine, "before_cursor_execute", lambda _c, _u, text, *_: said.append(text))
    scrape(store)
    assert said
    assert not [text for text in said if trials.name in text.split()]


def test_two_applications_count_apart(tmp_path: Path) -> None:
    with Store.open(Settings(tmp_path)) as store:
        one, two = Service.of(store), Service.of(store)
        one.metrics.requests.labels("GET", "/x", "200").inc()
        assert b'route="/x"' in render(store, one.metrics)
        assert b'route="/x"' not in render(store, two.metrics)


def test_a_database_that_is_away_is_told_and_hides_nothing_else(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = "postgresql+psycopg://u:hunter2@127.0.0.1:1/nas"
    with Store(Settings(tmp_path, url)) as store:
        found = scrape(store)
    assert found["lightnas_database_up", ()] == 0
    assert ("process_resident_memory_bytes", ()) in found
