"""Steering beside workers and other users: nobody waits for each other, and nothing is taken for what it was before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from api.errors import Conflict, NotFound, OptionError, StoreError
from api.plans.spec import SearchSpec
from api.results.artifacts import ArtifactStore
from api.settings import Settings
from api.store import Store
from api.store.jobs import Claim, Wanted
from api.store.searches import Hold, SearchRecord
from api.submit import steer
from nas.executor import Task
from nas.spaces.recipe import SpaceSpec
from nas.trial import Trial

ROUNDS = 30


def _search(store: Store, *, served: bool = False, **more: object) -> SearchRecord:
    spec = {**SearchSpec(SpaceSpec("nas-bench-macro"), strategy="random", trials=5).to_dict(), **more}
    made = store.searches.create(spec, space="s", space_digest="d", state="queued" if served else "complete")
    if served:
        store.jobs.create("search", {}, search_id=made.id)
    return made


def _claim(store: Store) -> Claim:
    claim = store.jobs.claim("w", 600)
    assert claim is not None
    return claim


@contextmanager
def _beside(settings: Settings, step: Callable[[Store, int], None]) -> Iterator[None]:
    """Another process's steps 0, 1, 2, … while the block runs; what one of them raises is raised at the end."""
    over, failed = threading.Event(), list[Exception]()

    def work() -> None:
        number = 0
        with Store.open(settings) as mine:
            while not (over.is_set() and number) and not failed:
                try:
                    step(mine, number)
                except Exception as e:
                    failed.append(e)
                number += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert failed == []


def _at_once(
    settings: Settings, search: SearchRecord, *deeds: Callable[[Store, SearchRecord], None]
) -> list[type[Exception] | None]:
    """What each of the deeds, begun together by processes of their own, raises."""
    meeting = threading.Barrier(len(deeds))

    def do(deed: Callable[[Store, SearchRecord], None]) -> type[Exception] | None:
        with Store.open(settings) as mine:
            meeting.wait()
            try:
                deed(mine, search)
            except Exception as e:
                return type(e)
        return None

    with ThreadPoolExecutor(len(deeds)) as pool:
        return list(pool.map(do, deeds))


def test_going_on_with_a_search_that_runs_never_meets_its_worker(settings: Settings, store: Store) -> None:
    search = _search(store, served=True)
    fence = _claim(store).fence

    def evaluate(mine: Store, number: int) -> None:
        log, trial = mine.searches.log(search.id, fence), Trial(number, (0,))
        log.started(trial)
        log.finished(trial.complete(0.5, 0.5, 1.0, {}))
        mine.jobs.progress(fence, {"done": number})

    with _beside(settings, evaluate):
        for _ in range(ROUNDS):
            for steering in (lambda: steer.resume_search(store, search, {}), lambda: steer.retry_search(store, search)):
                with pytest.raises(Conflict, match="is running already"):
                    steering()


def test_removing_what_runs_never_meets_its_worker(settings: Settings, store: Store) -> None:
    search = _search(store)
    job = store.jobs.create("export", {}, search_id=search.id)
    fence = _claim(store).fence
    with _beside(settings, lambda mine, number: mine.jobs.progress(fence, {"done": number})):
        for _ in range(ROUNDS):
            for removing in (lambda: steer.delete_search(store, search), lambda: steer.delete_job(store, job)):
                with pytest.raises(Conflict, match=f"job {job.id} is running; cancel it first"):
                    removing()


def test_deleting_a_search_never_meets_the_steps_of_its_trials(settings: Settings, store: Store) -> None:
    search = _search(store, served=True)
    fence = _claim(store).fence
    job = store.jobs.of_search(search.id)
    assert job is not None
    with _beside(settings, lambda mine, number: mine.events.add_steps(search.id, [(0, {"step": number})], fence)):
        for _ in range(ROUNDS):
            with pytest.raises(Conflict, match=f"job {job.id} is running; cancel it first"):
                steer.delete_search(store, search)


def test_making_a_search_a_workers_never_meets_a_job_about_it(settings: Settings, store: Store) -> None:
    search = _search(store)
    store.jobs.create("export", {}, search_id=search.id)
    fence = _claim(store).fence
    with _beside(settings, lambda mine, number: mine.jobs.progress(fence, {"done": number})):
        for _ in range(ROUNDS):
            steer.resume_search(store, search, {})
            job = store.jobs.of_search(search.id)
            assert job is not None
            store.jobs.stop(job.id, Wanted.CANCEL)
            store.jobs.delete(job.id)


def test_a_search_is_deleted_or_gets_a_job_and_never_both(settings: Settings, store: Store) -> None:
    def submit(mine: Store, search: SearchRecord) -> None:
        with mine.database.write():
            mine.searches.again(search, Hold.DELETE)
            mine.jobs.create("export", {}, search_id=search.id)

    for _ in range(ROUNDS):
        search = _search(store)
        told = _at_once(settings, search, submit, steer.delete_search)
        assert told in ([None, Conflict], [NotFound, None])
        there = [job.kind for job in store.jobs.page(filters={"search_id": search.id})]
        assert there == (["export"] if told[0] is None else [])


def test_two_at_once_make_one_job_of_a_search_of_the_command_line(settings: Settings, store: Store) -> None:
    def go_on(mine: Store, search: SearchRecord) -> None:
        steer.resume_search(mine, search, {})

    for _ in range(ROUNDS):
        search = _search(store)
        assert set(_at_once(settings, search, go_on, go_on)) == {None, Conflict}
        assert [job.kind for job in store.jobs.page(filters={"search_id": search.id})] == ["search"]


def test_a_search_goes_on_with_the_spec_it_has_by_now(store: Store) -> None:
    before = _search(store, served=True, earlier={"search": 7, "trials": 3})
    job = store.jobs.of_search(before.id)
    assert job is not None
    store.jobs.stop(job.id, Wanted.PAUSE)
    store.searches.set_spec(before.id, {**before.spec, "earlier": {"search": 0, "trials": 3}})  # it was deleted
    steer.resume_search(store, before, {"trials": 9})
    found = store.searches.by_id(before.id)
    assert (found.state, found.spec["trials"], found.spec["earlier"]["search"]) == ("queued", 9, 0)
    store.jobs.stop(job.id, Wanted.PAUSE)
    with pytest.raises(OptionError):
        steer.resume_search(store, before, {"trials": 0})
    assert (store.searches.by_id(before.id).state, store.jobs.get(job.id).state) == ("paused", "paused")


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # which gives numbers again
def test_nothing_is_done_to_what_has_the_number_of_something_deleted(store: Store) -> None:
    mine = _search(store, served=True)
    job = store.jobs.of_search(mine.id)
    assert job is not None
    store.jobs.stop(job.id, Wanted.CANCEL)
    steer.delete_search(store, mine)
    theirs = _search(store)
    assert theirs.id == mine.id
    export = store.jobs.create("export", {}, search_id=theirs.id)
    assert export.id == job.id
    store.jobs.stop(export.id, Wanted.CANCEL)
    for steering in (
        lambda: steer.delete_search(store, mine),
        lambda: steer.resume_search(store, mine, {}),
        lambda: steer.retry_search(store, mine),
    ):
        with pytest.raises(NotFound, match=f"search '{mine.name}' was deleted just now"):
            steering()
    older = store.jobs.get(export.id)
    store.jobs.delete(export.id)
    newer = store.jobs.create("export", {})
    store.jobs.stop(newer.id, Wanted.CANCEL)
    with pytest.raises(NotFound, match=f"job {newer.id} was deleted just now"):
        steer.delete_job(store, older)
    assert store.searches.by_id(theirs.id) == theirs
    assert store.jobs.get(newer.id).state == "cancelled"


@pytest.mark.parametrize(("wanted", "freed"), [(Wanted.CANCEL, True), (Wanted.PAUSE, False)])
def test_a_cancel_costs_no_trial_of_a_remote_evaluator_an_attempt(store: Store, wanted: Wanted, freed: bool) -> None:
    search = _search(store, served=True)
    store.evaluations.put(search.id, Task(0, (0, 1), 7, Path("unused")), attempts=1, lease_s=60)
    (before,) = store.evaluations.lease(search.id, "a client")
    job = store.jobs.of_search(search.id)
    assert job is not None
    store.jobs.stop(job.id, wanted)
    steer.resume_search(store, search, {})
    if not freed:  # its client was not sent away
        assert store.evaluations.heartbeat(search.id, 0, before.token) == 60
        return
    with pytest.raises(Conflict, match="no longer this client's: the search was stopped meanwhile"):
        store.evaluations.heartbeat(search.id, 0, before.token)
    (lease,) = store.evaluations.lease(search.id, "another client")
    assert (lease.number, lease.attempt) == (0, 1)
    store.evaluations.tell(search.id, 0, lease.token, accuracy=0.5)


def test_a_search_that_cannot_be_removed_keeps_its_files(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    search = _search(store)
    export = store.jobs.create("export", {}, search_id=search.id)
    store.jobs.stop(export.id, Wanted.CANCEL)
    artifacts, rename = ArtifactStore(store).folder(export.id), Path.rename
    for folder in (store.settings.search_folder(search.id), artifacts):
        folder.mkdir(parents=True)
        (folder / "file").touch()

    def refuse(path: Path, target: Path) -> Path:
        if path == artifacts:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StoreError, match=r"cannot remove .*: Permission denied; check its permissions"):
        steer.delete_search(store, search)
    monkeypatch.undo()
    assert store.searches.by_id(search.id) == search
    assert (store.settings.search_folder(search.id) / "file").exists()
    steer.delete_search(store, search)
    for folder in (store.settings.search_folder(search.id), artifacts):
        assert list(folder.parent.iterdir()) == []
