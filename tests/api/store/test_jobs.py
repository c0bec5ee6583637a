"""Jobs: claims, leases, fences, and how a search moves with its job."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
import time

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.errors import Conflict, JobLost, NotFound
from api.settings import Settings
from api.store import Store
from api.store.jobs import ATTEMPTS, Claim, Wanted
from api.store.models import jobs as jobs_table
from nas.trial import Trial


def _search(store: Store) -> int:
    return store.searches.create({}, space="s", space_digest="d", state="queued").id


def _served(store: Store) -> tuple[int, int]:
    """A search and its job."""
    search = _search(store)
    return search, store.jobs.create("search", {}, search_id=search).id


def _claim(store: Store, lease_s: float = 60.0, worker: str = "w") -> Claim:
    claim = store.jobs.claim(worker, lease_s)
    assert claim is not None
    return claim


def test_the_oldest_waiting_job_is_claimed_once(store: Store) -> None:
    first, second = store.jobs.create("export", {"trial": 1}), store.jobs.create("train", {})
    assert store.jobs.claim("a", 60).job.id == first.id  # type: ignore[union-attr]
    claim = _claim(store, worker="b")
    assert (claim.job.id, claim.job.state, claim.job.worker, claim.job.attempts) == (second.id, "running", "b", 1)
    assert store.jobs.claim("c", 60) is None
    assert store.jobs.get(first.id).spec == {"trial": 1}


def test_many_workers_at_once_never_get_the_same_job(settings: Settings, store: Store) -> None:
    wanted = {store.jobs.create("export", {}).id for _ in range(12)}
    got: list[int] = []

    def work(name: str) -> None:
        with Store.open(settings) as mine:
            while (claim := mine.jobs.claim(name, 60)) is not None:
                got.append(claim.job.id)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # SKIP LOCKED may tell a worker "nothing" while another holds the last row, so some may be left to the next turn.
    while (claim := store.jobs.claim("last", 60)) is not None:
        got.append(claim.job.id)
    assert sorted(got) == sorted(wanted)


def test_a_lease_that_runs_out_is_taken_over_and_the_first_worker_writes_nothing_more(store: Store) -> None:
    search, job = _served(store)
    old = _claim(store, lease_s=0.05)
    log = store.searches.log(search, old.fence)
    log.started(Trial(0, (1,)))
    time.sleep(0.1)
    new = _claim(store, worker="other")
    assert (new.job.id, new.job.attempts) == (job, 2)
    for write in (
        lambda: log.started(Trial(1, (1,))),
        lambda: log.finished(Trial(0, (1,)).complete(0.5, 0.5, 1.0, {})),
        lambda: store.jobs.finish(old.fence, "complete"),
        lambda: store.jobs.progress(old.fence, {"done": 1}),
    ):
        with pytest.raises(JobLost, match=f"job {job} is another worker's"):
            write()
    store.jobs.give_back(old.fence)  # nothing: it is not its own
    assert store.jobs.get(job).worker == "other"
    assert [t.number for t in store.searches.log(search).load()] == [0]
    store.searches.log(search, new.fence).finished(Trial(0, (1,)).complete(0.5, 0.5, 1.0, {}))


def test_renewing_holds_a_claim_and_tells_what_is_wanted(store: Store) -> None:
    _, job = _served(store)
    claim = _claim(store, lease_s=0.05)
    assert store.jobs.renew([claim.fence], 60) == {job: Wanted.RUN}
    time.sleep(0.1)
    assert store.jobs.claim("other", 60) is None
    store.jobs.stop(job, Wanted.PAUSE)
    assert store.jobs.watch([claim.fence]) == {job: Wanted.PAUSE}
    store.jobs.give_back(claim.fence)
    assert store.jobs.get(job).state == "paused"
    assert store.jobs.renew([claim.fence], 60) == store.jobs.watch([claim.fence]) == {}
    assert store.jobs.watch([]) == {}


def test_a_search_is_always_in_the_state_of_its_job(store: Store) -> None:
    search, job = _served(store)

    def state() -> str:
        found = store.searches.by_id(search)
        assert store.jobs.get(job).state == found.state
        assert (found.finished_at is None) == (found.state in ("queued", "running"))
        return found.state

    assert state() == "queued"
    claim = _claim(store)
    assert state() == "running"
    store.jobs.give_back(claim.fence)
    assert state() == "queued"
    store.jobs.stop(job, Wanted.PAUSE)
    assert state() == "paused"
    store.jobs.requeue(job)
    claim = _claim(store)
    store.jobs.finish(claim.fence, "failed", error="no pictures")
    assert state() == "failed"
    assert store.searches.by_id(search).error == store.jobs.get(job).error == "no pictures"
    store.jobs.requeue(job)
    assert state() == "queued"
    assert store.searches.by_id(search).error is None
    store.jobs.finish(_claim(store).fence, "complete", result={"trials": 3})
    assert state() == "complete"
    assert store.jobs.get(job).result == {"trials": 3}


def test_what_does_not_go_with_a_state_is_refused(store: Store) -> None:
    _, job = _served(store)
    with pytest.raises(Conflict, match="search 'search-1' is queued already"):
        store.jobs.requeue(job)
    with pytest.raises(Conflict, match="is queued; cancel it first"):
        store.jobs.delete(job)
    store.jobs.stop(job, Wanted.CANCEL)
    with pytest.raises(Conflict, match="search 'search-1' is cancelled already"):
        store.jobs.stop(job, Wanted.CANCEL)
    export = store.jobs.create("export", {}).id
    with pytest.raises(Conflict, match="only searches can be paused; cancel it"):
        store.jobs.stop(export, Wanted.PAUSE)
    store.jobs.delete(job)
    with pytest.raises(NotFound, match=f"no job {job}; `nas jobs list`"):
        store.jobs.get(job)


def test_a_job_that_kills_its_workers_fails_in_the_end_unless_it_gets_on(store: Store) -> None:
    job = store.jobs.create("export", {}).id
    for _ in range(ATTEMPTS - 1):
        _claim(store, lease_s=0.01)
        time.sleep(0.02)
    store.jobs.progress(_claim(store, lease_s=0.01).fence, {"done": 1, "of": 3})
    for _ in range(ATTEMPTS - 1):
        time.sleep(0.02)
        _claim(store, lease_s=0.01)
    time.sleep(0.02)
    assert store.jobs.claim("w", 60) is None
    found = store.jobs.get(job)
    assert (found.state, found.progress) == ("failed", {"done": 1, "of": 3})
    assert found.error == f"given up after {ATTEMPTS} attempts without any progress"


def test_what_no_database_can_hold_and_no_answer_can_tell_is_made_storable(store: Store) -> None:
    search, job = _served(store)
    broken, told = "b\udce9ta.png\0: cannot be read", "b?ta.png: cannot be read"
    store.jobs.give_back(_claim(store).fence, error=broken)
    assert (store.jobs.get(job).error, store.searches.by_id(search).error) == (told, told)
    claim = _claim(store)
    store.jobs.progress(claim.fence, {"done": 1, "of": 2, "text": broken, "files": [broken]})
    progress = {"done": 1, "of": 2, "text": told, "files": [told]}
    assert store.jobs.get(job).progress == progress
    assert store.events.after(0)[-1].data == progress
    store.jobs.finish(claim.fence, "failed", error=broken, result={"worst": {"file\udce9": broken}})
    found = store.jobs.get(job)
    assert (found.state, found.error, found.result) == ("failed", told, {"worst": {"file?": told}})
    assert (store.searches.by_id(search).error, store.events.after(0)[-1].data["error"]) == (told, told)


def test_a_job_looked_up_before_is_held_as_it_is_now(store: Store) -> None:
    first = store.jobs.create("export", {})
    store.jobs.stop(first.id, Wanted.CANCEL)
    assert store.jobs.hold(first).state == "cancelled"
    with pytest.raises(NotFound, match=f"job {first.id} was deleted just now, and another one has its number"):
        store.jobs.hold(dataclasses.replace(first, created_at=first.created_at - dt.timedelta(seconds=1)))
    store.jobs.delete(first.id)
    with pytest.raises(NotFound, match=f"no job {first.id}"):
        store.jobs.hold(first)


def test_a_job_given_back_waits_and_a_claim_that_did_its_best_is_not_counted(store: Store) -> None:
    job = store.jobs.create("export", {}).id
    store.jobs.give_back(_claim(store).fence, wait_s=60, spent=True)
    assert store.jobs.get(job).attempts == 1
    assert store.jobs.claim("w", 60) is None
    store.jobs.stop(job, Wanted.CANCEL)
    other = store.jobs.create("export", {}).id
    store.jobs.give_back(_claim(store).fence)
    assert store.jobs.get(other).attempts == 0
    assert _claim(store).job.id == other


def test_a_worker_that_died_before_it_could_cancel_is_finished_for(store: Store) -> None:
    job = store.jobs.create("export", {}).id
    _claim(store, lease_s=0.01)
    store.jobs.stop(job, Wanted.CANCEL)
    time.sleep(0.05)
    assert store.jobs.claim("w", 60) is None
    assert store.jobs.get(job).state == "cancelled"


def test_a_worker_without_boards_takes_no_job_that_needs_one(store: Store) -> None:
    store.jobs.create("profile", {}, board="pi4")
    search = store.searches.create({}, space="s", space_digest="d", board="pi4").id
    job = store.jobs.create("search", {}, search_id=search, board="pi4").id
    claim = store.jobs.claim("w", 60, boards=False)
    assert claim is not None
    assert claim.job.id == job
    assert store.jobs.claim("w", 60, boards=False) is None


def test_events_tell_everything_once_in_order(store: Store) -> None:
    search, job = _served(store)
    claim = _claim(store)
    log = store.searches.log(search, claim.fence)
    trial = Trial(0, (1,), costs={"flops": 5.0}, attrs={"chain": 0, "study": "long"})
    log.started(trial)
    store.events.add_steps(search, [(0, {"step": 1, "steps": 2, "metrics": {}})])
    log.finished(trial.complete(0.5, 0.5, 1.0, {}))
    store.jobs.finish(claim.fence, "complete", result={})
    found = store.events.after(0, search_id=search)
    assert [(e.kind, e.trial) for e in found] == [
        ("search.created", None),
        ("search.state", None),
        ("job.state", None),
        ("search.state", None),
        ("job.state", None),
        ("trial.started", 0),
        ("trial.step", 0),
        ("trial.ended", 0),
        ("search.state", None),
        ("job.state", None),
    ]
    assert found[5].data == {"encoding": "1", "costs": {"flops": 5}, "attrs": {"chain": 0}}
    ended = store.trials.one(search, 0)["finished_at"].isoformat(timespec="milliseconds")
    result = {"state": "complete", "accuracy": 0.5, "reward": 0.5}
    assert found[7].data == {**result, "seconds": 1, "finished_at": ended}
    assert [e.id for e in found] == sorted(e.id for e in found)
    assert store.events.newest() == found[-1].id
    assert store.events.after(found[3].id, limit=2) == found[4:6]
    store.jobs.get(job)


def test_no_reader_passes_over_an_event_that_commits_late(settings: Settings, store: Store) -> None:
    """Writers at once, a reader that goes on from the newest it saw: it sees every event."""
    seen: list[int] = []
    done = threading.Event()

    def write(worker: int) -> None:
        with Store.open(settings) as mine:
            for number in range(30):
                mine.events.add("job.progress", {"worker": worker, "number": number})

    def read() -> None:
        with Store.open(settings) as mine:
            last, over = 0, False
            while not over:
                over = done.is_set()
                for event in mine.events.after(last):
                    seen.append(event.id)
                    last = event.id

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert len(seen) == len(set(seen)) == 120


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "complete", "failed", "pruned", "retry"]), st.integers(0, 3)), max_size=30
    )
)
def test_counters_and_best_are_what_counting_the_trials_gives(store: Store, moves: list[tuple[str, int]]) -> None:
    search = _search(store)
    log, known, running = store.searches.log(search), 0, list[int]()
    for move, value in moves:
        if move == "start":
            log.started(Trial(known, (0,)))
            running.append(known)
            known += 1
        elif move == "retry":
            failed = [t.number for t in log.load() if t.state == "failed"]
            assert store.searches.retry_failed(search) == len(failed)
            running += failed
        elif running:
            trial = Trial(running.pop(value % len(running)), (0,))
            reward = value / 4
            log.finished(
                trial.complete(reward, reward, 1.0, {})
                if move == "complete"
                else trial.failed("no", 1.0)
                if move == "failed"
                else trial.pruned(reward, reward, 1, 1.0, {})
            )
    trials = list(log.load())
    record = store.searches.by_id(search)
    counted = {s: sum(t.state == s for t in trials) for s in ("running", "complete", "pruned", "failed")}
    assert store.searches.counts(search) == counted
    best = min((t for t in trials if t.state == "complete"), key=lambda t: (-(t.reward or 0), t.number), default=None)
    assert (record.best_number, record.best_reward) == ((best.number, best.reward) if best else (None, None))
    with store.database.read() as c:
        assert c.execute(sa.select(sa.func.count()).select_from(jobs_table)).scalar() == 0
