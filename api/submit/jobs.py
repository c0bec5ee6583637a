"""Submitting jobs beside searches: a request -> a checked spec, in the form its kind's worker reads."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.data.root import DataRoot
from api.errors import Conflict, OptionError
from api.store import Store
from api.store.jobs import JobRecord
from api.store.searches import SearchRecord
from api.submit.searches import PINNED, named_options, registered_space

if TYPE_CHECKING:
    from api.schemas.jobs import ExportRequest, ProfileRequest, TrainRequest, VerifyRequest

_SAID_OTHERWISE = (*PINNED, "inherit")


@dataclass(frozen=True)
class AskedJob:
    """A job that can be queued.

    Attributes:
        kind: of `api.jobs`.
        spec: as that kind reads it (`api.schemas.jobs`).
        search: what it is about.
        board: that it needs.
    """

    kind: str
    spec: dict[str, Any]
    search: SearchRecord | None = None
    board: str | None = None

    def queue(self, store: Store, owner: str) -> JobRecord:
        """Store it for the workers."""
        search_id = None if self.search is None else self.search.id
        return store.jobs.create(self.kind, self.spec, owner=owner, search_id=search_id, board=self.board)


def profile_job(store: Store, request: ProfileRequest) -> AskedJob:
    """Profiling a board.

    Raises:
        LightnasError: no such board or space.
    """
    store.boards.get(request.board)
    registered_space(request.space, request.resolution, request.classes, request.channels).build()
    return AskedJob("profile", request.model_dump(exclude={"board"}), board=request.board)


def verify_job(store: Store, request: VerifyRequest, search: SearchRecord) -> AskedJob:
    """Running a search's networks, or its export, on a board.

    Raises:
        LightnasError: there is no board, table, trial or export to do it with.
    """
    from api.boards.tables import find_table
    from api.compose import reopen
    from api.results.picks import pick_trials

    board = request.board or search.board
    if board is None:
        raise OptionError(f"search {search.name!r} had no board; name one")
    store.boards.get(board)
    spec = request.model_dump(exclude={"search", "board"})
    if request.accuracy:
        spec["export"] = _export(store, search, request.export).id
    elif board != search.board or search.table_digest is None:
        find_table(store, board, reopen(store, search).space)
    if not request.accuracy and request.random is None:
        pick_trials(store, search, 1)
    return AskedJob("verify", spec, search, board)


def train_job(store: Store, request: TrainRequest, search: SearchRecord, root: DataRoot) -> AskedJob:
    """A search's final.

    Raises:
        LightnasError: there is nothing to train, or not with these options.
    """
    from api.compose import reopen
    from api.finals.spec import BASELINES, FinalSpec, final_options
    from api.plans.checkpoints import check_init, pin
    from api.plans.checks import check_training
    from api.rest.fields import naming
    from api.results.picks import pick_trials

    for name in _SAID_OTHERWISE:
        if name in request.options:
            raise OptionError(f"option {name} is none of a final's options; init and teacher are fields of their own")
    options = named_options("training", request.options, root, "body.options")
    if request.epochs is not None:
        options["epochs"] = request.epochs
    for name in PINNED:
        path = getattr(request, name)
        if path is not None:
            with naming(f"body.{name}", OptionError):
                options |= pin(name, root.path(path))
    pick_trials(store, search, 1)
    plan = reopen(store, search)
    used = final_options(plan.spec, options, store.settings)
    check_training(plan, used)
    check_init(plan, used)
    measure = request.measure and search.board is not None and search.table_digest is not None
    if measure and search.board is not None:
        store.boards.get(search.board)
    families = BASELINES if request.baselines else ()
    final = FinalSpec(
        request.top, request.seeds, families, max(1, request.baselines), options, request.parallel, request.passes
    )
    teacher = None if request.teacher_search is None else _teacher(store, str(request.teacher_search), search)
    spec = {**dataclasses.asdict(final), "measure": measure, "teacher_search": teacher}
    return AskedJob("train", spec, search, search.board if measure else None)


def export_job(store: Store, request: ExportRequest, search: SearchRecord) -> AskedJob:
    """Writing the winner's files.

    Raises:
        LightnasError: there is no such trial, or nothing that could be trained.
    """
    from api.compose import reopen
    from api.finals.spec import final_options
    from api.finals.winner import choose_trial

    choose_trial(store, search, request.trial)
    final_options(reopen(store, search).spec, {}, store.settings)
    return AskedJob("export", request.model_dump(exclude={"search"}), search)


def _export(store: Store, search: SearchRecord, number: int | None) -> JobRecord:
    """The search's export job of that number, or its newest that is complete."""
    if number is None:
        of_it = {"search_id": search.id, "kind": "export", "state": "complete"}
        found = store.jobs.page(limit=1, filters=of_it)
        if not found:
            raise Conflict(f"search {search.name!r} has not been exported; export it first")
        return found[0]
    job = store.jobs.get(number)
    if (job.kind, job.search_id) != ("export", search.id):
        raise OptionError(f"job {number} is no export of search {search.name!r}")
    if job.state != "complete":
        raise Conflict(f"job {number} is {job.state}; wait until it is complete")
    return job


def _teacher(store: Store, name: str, student: SearchRecord) -> int:
    """The number of the search whose winner teaches."""
    found = store.searches.get(name)
    if found.id == student.id:
        raise OptionError(f"search {name!r} cannot teach itself")
    if "options" not in (found.winner or {}):
        raise OptionError(f"search {found.name!r} has no trained winner to learn from; train it first")
    return found.id
