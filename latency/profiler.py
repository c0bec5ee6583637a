"""Profiler: a board and a space in, a latency table out.

Cover networks are timed layer by layer while they run whole, for a layer alone runs from a hot cache (0.35 to 0.9 of
its real time). Fresh networks, spread over the space's FLOPs, are run whole: they fit the terms that make a network's
time of its ops' times, and tell how sure a prediction is.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from latency.assemble import Measured, assemble
from latency.board import Board
from latency.cover import cover_space, isolated_graph
from latency.detrend import detrend
from latency.disturbance import Drift
from latency.engines import Engine, EngineModel, get_engine
from latency.errors import InvalidTable, LatencyError, RunnerCrashed
from latency.fit import Sampled, drift_between, sample
from latency.fresh import fresh_graphs
from latency.passes import Network, Pass, PassSink, ProgressSink
from latency.rounds import Rounds
from latency.session import RunnerSession
from latency.table import Identity, LatencyTable, Provenance, SpaceMark
from latency.visits import OpenSession
from nas.graph import Graph, Place
from nas.space import SearchSpace

FRESH_NETWORKS: Final = 48
_BOTH_WAYS: Final = 4
"""Fresh networks that are run with stamps too, to learn what a stamp costs."""
_FEWEST_WHOLE: Final = 4
_FLEETING: Final = ("pid", "cores")
"""Facts of a runner and not of its board; the cores are in the identity."""


@dataclass(frozen=True)
class Profile:
    """A finished profile.

    Attributes:
        table: what it was made for.
        ops: distinct kernels of the space in it.
        timed: how many of them this profile timed.
        estimated: how many of them are estimated, because time ran out.
        networks: cover networks run.
        passes: the most any network had.
        seconds: of measuring, earlier sittings included.
        spread_pct: median over ops of their spread.
        stamp_us: what one time stamp costs; it is taken off.
        deterministic: the board's time repeats exactly (an emulator), so a few passes were enough.
        complete: whether everything planned was measured.
        drift: of the sentinel network between the first half of the passes and the second.
        skipped: networks the engine refused or died on, and why; their ops were timed in other networks.
        disturbed: what disturbed visits, and how many batches of them.
    """

    table: LatencyTable
    ops: int
    timed: int
    estimated: int
    networks: int
    passes: int
    seconds: float
    spread_pct: float
    stamp_us: float
    deterministic: bool
    complete: bool
    drift: Drift | None
    skipped: tuple[str, ...]
    disturbed: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class _Planned:
    """A network to be run with stamps, whole as a user would run it, or both ways."""

    graph: Graph
    model: EngineModel
    timed: Network | None
    whole: Network | None

    @property
    def networks(self) -> list[Network]:
        return [n for n in (self.timed, self.whole) if n]


def session_identity(session: RunnerSession, board: Board) -> Identity:
    """The identity of what a runner measures now."""
    facts, state = session.facts, session.state
    return Identity(
        board=board.name,
        model=str(facts["model"]),
        machine=str(facts["machine"]),
        engine=str(facts["engine"]),
        engine_version=str(facts["engine_version"]),
        dtype=board.dtype,
        threads=board.threads,
        cores=tuple(int(core) for core in facts["cores"]),
        governor="+".join(state["governor"]),
    )


def require_dtype(board: Board, engine: Engine) -> None:
    """Checks that the engine has the board's arithmetic.

    Raises:
        LatencyError: it has not.
    """
    if board.dtype not in engine.dtypes:
        raise LatencyError(
            f"board {board.name}: {engine.name} has no {board.dtype}; set dtype to one of {', '.join(engine.dtypes)}"
        )


def network_name(model: EngineModel) -> str:
    """A name that depends on what is run alone: a resumed profile finds its networks again by it."""
    return hashlib.sha256(model.timed_model.encode()).hexdigest()[:16]


class Profiler:
    """Measures a space on a board.

    Args:
        board: what to measure, and how.
        open_session: starts a runner there; called again when the runner or the link went away.
        space: whose ops are wanted.
        known: a table of the same board whose timed ops need not be timed again; the new table holds them too.
        passes: over all networks; None chooses (3 where time is deterministic, else 48 to 192).
        fresh_networks: run whole, at least 4.
        seed: of those networks and of the shuffles.
    """

    def __init__(
        self,
        board: Board,
        open_session: OpenSession,
        space: SearchSpace,
        *,
        known: LatencyTable | None = None,
        passes: int | None = None,
        fresh_networks: int = FRESH_NETWORKS,
        seed: int = 0,
    ) -> None:
        if passes is not None and passes < 1:
            raise LatencyError(f"passes is {passes}, but must be at least 1")
        if fresh_networks < _FEWEST_WHOLE:
            raise LatencyError(f"fresh_networks is {fresh_networks}, but must be at least {_FEWEST_WHOLE}")
        self._board, self._open, self._space, self._known = board, open_session, space, known
        self._engine = get_engine(board.engine)
        require_dtype(board, self._engine)
        self._passes, self._seed = passes, seed
        have = known.measured if known else set[str]()
        cover = cover_space(space, self._engine, have).graphs(space)
        self._cover = [self._plan(graph, timed=True, whole=False) for graph in cover]
        fresh = fresh_graphs(space, fresh_networks, seed)
        self._fresh = [self._plan(graph, timed=i < _BOTH_WAYS, whole=True) for i, graph in enumerate(fresh)]
        self._places = {
            key: place for place in space.compiled.places if (key := self._engine.kernel_key(place)) is not None
        }

    @property
    def networks(self) -> int:
        """Networks a pass visits."""
        return len(self._order())

    @property
    def new_ops(self) -> int:
        """Kernels of the space that are still to be timed."""
        return len(self._wanted())

    def _wanted(self) -> set[str]:
        return self._places.keys() - (self._known.measured if self._known else set[str]())

    @property
    def plan_digest(self) -> str:
        """sha256 (hex) of all that makes two profiles one: passes are only resumed under the same digest."""
        plan = [self._board.to_dict(), self._passes, self._seed, [n.name for n in self._order()]]
        return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()

    def _plan(self, graph: Graph, *, timed: bool, whole: bool) -> _Planned:
        model = self._engine.build(graph)
        name = network_name(model)
        return _Planned(
            graph,
            model,
            Network(name, model, timed=True, most=self._engine.timed_passes) if timed else None,
            Network(f"{name}-whole", model, timed=False) if whole else None,
        )

    def _order(self) -> list[Network]:
        """What to run, each once, the most telling first: fresh networks in step with the cover's."""
        ranked = [
            (i / max(1, len(group)), n)
            for group in (self._fresh, self._cover)
            for i, p in enumerate(group)
            for n in p.networks
        ]
        return list({n.name: n for _, n in sorted(ranked, key=lambda pair: pair[0])}.values())

    def run(
        self,
        *,
        done: Iterable[Pass] = (),
        on_pass: PassSink | None = None,
        on_progress: ProgressSink | None = None,
        time_limit_s: float | None = None,
        command: str = "",
    ) -> Profile:
        """Measures what is missing and fits the table.

        Args:
            done: passes of an interrupted profile of the same plan, as `on_pass` got them.
            on_pass: gets finished visits at once; make them durable there.
            on_progress: called after each visit of a network.
            time_limit_s: of measuring in this sitting; then ops not yet timed are estimated.
            command: what the user ran, for the provenance.

        Raises:
            BoardBusy: somebody else measures on the board.
            ConnectionLost: the link broke; running again with the passes so far goes on.
            RunnerCrashed: the runner dies whatever it runs, or on ops that cannot be timed another way; lists them.
            InvalidTable: the known table was made for another way of running.
            LatencyError: the time limit left nothing to make a table of.
        """
        deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
        rounds = Rounds(
            self._open,
            done=done,
            on_pass=on_pass,
            on_progress=on_progress,
            seed=self._seed,
            threads=self._board.threads,
        )
        try:
            identity = session_identity(rounds.session, self._board)
            facts = {key: value for key, value in rounds.session.facts.items() if key not in _FLEETING}
            self._require_same(identity)
            sentinel = self._fresh[0].whole
            passes = rounds.collect(
                self._order(), self._passes, deadline=deadline, sentinel=sentinel.name if sentinel else None
            )
            cover = self._recover(rounds, passes) if rounds.complete else self._cover
        finally:
            rounds.close()
        return self._finish(rounds, identity, facts, cover, command)

    def _require_same(self, identity: Identity) -> None:
        differences = self._known.identity.differences(identity) if self._known else []
        if self._known and differences:
            raise InvalidTable(
                f"table {self._known.digest[:12]} was not made for board {self._board.name} as it runs now (table, "
                f"now: {'; '.join(differences)}); restore that, or profile anew with --fresh"
            )

    def _recover(self, rounds: Rounds, passes: int) -> list[_Planned]:
        """The cover networks that ran, and small networks for the ops that only the others held."""
        ran = [p for p in self._cover if _ran(p, rounds)]
        missing = self._places_of(self._cover).keys() - self._places_of(ran).keys()
        missing &= self._wanted()
        if not missing:
            return ran
        places = self._places_of(self._cover)
        alone = [self._plan(isolated_graph(places[key]), timed=True, whole=False) for key in sorted(missing)]
        rounds.collect([n for p in alone for n in p.networks], passes)
        ran += [p for p in alone if _ran(p, rounds)]
        lost = sorted(missing - self._places_of(ran).keys())
        if lost:
            why = next(iter(rounds.skipped.values()))
            raise RunnerCrashed(f"{self._board.name}: {len(lost)} op(s) cannot be timed: {', '.join(lost)} ({why})")
        return ran

    def _places_of(self, planned: Sequence[_Planned]) -> dict[str, Place]:
        return {
            key: place
            for p in planned
            for place, key in zip(p.graph.places(), self._engine.kernel_keys(p.graph), strict=True)
            if key is not None
        }

    def _finish(
        self,
        rounds: Rounds,
        identity: Identity,
        facts: Mapping[str, Any],
        cover: Sequence[_Planned],
        command: str,
    ) -> Profile:
        passes, fresh = detrend(rounds.passes), [p for p in self._fresh if _ran(p, rounds)]
        found = Measured(
            cover=[s for p in cover if (s := _sampled(p, passes)).timed.size],
            fresh=[s for p in fresh if (s := _sampled(p, passes)).whole.size],
        )
        if len(found.fresh) < min(_FEWEST_WHOLE, len(self._fresh)):
            reasons = "; ".join(rounds.skipped.values())
            raise LatencyError(
                f"{self._board.name}: {len(found.fresh)} whole network(s) were measured, {_FEWEST_WHOLE} are needed "
                f"for a table{f' ({reasons})' if reasons else ': give it more time; what was measured is kept'}"
            )
        drift_sigma = drift_between(rounds.passes, [p.whole.name for p in fresh if p.whole])
        made = assemble(self._engine, self._places, found, self._known, drift_sigma=drift_sigma)
        names = {n.name for p in [*cover, *self._fresh] for n in p.networks}
        mine = [p for p in rounds.passes if names & p.runs.keys()]
        raw = json.dumps([p.to_dict() for p in mine], sort_keys=True)
        old = self._known.provenance if self._known else None
        digest = hashlib.sha256(raw.encode()).hexdigest()
        mark = SpaceMark(self._space.name, self._space.digest)
        deepest = max((p.index + 1 for p in mine), default=0)
        seconds = sum(p.seconds for p in mine)
        provenance = Provenance(
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            command=command,
            spaces=tuple(dict.fromkeys([*(old.spaces if old else ()), mark])),
            networks=len(found.cover) + (old.networks if old else 0),
            passes=deepest,
            seconds=seconds + (old.seconds if old else 0.0),
            samples_sha256=hashlib.sha256(f"{old.samples_sha256}+{digest}".encode()).hexdigest() if old else digest,
            facts=facts,
            complete=rounds.complete,
        )
        table = LatencyTable(identity, made.entries, made.offset_ms, made.calibration, provenance)
        here = {key: table.entries[key] for key in self._places if key in table.entries}
        return Profile(
            table=table,
            ops=len(here),
            timed=made.timed,
            estimated=sum(entry.estimated for entry in here.values()),
            networks=len(found.cover),
            passes=deepest,
            seconds=seconds,
            spread_pct=float(np.median([e.spread for e in here.values() if not e.estimated] or [0.0])) * 100,
            stamp_us=made.stamp_ms * 1e3,
            deterministic=bool(rounds.steady),
            complete=rounds.complete,
            drift=rounds.drift,
            skipped=tuple(rounds.skipped.values()),
            disturbed=tuple(rounds.disturbed.items()),
        )


def _ran(planned: _Planned, rounds: Rounds) -> bool:
    return not any(n.name in rounds.skipped for n in planned.networks)


def _sampled(planned: _Planned, passes: Sequence[Pass]) -> Sampled:
    names = (n.name if n else None for n in (planned.timed, planned.whole))
    return sample(passes, planned.graph, planned.model, *names)
