"""Passes over many networks: shuffled, interleaved, the most telling first, and going on where they were interrupted.

A pass visits every network once. Networks come in order of importance; where time is noisy, growing parts of them get a
few passes each before all get many, so that a measurement stopped at any time is about the best for its time. A network
whose times agree well already is not run more often. Networks that do not all fit into half of the board's free memory
are loaded, run and freed in groups, several passes a group, because loading costs more than running. Where time is
noisy each sweep gets a runner of its own: what its memory happens to look like shifts all its times a little.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from latency.disturbance import Drift, drift
from latency.passes import Network, Pass, PassSink, Progress, ProgressSink
from latency.session import RunnerSession
from latency.visits import Batch, OpenSession, Visitor

STEADY_SPREAD: Final = 0.003
"""Where the middle half of a network's repeated runs lies within this share of their median, time is deterministic.

An emulator that counts instructions stays below 0.0025 (interrupts differ); a real CPU does not.
"""
STEADY_PASSES: Final = 3
NOISY_PASSES: Final = (48, 96, 192)
"""Passes where time is noisy: the least, or more where they take no longer than `WANTED_S`."""
WANTED_S: Final = 20.0
_FIRST_PASSES: Final = 4
_WAVES: Final = (0.25, 0.5, 1.0)
"""Parts of the networks, in order of importance, that get their first passes together."""
_FEWEST_FOR_WAVES: Final = 64
_PRECISE: Final = 0.004
"""A network whose typical time has a smaller standard error is not run more often …"""
_ENOUGH: Final = 12
"""… once it has this many passes."""
_REPEATS: Final = 15


class Rounds:
    """Runs passes and remembers them.

    Args:
        open_session: starts a runner; called again after a crash or a lost link.
        done: passes of an earlier, interrupted measurement; they are not run again.
        on_pass: gets finished visits at once, before the next begin.
        on_progress: called after each visit.
        seed: of the shuffles.
        threads: of the engine.

    Attributes:
        passes: every pass, the earlier ones included.
        steady: whether time is deterministic on the board; None until it has been looked at.
        complete: whether the last `collect` reached its end, and not its deadline.
    """

    def __init__(
        self,
        open_session: OpenSession,
        *,
        done: Iterable[Pass] = (),
        on_pass: PassSink | None = None,
        on_progress: ProgressSink | None = None,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        self._visitor = Visitor(open_session, threads=threads, on_visit=self._report)
        self._seed, self._on_pass, self._on_progress = seed, on_pass, on_progress
        self.passes = list(done)
        self.steady: bool | None = None
        self.complete = True
        self._totals: dict[str, list[int]] = {}
        self._have: set[tuple[int, str]] = set()
        for p in self.passes:
            self._remember(p)
        self._sessions = max((p.session + 1 for p in self.passes), default=0)
        self._deadline: float | None = None
        self._target, self._started_s = 0, 0.0
        self._visits, self._standing, self._since_kept = 0, 0, 0
        self._networks, self._planned = 0, 0
        self._names: list[str] = []

    @property
    def session(self) -> RunnerSession:
        """The open conversation with the runner."""
        return self._visitor.session

    @property
    def skipped(self) -> dict[str, str]:
        """Networks the engine refused or died on, and why."""
        return self._visitor.skipped

    @property
    def disturbed(self) -> dict[str, int]:
        """What disturbed visits, and how many batches of them."""
        return self._visitor.disturbed

    @property
    def drift(self) -> Drift | None:
        """How the sentinel's time in the second half of the passes compares with the first; None without enough."""
        times = [ns for p in self.passes for _, ns in p.sentinel]
        half = len(times) // 2
        return drift(times[:half], times[half:]) if half >= 2 else None

    def close(self) -> None:
        """Ends the runner."""
        self._visitor.close()

    def collect(
        self,
        networks: Sequence[Network],
        passes: int | None = None,
        *,
        deadline: float | None = None,
        sentinel: str | None = None,
    ) -> int:
        """Runs what is missing of `passes` passes over the networks.

        Args:
            networks: those to visit, the most telling first; names are distinct.
            passes: how many; None chooses: 3 where time is deterministic, else up to 48 to 192.
            deadline: on the monotonic clock; when it has passed, what is there has to do.
            sentinel: one of the networks, re-timed with every batch.

        Returns:
            How many passes the networks have now, the most any has.

        Raises:
            RunnerCrashed: the runner dies whatever it runs.
            ConnectionLost: the link broke for good; what was handed to `on_pass` is all that is needed to go on.
        """
        self._visitor.networks.update({n.name: n for n in networks})
        self._visitor.sentinel, self._deadline = sentinel, deadline
        self.complete = deadline is None or time.monotonic() < deadline
        names = [n.name for n in networks if n.name not in self.skipped]
        if self.steady is None and self.complete:
            self.steady = self._looks_steady(names)
        adaptive = passes is None and not self.steady
        self._target = passes or (STEADY_PASSES if self.steady else NOISY_PASSES[0])
        self._names, self._visits, self._started_s = names, 0, time.monotonic()
        self._count()
        stages = self._stages(len(names), waves=deadline is not None or not self.steady)
        while stages and self.complete:
            count, stop = stages.pop(0)
            part = [n for n in names[:count] if n not in self.skipped and not (adaptive and self._precise(n))]
            if not self.steady and stop > _FIRST_PASSES and self._visits:
                self._visitor.close()
            self._sweep(part, stop)
            if adaptive and count == len(names) and self._target == NOISY_PASSES[0] and self._visits:
                self._target = self._affordable(len(names))
                self._count()
                stages = [(c, s) for c, s in self._stages(len(names), waves=False) if s > stop]
        self._visitor.unload([n for n in names if n not in self.skipped])
        self.complete = self.complete or not any(self._lacks(n, range(self._target)) for n in names)
        if self._on_progress and self.complete:
            self._count()
            self._on_progress(Progress(self._planned, self._planned, self._target, self._networks, 0.0))
        return max((index + 1 for index, name in self._have if name in set(names)), default=0)

    def _stages(self, networks: int, *, waves: bool) -> list[tuple[int, int]]:
        """(how many networks, up to which pass), in order."""
        sweeps = [(networks, -(-self._target * part // 4)) for part in range(1, 5)]
        if not waves or networks < _FEWEST_FOR_WAVES:
            return list(dict.fromkeys(sweeps))
        first = min(self._target, 1 if self.steady else _FIRST_PASSES)
        growing = [(round(part * networks), first) for part in _WAVES]
        return list(dict.fromkeys([*growing, *(sweep for sweep in sweeps if sweep[1] > first)]))

    def _affordable(self, networks: int) -> int:
        """How many passes to make where time is noisy, now that their time is known."""
        each_s = (time.monotonic() - self._started_s) / self._visits
        return max([n for n in NOISY_PASSES if n * networks * each_s <= WANTED_S] + [NOISY_PASSES[0]])

    def _sweep(self, names: Sequence[str], stop: int) -> None:
        """Brings networks to `stop` passes, in groups that fit into memory."""
        indices = range(stop)
        pending = self._shuffled([n for n in names if self._lacks(n, indices)], stop)
        several = False
        while pending and self.complete:
            group = self._visitor.load(pending)
            several = several or bool(pending)
            for index in indices:
                left = self._shuffled([n for n in group if self._due(n, index)], index)
                while left and self.complete:
                    batch = self._visitor.visit(left, deadline=self._deadline)
                    self._keep(index, batch)
                    left = [n for n in left if n not in batch.runs and n not in self.skipped]
                    self.complete = self._deadline is None or time.monotonic() < self._deadline
            if several:
                self._visitor.unload(group)

    def _due(self, name: str, index: int) -> bool:
        """Whether a network still lacks that pass, and is not among those that need no more."""
        most = self._visitor.networks[name].most
        return (index, name) not in self._have and (most is None or index < most)

    def _lacks(self, name: str, indices: range) -> bool:
        return any(self._due(name, index) for index in indices)

    def _shuffled(self, names: Sequence[str], index: int) -> list[str]:
        rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(index,)))
        return [names[i] for i in rng.permutation(len(names))]

    def _precise(self, name: str) -> bool:
        """Whether more passes would not move a network's typical time."""
        times = self._totals.get(name, [])
        if len(times) < _ENOUGH:
            return False
        low, middle, high = np.percentile(times, (25, 50, 75))
        # The standard error of a low percentile is about 1.3 times that of the mean of as many normal samples.
        return bool(1.3 * 0.74 * (high - low) <= _PRECISE * middle * len(times) ** 0.5)

    def _looks_steady(self, names: Sequence[str]) -> bool:
        """Repeats the network with the most ops: in a short one a single interrupt counts."""
        for name in sorted(names, key=lambda n: -len(self._visitor.networks[n].model.stamps)):
            if self._visitor.load([name]):
                # One request: the talk between two would wake the network card and spoil an emulator's exact time.
                batch = self._visitor.visit([name], repeats=_REPEATS)
                self._visitor.unload([name])
                if name in batch.runs:
                    low, middle, high = np.percentile(batch.runs[name].totals, (25, 50, 75))
                    return bool(high - low <= STEADY_SPREAD * middle)
        return False

    def _keep(self, index: int, batch: Batch) -> None:
        if not batch.runs:
            return
        number = max((p.number for p in self.passes), default=-1) + 1
        session = self._sessions + self._visitor.opened - 1
        finished = Pass(number, index, batch.runs, self._visitor.state, batch.seconds, batch.sentinel, session)
        self.passes.append(finished)
        self._remember(finished)
        self._count()
        if self._on_pass:
            self._on_pass(finished)

    def _remember(self, finished: Pass) -> None:
        for name, runs in finished.runs.items():
            self._have.add((finished.index, name))
            self._totals.setdefault(name, []).extend(runs.totals)

    def _count(self) -> None:
        """How many networks there are, how many visits of them there shall be, and how many of these are kept.

        Between two batches and not after each visit: a local board's times would tell of it.
        """
        networks = [self._visitor.networks[n] for n in self._names if n not in self.skipped]
        self._networks, self._planned = len(networks), sum(min(self._target, n.most or self._target) for n in networks)
        self._standing = sum((i, n) in self._have for n in self._names for i in range(self._target))
        self._since_kept = 0

    def _report(self) -> None:
        """One more visit, as yet unkept."""
        self._visits, self._since_kept = self._visits + 1, self._since_kept + 1
        if self._on_progress and self._target:
            done = min(self._planned, self._standing + self._since_kept)
            left_s = (time.monotonic() - self._started_s) / self._visits * (self._planned - done)
            if self._deadline is not None:
                left_s = max(0.0, min(left_s, self._deadline - time.monotonic()))
            self._on_progress(Progress(done, self._planned, self._target, self._networks, left_s))
