"""Steering: stopping, going on with, and removing searches and jobs, each with all that hangs on it."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
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
from api.store.searches import SearchRecord

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
        OptionError: the changes do not go with the rest of the spec.
    """
    wanted = {**search.spec, **changes}
    SearchSpec.from_dict(wanted)
    with store.database.write():
        _requeue(store, search)
        if wanted != search.spec:
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
    with store.database.write() as c:
        c.execute(sa.select(searches.c.id).where(searches.c.id == search.id).with_for_update())  # one job, not two
        job = store.jobs.of_search(search.id)
        if job is None:
            store.jobs.create("search", {}, search_id=search.id, owner=search.owner)
            return
        if job.state == "running" and job.wanted != Wanted.RUN:
            raise Conflict(f"search {search.name!r} still ends its running step before it is stopped; try again then")
        store.jobs.requeue(job.id)


def delete_search(store: Store, search: SearchRecord) -> None:
    """Remove a search with its trials, jobs, checkpoints and artifacts.

    Raises:
        Conflict: it, or a job about it, waits or runs; or another search that starts from it does.
        SearchBusy: a command runs it.
    """
    with store.searches.lock(search):
        with store.database.write() as c:
            later = searches.c.spec[("earlier", "search")].as_integer() == search.id
            needs = later & searches.c.state.in_(_NEEDS_EARLIER)
            heir = c.execute(sa.select(searches.c.name).where(needs).limit(1)).scalar()
            if heir is not None:
                raise Conflict(f"search {heir!r} starts from the trials of {search.name!r}; wait for that one")
            for heir_id, spec in c.execute(sa.select(searches.c.id, searches.c.spec).where(later)).all():
                store.searches.set_spec(heir_id, {**spec, "earlier": {**spec["earlier"], "search": DELETED}})
            jobs = store.jobs.page(limit=_JOBS_AT_ONCE, filters={"search_id": search.id})
            if len(jobs) == _JOBS_AT_ONCE:
                raise Conflict(f"search {search.name!r} has {_JOBS_AT_ONCE} jobs and more; delete some of those first")
            # Before its rows go: where events are numbered by the largest there is, the numbers must go on rising.
            note(c, "search.deleted", data={"search_id": search.id, "name": search.name})
            for job in jobs:
                store.jobs.delete(job.id)
            store.searches.delete(search.id)
            folders = [store.settings.search_folder(search.id), *(ArtifactStore(store).folder(job.id) for job in jobs)]
            doomed = _set_aside(folders)
        _remove(doomed)


def delete_job(store: Store, job: JobRecord) -> None:
    """Remove a job that is over, with its artifacts.

    Raises:
        Conflict: it waits or runs, or is a search's own.
    """
    if job.kind == "search":
        raise Conflict(f"job {job.id} runs search {job.search_id}; delete the search")
    with store.database.write() as c:
        note(c, "job.deleted", data={"job_id": job.id, "kind": job.kind}, search_id=job.search_id)
        store.jobs.delete(job.id)
        doomed = _set_aside([ArtifactStore(store).folder(job.id)])
    _remove(doomed)


def _set_aside(folders: Sequence[Path]) -> list[Path]:
    """Give folders names that nothing looks for: the numbers they are called by may be used again."""
    found = []
    for folder in folders:
        aside = folder.with_name(f".deleted-{folder.name}-{secrets.token_hex(8)}")
        try:
            if folder.exists():
                folder.rename(aside)
                found.append(aside)
        except OSError as e:
            raise StoreError(f"cannot remove {folder}: {e.strerror or e}; check its permissions") from e
    return found


def _remove(folders: Sequence[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)  # set aside, it is in nobody's way
