"""Steering: stopping, going on with, and removing searches and jobs, each with all that hangs on it."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from api.errors import Conflict, OptionError, StoreError
from api.plans.earlier import DELETED
from api.plans.spec import SearchSpec
from api.results.artifacts import ArtifactStore
from api.store import Store
from api.store.events import note
from api.store.jobs import JobRecord, Wanted
from api.store.models import searches
from api.store.searches import Hold, SearchRecord

_JOBS_AT_ONCE = 1000
_NEEDS_EARLIER = ("queued", "running")  # states of a search whose strategy reads the trials it starts from


def stop_search(store: Store, search: SearchRecord, wanted: Wanted) -> None:
    """Pause or cancel a search: at once where it waits, after its running step where a worker has it.

    Raises:
        Conflict: it belongs to the command line, or is over.
    """
    job = store.jobs.of_search(search.id)
    if job is None:
        raise Conflict(
            f"search {search.name!r} is {search.state} and no worker's: it belongs to the command line; stop it there "
            "with Ctrl-C"
        )
    store.jobs.stop(job.id, wanted)


def check_idle(store: Store, search: SearchRecord) -> None:
    """Raises SearchBusy while a command runs a search that no worker has; waits for it a moment."""
    if store.jobs.of_search(search.id) is None:
        with store.searches.lock(search):
            pass


def resume_search(store: Store, search: SearchRecord, changes: Mapping[str, Any]) -> None:
    """Queue a search that is paused or over, to go on.

    Args:
        store: has it.
        search: to go on with; one of the command line becomes a worker's.
        changes: of its spec: `trials`, `stop_when`.

    Raises:
        Conflict: it waits or runs.
        NotFound: it was deleted meanwhile.
        OptionError: the changes do not go with the rest of the spec.
    """
    with store.database.write():
        _requeue(store, search)
        spec = store.searches.again(search).spec  # queued in this transaction, it is nobody else's to change
        wanted = {**spec, **changes}
        SearchSpec.from_dict(wanted)
        if wanted != spec:
            store.searches.set_spec(search.id, wanted)


def check_trials(store: Store, search: SearchRecord, trials: int) -> None:
    """Raises OptionError if a search has more trials already than it is to have."""
    there = sum(store.searches.counts(search.id).values())
    if trials < there:
        raise OptionError(f"search {search.name!r} has {there} trials already; give {there} or more")


def retry_search(store: Store, search: SearchRecord) -> None:
    """Queue a search again for the trials that failed.

    Raises:
        Conflict: it waits or runs, or no trial has failed.
    """
    with store.database.write():
        _requeue(store, search)
        store.evaluations.drop_failed(search.id)
        if not store.searches.retry_failed(search.id):
            raise Conflict(f"search {search.name!r} has no failed trial")


def _requeue(store: Store, search: SearchRecord) -> None:
    job = store.jobs.of_search(search.id)
    if job is None:
        _adopt(store, search)
        return
    job = store.jobs.hold(job)
    if job.state == "running" and job.wanted != Wanted.RUN:
        raise Conflict(f"search {search.name!r} still ends its running step before it is stopped; try again then")
    store.jobs.requeue(job.id)
    if job.state in ("cancelled", "failed"):  # of one that was paused, clients go on with what they have
        store.evaluations.free(search.id)


def _adopt(store: Store, search: SearchRecord) -> None:
    """Give a search of the command line a worker's job."""
    with store.database.write():
        store.searches.again(search, Hold.CHANGE)  # two at once make one job, not two
        job = store.jobs.of_search(search.id)
        if job is not None:  # not to be locked after its search
            raise Conflict(f"search {search.name!r} is {job.state} already")
        store.jobs.create("search", {}, search_id=search.id, owner=search.owner)


def delete_search(store: Store, search: SearchRecord) -> None:
    """Remove a search with its trials, jobs, checkpoints and artifacts.

    Raises:
        Conflict: it, or a job about it, waits or runs; or another search that starts from it does.
        NotFound: it was deleted meanwhile.
        SearchBusy: a command runs it.
    """
    with store.searches.lock(search), _removal() as set_aside, store.database.write() as c:
        jobs = _hold_whole(store, search)
        _disinherit(store, c, search)
        # Before its rows go: where events are numbered by the largest there is, the numbers must go on rising.
        note(c, "search.deleted", data={"search_id": search.id, "name": search.name})
        for job in jobs:
            store.jobs.delete(job.id)
        store.searches.delete(search.id)
        set_aside([store.settings.search_folder(search.id), *(ArtifactStore(store).folder(job.id) for job in jobs)])


def _hold_whole(store: Store, search: SearchRecord) -> list[JobRecord]:
    """Hold a search that is to be deleted, with all its jobs; those."""
    jobs = store.jobs.hold_all(search.id, _JOBS_AT_ONCE)
    if len(jobs) == _JOBS_AT_ONCE:
        raise Conflict(f"search {search.name!r} has {_JOBS_AT_ONCE} jobs and more; delete some of those first")
    for job in jobs:
        store.jobs.check_over(job)  # before the search is held: a running job may be about to tell of it
    store.searches.again(search, Hold.REFER)
    there = {job.id for job in store.jobs.page(limit=_JOBS_AT_ONCE, filters={"search_id": search.id})}
    came = there - {job.id for job in jobs}
    if came:  # not to be locked after its search
        raise Conflict(f"job {min(came)} about search {search.name!r} was submitted just now; cancel it first")
    return jobs


def _disinherit(store: Store, connection: sa.Connection, search: SearchRecord) -> None:
    """Take the number of a search that is to be deleted from the specs of those that start from it."""
    later = searches.c.spec[("earlier", "search")].as_integer() == search.id
    query = sa.select(searches).where(later).order_by(searches.c.id)
    heirs = connection.execute(query.with_for_update(key_share=True)).all()
    for heir in heirs:
        if heir.state in _NEEDS_EARLIER:
            raise Conflict(f"search {heir.name!r} starts from the trials of {search.name!r}; wait for that one")
        spec = {**heir.spec, "earlier": {**heir.spec["earlier"], "search": DELETED}}
        store.searches.set_spec(heir.id, spec)


def delete_job(store: Store, job: JobRecord) -> None:
    """Remove a job that is over, with its artifacts.

    Raises:
        Conflict: it waits or runs, or is a search's own.
        NotFound: it was deleted meanwhile.
    """
    if job.kind == "search":
        raise Conflict(f"job {job.id} runs search {job.search_id}; delete the search")
    with _removal() as set_aside, store.database.write() as c:
        store.jobs.hold(job)
        note(c, "job.deleted", data={"job_id": job.id, "kind": job.kind}, search_id=job.search_id)
        store.jobs.delete(job.id)
        set_aside([ArtifactStore(store).folder(job.id)])


@contextlib.contextmanager
def _removal() -> Iterator[Callable[[Sequence[Path]], None]]:
    """Remove folders when the block has ended well. What this gives takes them, in the transaction that deletes rows.

    They get names there that nothing looks for, as the numbers they are called by may be used again; where the block
    fails, they get their own names back.
    """
    moved: list[tuple[Path, Path]] = []

    def set_aside(folders: Sequence[Path]) -> None:
        for folder in folders:
            aside = folder.with_name(f".deleted-{folder.name}-{secrets.token_hex(8)}")
            try:
                if folder.exists():
                    folder.rename(aside)
                    moved.append((folder, aside))
            except OSError as e:
                raise StoreError(f"cannot remove {folder}: {e.strerror or e}; check its permissions") from e

    try:
        yield set_aside
    except BaseException:
        for folder, aside in moved:
            with contextlib.suppress(OSError):
                aside.rename(folder)
        raise
    for _, aside in moved:
        shutil.rmtree(aside, ignore_errors=True)  # set aside, it is in nobody's way
