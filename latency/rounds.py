"""Passes over many networks: shuffled, interleaved, inside the board's memory, and going on after a crash.

A pass visits every network once. Networks that do not all fit into half of the board's free memory are loaded, run and
freed in groups; then a sweep of several passes is run before the next group is loaded, because loading costs more than
running. What is finished is handed over at once, so nothing measured is lost with the link.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from latency.engines import EngineModel
from latency.errors import LatencyError, RunnerCrashed, UnsupportedOp
from latency.session import RunnerSession, Runs

STEADY_SPREAD: Final = 0.003
"""Where the middle half of a network's repeated runs lies within this share of their median, time is deterministic.

An emulator that counts instructions stays below 0.0025 (interrupts differ); a real CPU does not.
"""
STEADY_PASSES: Final = 3
NOISY_PASSES: Final = (48, 96, 192)
"""Passes where time is noisy: the least, or more where they take no longer than `WANTED_S`."""
WANTED_S: Final = 20.0
_SWEEPS: Final = 4
_REPEATS: Final = 15
_STRIKES: Final = 2
_MANY: Final = 6


@dataclass(frozen=True)
class Network:
    """What to run: the network as deployed or, `timed`, the one with stamps."""

    name: str
    model: EngineModel
    timed: bool


@dataclass(frozen=True)
class Pass:
    """A finished pass over the networks that were loaded; plain data, so that a store can keep it.

    Attributes:
        number: of this record, in the order they were made.
        index: which of the passes it belongs to; passes over other groups of networks share it.
        runs: network name -> what its visit took.
        state: of the board just after (governor, mhz, celsius, throttled, load, free_bytes).
        seconds: how long the pass took.
    """

    number: int
    index: int
    runs: Mapping[str, Runs]
    state: Mapping[str, Any]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        runs = {name: {"whole": list(r.whole), "timed": [list(t) for t in r.timed]} for name, r in self.runs.items()}
        marks = {"number": self.number, "index": self.index, "seconds": self.seconds}
        return {**marks, "state": dict(self.state), "runs": runs}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Pass:
        """The inverse of `to_dict`.

        Raises:
            LatencyError: the record is damaged.
        """
        try:
            runs = {
                str(name): Runs(tuple(map(int, r["whole"])), tuple(tuple(map(int, t)) for t in r["timed"]))
                for name, r in data["runs"].items()
            }
            number, index = int(data["number"]), int(data["index"])
            return cls(number, index, runs, dict(data["state"]), float(data["seconds"]))
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise LatencyError(f"a stored pass is damaged ({e!r}); drop the stored passes and profile anew") from e


@dataclass(frozen=True)
class Progress:
    """How far a measurement is: visits of networks done and in all, and the seconds the rest will take."""

    visits_done: int
    visits: int
    passes: int
    networks: int
    remaining_s: float


PassSink = Callable[[Pass], None]
ProgressSink = Callable[[Progress], None]


class Rounds:
    """Runs passes and remembers them.

    Args:
        open_session: starts a runner; called again after a crash.
        done: passes of an earlier, interrupted measurement; they are not run again.
        on_pass: gets each finished pass at once, before the next begins.
        on_progress: called after each visit.
        seed: of the shuffles.

    Attributes:
        passes: every pass, the earlier ones included.
        skipped: networks the engine refused or died on, and why.
        steady: whether time is deterministic on the board; None until it has been looked at.
    """

    def __init__(
        self,
        open_session: Callable[[], RunnerSession],
        *,
        done: Iterable[Pass] = (),
        on_pass: PassSink | None = None,
        on_progress: ProgressSink | None = None,
        seed: int = 0,
    ) -> None:
        self._open, self._seed = open_session, seed
        self._on_pass, self._on_progress = on_pass, on_progress
        self.passes = list(done)
        self.skipped: dict[str, str] = {}
        self.steady: bool | None = None
        self._have = {(p.index, name) for p in self.passes for name in p.runs}
        self._session: RunnerSession | None = None
        self._networks: dict[str, Network] = {}
        self._strikes: dict[str, int] = {}
        self._loads, self._measures = 0, 0
        self._measuring_s, self._visited, self._resumed, self._planned = 0.0, 0, 0, 0

    @property
    def session(self) -> RunnerSession:
        """The open conversation with the runner."""
        if self._session is None:
            self._session = self._open()
        return self._session

    def close(self) -> None:
        """Ends the runner."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def collect(self, networks: Sequence[Network], passes: int | None = None) -> int:
        """Runs what is missing of `passes` passes over the networks.

        Args:
            networks: those to visit; names are distinct.
            passes: how many; None chooses: 3 where time is deterministic, else 48 to 192.

        Returns:
            How many passes there are now.

        Raises:
            RunnerCrashed: the runner dies whatever it runs.
            ConnectionLost: the link broke; what was handed to `on_pass` is all that is needed to go on.
        """
        self._networks.update({n.name: n for n in networks})
        names = [n.name for n in networks if n.name not in self.skipped]
        if self.steady is None:
            self.steady = self._looks_steady(names)
        earlier = max((p.index + 1 for p in self.passes if any(n in p.runs for n in names)), default=0)
        total = passes or max(STEADY_PASSES if self.steady else NOISY_PASSES[0], earlier)
        chosen = bool(passes) or self.steady
        self._measuring_s, self._visited, self._resumed = 0.0, 0, 0
        start, stop = 0, total
        while start < total:
            pending = self._shuffled([n for n in names if self._lacks(n, range(start, stop))], start)
            first = start == 0
            while pending:
                group = self._load(pending)
                if first and pending:
                    stop = min(stop, -(-total // _SWEEPS))
                first, index = False, start
                while index < stop:
                    self._planned = total * len(names)
                    elapsed_s = self._visit(index, group)
                    if not chosen and elapsed_s is not None:
                        chosen, whole = True, stop == total
                        pass_s = elapsed_s * len(names) / max(1, len(group))
                        total = max([n for n in NOISY_PASSES if n * pass_s <= WANTED_S] + [total])
                        stop = total if whole else stop
                    index += 1
                self.session.unload(group)
            names = [n for n in names if n not in self.skipped]
            start, stop = stop, min(total, stop + -(-total // _SWEEPS))
        return total

    def _lacks(self, name: str, indices: range) -> bool:
        return any((index, name) not in self._have for index in indices)

    def _shuffled(self, names: Sequence[str], index: int) -> list[str]:
        rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(index,)))
        return [names[i] for i in rng.permutation(len(names))]

    def _looks_steady(self, names: Sequence[str]) -> bool:
        """Repeats the network with the most ops: in a short one a single interrupt counts."""
        for name in sorted(names, key=lambda n: -len(self._networks[n].model.stamps)):
            group = self._load([name])
            if group:
                # One request: the talk between two would wake the network card and spoil an emulator's exact time.
                [(_, visit)] = self.session.measure(group, runs=_REPEATS, warm=1)
                self.session.unload(group)
                low, middle, high = np.percentile(_totals(visit), (25, 50, 75))
                return bool(high - low <= STEADY_SPREAD * middle)
        return False

    def _load(self, pending: list[str], *, limited: bool = True) -> list[str]:
        """Loads from the front of `pending` (and takes away) what fits into half of the free memory; at least one."""
        free = self.session.state.get("free_bytes")
        budget = free / 2 if free and limited else float("inf")
        loaded: list[str] = []
        used = 0
        while pending and (used < budget or not loaded):
            name = pending.pop(0)
            network = self._networks[name]
            try:
                used += self.session.load(name, network.model, timed=network.timed)
                loaded.append(name)
                self._loads += 1
            except UnsupportedOp as e:
                self.skipped[name] = str(e)
            except RunnerCrashed as e:
                again = [name] if self._crashed(name, e, worked=self._loads > 0) else []
                pending[:0] = [*loaded, *again]
                loaded, used = [], 0
        return loaded

    def _visit(self, index: int, group: list[str]) -> float | None:
        """One pass over the loaded networks that lack it; its seconds, or None if there was nothing to do."""
        left = self._shuffled([n for n in group if (index, n) not in self._have], index)
        self._resumed += len(group) - len(left)
        self._visited += len(group) - len(left)
        if not left:
            return None
        started_s, runs = time.monotonic(), dict[str, Runs]()
        while left:
            try:
                for name, result in self.session.measure(left, runs=1, warm=1):
                    runs[name] = result
                    self._measures += 1
                    self._report(self._measuring_s + time.monotonic() - started_s)
                break
            except RunnerCrashed as e:
                left = [n for n in left if n not in runs]
                self._crashed(left[0] if left else "", e, worked=self._measures > 0)
                group[:] = self._load([n for n in group if n not in self.skipped], limited=False)
                left = [n for n in left if n in group]
            except UnsupportedOp as e:
                left = [n for n in left if n not in runs]
                self.skipped[left.pop(0)] = str(e)
                group[:] = [n for n in group if n not in self.skipped]
        seconds = time.monotonic() - started_s
        self._measuring_s += seconds
        if runs:
            number = max((p.number for p in self.passes), default=-1) + 1
            finished = Pass(number, index, runs, self.session.state, seconds)
            self._have.update((index, name) for name in runs)
            self.passes.append(finished)
            if self._on_pass:
                self._on_pass(finished)
        return seconds

    def _crashed(self, name: str, error: RunnerCrashed, *, worked: bool) -> bool:
        """Notes a death of the runner while it had `name`; whether that network gets another chance.

        `worked` tells that what it died on (loading or measuring) has worked for some network.
        """
        self.close()
        self._strikes[name] = self._strikes.get(name, 0) + 1
        if not worked and sum(self._strikes.values()) >= _MANY:
            raise RunnerCrashed(f"the runner dies whatever it runs; check the engine on the board: {error}") from error
        if self._strikes[name] < _STRIKES:
            return True
        self.skipped[name] = str(error)
        return False

    def _report(self, measuring_s: float) -> None:
        self._visited += 1
        if self._on_progress:
            done, planned = self._visited, max(self._planned, self._visited)
            each_s = measuring_s / (done - self._resumed)
            count = len(self._networks) - len(self.skipped)
            self._on_progress(Progress(done, planned, planned // max(1, count), count, each_s * (planned - done)))


def _totals(runs: Runs) -> list[int]:
    return list(runs.whole) or [sum(run) for run in runs.timed]
