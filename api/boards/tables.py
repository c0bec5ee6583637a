"""The wiring of boards: profile a space on one, and find the right table."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from api.errors import NotFound
from api.store import Store
from api.store.tables import TableSummary
from latency.link import PatientLink
from latency.passes import Pass, ProgressSink
from latency.predict import missing_kernels
from latency.profiler import Profile, Profiler, session_identity
from latency.table import LatencyTable
from nas.space import SearchSpace


@dataclass(frozen=True)
class ProfilePlan:
    """What a profile will do: the profiler, the stored run it goes on with, and what is there already.

    Attributes:
        profiler: knows what to measure.
        run: of the profile store.
        passes_done: records an interrupted profile has left.
        known: the table whose ops are not timed again, or None.
    """

    profiler: Profiler
    run: int
    passes_done: int
    known: LatencyTable | None


def plan_profile(
    store: Store,
    link: PatientLink,
    space: SearchSpace,
    *,
    passes: int | None = None,
    seed: int = 0,
    fresh: bool = False,
    resume: bool = True,
    fresh_networks: int | None = None,
) -> ProfilePlan:
    """Find out what of a space is still to be measured on a board.

    Args:
        store: holds earlier tables and unfinished profiles.
        link: to the board.
        space: whose ops are wanted.
        passes: over all networks; None chooses.
        seed: of fresh networks and shuffles.
        fresh: time every op again.
        resume: go on with an unfinished profile; else it is dropped.
        fresh_networks: how many are run whole; None chooses.
    """
    board = link.board
    known = None if fresh else _newest_table(store, link)
    options = {} if fresh_networks is None else {"fresh_networks": fresh_networks}
    profiler = Profiler(board, link.open_session, space, known=known, passes=passes, seed=seed, **options)
    plan = [profiler.plan_digest, link.deployment.engine_version, space.digest, known.digest if known else None]
    plan_digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    run = store.profiles.open_run(board.name, plan_digest)
    if not resume:
        store.profiles.discard(run)
        run = store.profiles.open_run(board.name, plan_digest)
    return ProfilePlan(profiler, run, store.profiles.count_passes(run), known)


def run_profile(
    store: Store,
    plan: ProfilePlan,
    *,
    time_limit_s: float | None = None,
    command: str = "",
    on_progress: ProgressSink | None = None,
) -> Profile:
    """Measure what a plan lacks; store each pass as it ends, and the table.

    A profile cut short by its time limit stores a table too, and stays unfinished: the same plan goes on with it.
    """
    profile = plan.profiler.run(
        done=map(Pass.from_dict, store.profiles.load_passes(plan.run)),
        on_pass=lambda finished: store.profiles.save_pass(plan.run, finished.to_dict()),
        on_progress=on_progress,
        time_limit_s=time_limit_s,
        command=command,
    )
    store.tables.add(profile.table)
    if profile.complete:
        store.profiles.finish(plan.run, profile.table.digest)
    return profile


def _newest_table(store: Store, link: PatientLink) -> LatencyTable | None:
    """The board's newest finished table of the engine and way of running as they are now."""
    now = None
    for summary in store.tables.list(board=link.board.name):
        table = store.tables.get(summary.digest)
        if not table.provenance.complete:
            continue  # cut short: its own profile goes on from its passes
        if now is None:
            with link.open_session() as session:
                now = session_identity(session, link.board)
        if not table.identity.differences(now):
            return table
    return None


def board_tables(store: Store, name: str, space: str = "…") -> list[TableSummary]:
    """A board's tables, newest first; none where no board is called so.

    Raises:
        NotFound: there is such a board, but no table of it; says how to make one, of that space.
    """
    found = store.tables.list(board=name)
    if not found and any(b.name == name for b in store.boards.all()):
        raise NotFound(f"board {name} has no latency table yet; make one: nas profile {name} --space {space}")
    return found


def find_table(store: Store, name: str, space: SearchSpace) -> LatencyTable:
    """The table a user means: by digest (its beginning), or a board's newest that covers the space.

    Where no table of the board covers it, the newest is returned: pricing with it lists what is missing.

    Raises:
        NotFound: there is no such table, or the board has none.
    """
    found = board_tables(store, name, space.name)
    if not found:
        return store.tables.get(name)
    named = sorted(found, key=lambda t: space.name not in t.spaces.split(","))  # stable: newest first stays
    for summary in named:
        table = store.tables.get(summary.digest)
        if not missing_kernels(table, space.compiled.places):
            return table
    return store.tables.get(named[0].digest)
