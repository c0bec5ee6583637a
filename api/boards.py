"""The wiring of boards: reach one, profile a space on it, find the right table, verify networks."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from api.errors import NotFound
from api.store import Store
from latency.board import Board
from latency.deploy import Deployment, deploy
from latency.engines import get_engine
from latency.profiler import Profile, Profiler
from latency.rounds import Pass, ProgressSink
from latency.table import LatencyTable
from latency.transport import Transport, connect
from latency.verify import Verified, verify
from nas.graph import Graph
from nas.space import SearchSpace


@dataclass(frozen=True)
class Reached:
    """A board at the end of an open link, ready to run."""

    board: Board
    transport: Transport
    deployment: Deployment


@contextlib.contextmanager
def reach(board: Board, *, accept_new_host_key: bool = False) -> Iterator[Reached]:
    """Connect to a board and put the runner there."""
    with connect(board, accept_new_host_key=accept_new_host_key) as transport:
        yield Reached(board, transport, deploy(transport, board.engine))


def profile_space(
    store: Store,
    reached: Reached,
    space: SearchSpace,
    *,
    passes: int | None = None,
    seed: int = 0,
    fresh: bool = False,
    command: str = "",
    on_start: Callable[[int, int], None] = lambda networks, passes_done: None,
    on_progress: ProgressSink | None = None,
) -> Profile:
    """Profile a space on a board, going on with an unfinished profile of the same; store the table.

    Args:
        store: keeps each pass as it ends, and the table.
        reached: the board.
        space: whose ops are wanted.
        passes: over all networks; None chooses.
        seed: of calibration networks and shuffles.
        fresh: drop the passes of an unfinished profile.
        command: what the user ran.
        on_start: told how many networks a pass visits and how many passes are there already.
        on_progress: called after each visit of a network.
    """
    board = reached.board
    plan = [board.to_dict(), reached.deployment.engine_version, space.digest, passes, seed]
    plan_digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    profiler = Profiler(board, reached.transport, reached.deployment, space, passes=passes, seed=seed)
    run = store.profiles.open_run(board.name, plan_digest)
    if fresh:
        store.profiles.discard(run)
        run = store.profiles.open_run(board.name, plan_digest)
    on_start(profiler.networks, store.profiles.count_passes(run))
    profile = profiler.run(
        done=map(Pass.from_dict, store.profiles.load_passes(run)),
        on_pass=lambda finished: store.profiles.save_pass(run, finished.to_dict()),
        on_progress=on_progress,
        command=command,
    )
    store.tables.add(profile.table)
    store.profiles.finish(run, profile.table.digest)
    return profile


def missing_ops(table: LatencyTable, space: SearchSpace) -> int:
    """How many ops of the space the table lacks."""
    engine = get_engine(table.identity.engine)
    return sum(engine.engine_key(op) not in table.entries for op in space.compiled.ops)


def find_table(store: Store, name: str, space: SearchSpace) -> LatencyTable:
    """The table a user means: by digest (its beginning), or a board's newest that covers the space.

    Where no table of the board covers it, the newest is returned: pricing with it lists what is missing.

    Raises:
        NotFound: there is no such table, or the board has none.
    """
    found = store.tables.list(board=name)
    if not found:
        if any(b.name == name for b in store.boards.all()):
            raise NotFound(f"board {name} has no latency table yet; make one: nas profile {name} --space {space.name}")
        return store.tables.get(name)
    named = sorted(found, key=lambda t: space.name not in t.spaces.split(","))  # stable: newest first stays
    for summary in named:
        table = store.tables.get(summary.digest)
        if not missing_ops(table, space):
            return table
    return store.tables.get(named[0].digest)


def verify_on_board(
    reached: Reached,
    graphs: Sequence[Graph],
    table: LatencyTable,
    *,
    passes: int | None = None,
    seed: int = 0,
    on_progress: ProgressSink | None = None,
) -> list[Verified]:
    """Measure networks beside their predictions."""
    return verify(
        reached.board,
        reached.transport,
        reached.deployment,
        graphs,
        table,
        passes=passes,
        seed=seed,
        on_progress=on_progress,
    )
