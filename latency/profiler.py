"""Profiler: a board and a space in, a latency table out.

Cover networks are timed layer by layer while they run whole, for a layer alone runs from a hot cache (0.35 to 0.9 of
its real time). A few random networks are run with and without stamps: they give the stamps' own cost and the scale.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from latency.board import Board
from latency.cover import cover_space, isolated_graph
from latency.deploy import Deployment
from latency.engines import Engine, EngineModel, get_engine
from latency.errors import LatencyError, RunnerCrashed
from latency.fit import Sampled, fit, gather
from latency.rounds import Network, Pass, PassSink, ProgressSink, Rounds
from latency.session import RunnerSession
from latency.table import Identity, LatencyTable, Provenance, SpaceMark
from latency.transport import Transport
from nas.graph import Graph
from nas.space import SearchSpace

CALIBRATION_NETWORKS: Final = 8


@dataclass(frozen=True)
class Profile:
    """A finished profile.

    Attributes:
        table: what it was made for.
        ops: distinct kernels timed.
        networks: cover networks run.
        passes: over all of them.
        seconds: of measuring, earlier sittings included.
        spread_pct: median over ops of their spread.
        stamp_us: what one time stamp costs; it is taken off.
        deterministic: the board's time repeats exactly (an emulator), so a few passes were enough.
        skipped: networks the engine refused or died on, and why; their ops were timed in other networks.
    """

    table: LatencyTable
    ops: int
    networks: int
    passes: int
    seconds: float
    spread_pct: float
    stamp_us: float
    deterministic: bool
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class _Planned:
    """A network with stamps and, where it calibrates, the same one without: visited apart, as a user would run it."""

    graph: Graph
    timed: Network
    whole: Network | None = None

    @property
    def networks(self) -> list[Network]:
        return [self.timed, *([self.whole] if self.whole else [])]


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
        transport: an open link to it.
        deployment: the runner on it.
        space: whose ops are wanted.
        passes: over all networks; None chooses (3 where time is deterministic, else 48 to 192).
        calibration_networks: random networks run whole, at least 2.
        seed: of those networks and of the shuffles.
    """

    def __init__(
        self,
        board: Board,
        transport: Transport,
        deployment: Deployment,
        space: SearchSpace,
        *,
        passes: int | None = None,
        calibration_networks: int = CALIBRATION_NETWORKS,
        seed: int = 0,
    ) -> None:
        if passes is not None and passes < 1:
            raise LatencyError(f"passes is {passes}, but must be at least 1")
        if calibration_networks < 2:
            raise LatencyError(f"calibration_networks is {calibration_networks}, but must be at least 2")
        self._board, self._transport, self._deployment, self._space = board, transport, deployment, space
        self._engine = get_engine(board.engine)
        require_dtype(board, self._engine)
        self._passes, self._seed = passes, seed
        self._cover = self._plan(cover_space(space, self._engine).graphs(space), whole=False)
        self._whole = self._plan(self._random_graphs(calibration_networks), whole=True)

    @property
    def networks(self) -> int:
        """Networks a pass visits."""
        return len(_networks([*self._cover, *self._whole]))

    @property
    def plan_digest(self) -> str:
        """sha256 (hex) of all that makes two profiles one: passes are only resumed under the same digest."""
        names = [n.name for n in _networks([*self._cover, *self._whole])]
        plan = [self._board.to_dict(), self._deployment.engine_version, self._passes, self._seed, names]
        return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()

    def _plan(self, graphs: Sequence[Graph], *, whole: bool) -> list[_Planned]:
        planned = []
        for graph in graphs:
            model = self._engine.build(graph)
            name = network_name(model)
            as_deployed = Network(f"{name}-whole", model, timed=False) if whole else None
            planned.append(_Planned(graph, Network(name, model, timed=True), as_deployed))
        return planned

    def _random_graphs(self, count: int) -> list[Graph]:
        """Distinct random networks; a tiny space may have fewer, then some are repeated under one name."""
        rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(1,)))
        rows = self._space.canonical(self._space.sample(rng, 16 * count))
        distinct = list(dict.fromkeys(tuple(int(v) for v in row) for row in rows))
        return [self._space.graph(row) for row in distinct[:count]]

    def run(
        self,
        *,
        done: Iterable[Pass] = (),
        on_pass: PassSink | None = None,
        on_progress: ProgressSink | None = None,
        command: str = "",
    ) -> Profile:
        """Measures what is missing and fits the table.

        Args:
            done: passes of an interrupted profile of the same board and space, as `on_pass` got them.
            on_pass: gets each finished pass at once; make it durable there.
            on_progress: called after each visit of a network.
            command: what the user ran, for the provenance.

        Raises:
            BoardBusy: somebody else measures on the board.
            ConnectionLost: the link broke; running again with the passes so far goes on.
            RunnerCrashed: the runner dies whatever it runs, or on ops that cannot be timed another way; lists them.
        """
        rounds = Rounds(
            lambda: RunnerSession(self._transport, self._deployment, self._board, self._engine),
            done=done,
            on_pass=on_pass,
            on_progress=on_progress,
            seed=self._seed,
        )
        try:
            identity = session_identity(rounds.session, self._board)
            passes = rounds.collect(_networks([*self._cover, *self._whole]), self._passes)
            cover = self._recover(rounds, passes)
        finally:
            rounds.close()
        return self._finish(rounds, identity, cover, passes, command)

    def _recover(self, rounds: Rounds, passes: int) -> list[_Planned]:
        """The cover networks that ran, and small networks for the ops that only the others held."""
        ran = [p for p in self._cover if _ran(p, rounds)]
        missing = self._keys(self._cover) - self._keys(ran)
        if not missing:
            return ran
        ops = {self._engine.engine_key(op): op for p in self._cover for op in p.graph.ops}
        alone = self._plan([isolated_graph(ops[key]) for key in sorted(missing)], whole=False)
        rounds.collect(_networks(alone), passes)
        ran += [p for p in alone if _ran(p, rounds)]
        lost = sorted(self._keys(self._cover) - self._keys(ran))
        if lost:
            why = next(iter(rounds.skipped.values()))
            raise RunnerCrashed(f"{self._board.name}: {len(lost)} op(s) cannot be timed: {', '.join(lost)} ({why})")
        return ran

    def _keys(self, planned: Sequence[_Planned]) -> set[str]:
        return {self._engine.engine_key(op) for p in planned for op in p.graph.ops}

    def _finish(
        self, rounds: Rounds, identity: Identity, cover: Sequence[_Planned], passes: int, command: str
    ) -> Profile:
        whole = [p for p in self._whole if _ran(p, rounds)]
        if not whole:
            raise RunnerCrashed(
                f"{self._board.name}: no whole network could be run: {'; '.join(rounds.skipped.values())}"
            )
        names = {n.name for n in _networks([*cover, *whole])}
        mine = [p for p in rounds.passes if names & p.runs.keys()]
        fitted = fit(self._engine, [_sampled(p, mine) for p in cover], [_sampled(p, mine) for p in whole])
        wanted = {self._engine.engine_key(op) for op in self._space.compiled.ops}
        raw = json.dumps([p.to_dict() for p in mine], sort_keys=True)
        provenance = Provenance(
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            command=command,
            spaces=(SpaceMark(self._space.name, self._space.digest),),
            networks=len(cover),
            passes=passes,
            seconds=sum(p.seconds for p in mine),
            samples_sha256=hashlib.sha256(raw.encode()).hexdigest(),
        )
        entries = {key: entry for key, entry in fitted.entries.items() if key in wanted}
        table = LatencyTable(identity, entries, fitted.offset_ms, fitted.calibration, provenance)
        return Profile(
            table=table,
            ops=len(entries),
            networks=len(cover),
            passes=passes,
            seconds=provenance.seconds,
            spread_pct=float(np.median([e.spread for e in entries.values()])) * 100,
            stamp_us=fitted.stamp_ms * 1e3,
            deterministic=bool(rounds.steady),
            skipped=tuple(rounds.skipped.values()),
        )


def _networks(planned: Sequence[_Planned]) -> list[Network]:
    """What to run, each network once: a calibration network may be a cover network too."""
    return list({n.name: n for p in planned for n in p.networks}.values())


def _ran(planned: _Planned, rounds: Rounds) -> bool:
    return not any(n.name in rounds.skipped for n in planned.networks)


def _sampled(planned: _Planned, passes: Sequence[Pass]) -> Sampled:
    whole = gather(passes, planned.whole.name)[0] if planned.whole else np.empty(0)
    return Sampled(planned.graph, planned.timed.model, whole, gather(passes, planned.timed.name)[1])
