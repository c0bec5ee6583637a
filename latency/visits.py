"""Visits: loads networks and runs each once, whatever happens to the runner, the link or the board meanwhile.

Visits are asked for in short batches, so that what disturbed a batch (throttling, another program) costs that batch
alone, and a cut link costs nothing that was finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from latency.disturbance import spoiled
from latency.errors import ConnectionLost, RunnerCrashed, UnsupportedOp
from latency.passes import Network
from latency.session import RunnerSession, Runs

OpenSession = Callable[[], RunnerSession]

_STRIKES: Final = 2
"""Deaths of the runner a network may cause before it is skipped."""
_MANY: Final = 6
_LOSSES: Final = 5
"""Losses of the link in a row without a finished visit; where `open_session` is patient it gives up first."""
_FIRST_BATCH: Final = 64
_LARGEST_BATCH: Final = 1024
_BATCH_S: Final = 5.0
_REPEATS: Final = 3
"""How often a disturbed batch is repeated before it counts after all."""
_SPOILED_SHARE: Final = 0.3
"""Of the time measured, plus `_SPOILED_S`: beyond it the board is never quiet, and repeating would go on for ever."""
_SPOILED_S: Final = 2.0
_PAUSE_S: Final = 0.2


@dataclass(frozen=True)
class Batch:
    """Finished visits.

    Attributes:
        runs: network name -> what its visit took.
        seconds: how long the batch took.
        sentinel: (time in s, ns) of the sentinel, visited first.
    """

    runs: dict[str, Runs]
    seconds: float
    sentinel: tuple[tuple[float, float], ...]


class Visitor:
    """Keeps a runner alive and visits networks with it.

    Args:
        open_session: starts a runner; called again after a crash or a lost link, and may wait for the board.
        threads: of the engine, to tell our own work from others'.
        on_visit: called after each visit.

    Attributes:
        networks: name -> what to run; whoever asks for a name has put it here.
        skipped: networks the engine refused or died on, and why.
        disturbed: reason -> how many batches it spoiled.
        sentinel: the network re-timed at the head of each batch, or None.
        state: of the board after the last batch.
        opened: how many runners have been started.
    """

    def __init__(
        self, open_session: OpenSession, *, threads: int = 1, on_visit: Callable[[], None] = lambda: None
    ) -> None:
        self._open, self._threads, self._on_visit = open_session, threads, on_visit
        self.networks: dict[str, Network] = {}
        self.skipped: dict[str, str] = {}
        self.disturbed: dict[str, int] = {}
        self.sentinel: str | None = None
        self.state: Mapping[str, Any] = {}
        self.opened = 0
        self._session: RunnerSession | None = None
        self._loaded: set[str] = set()
        self._strikes: dict[str, int] = {}
        self._losses, self._worked = 0, {"load": False, "measure": False}
        self._batch, self._measured_s, self._spoiled_s = _FIRST_BATCH, 0.0, 0.0

    @property
    def session(self) -> RunnerSession:
        """The open conversation with the runner."""
        if self._session is None:
            self._session, self._loaded = self._open(), set()
            self.opened += 1
        return self._session

    def close(self) -> None:
        """Ends the runner."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def load(self, pending: list[str], *, limited: bool = True) -> list[str]:
        """Loads from the front of `pending` (and takes away) what fits into half of the free memory; at least one.

        Returns:
            The names loaded. Those the engine refuses, or dies on again, are in `skipped` instead.
        """
        loaded: list[str] = []
        used, budget = 0, 0.0
        while pending and (not loaded or not limited or used < budget):
            name = pending.pop(0)
            network = self.networks[name]
            try:
                if not loaded:
                    free = self.session.state.get("free_bytes")
                    budget = free / 2 if free else float("inf")
                if name not in self._loaded:
                    used += self.session.load(name, network.model, timed=network.timed)
                    self._loaded.add(name)
                    self._worked["load"] = True
                loaded.append(name)
            except UnsupportedOp as e:
                self.skipped[name] = str(e)
            except (RunnerCrashed, ConnectionLost) as e:
                again = self._survive(name, e, "load")
                pending[:0] = [*loaded, *([name] if again else [])]
                loaded, used = [], 0
        return loaded

    def unload(self, names: Sequence[str]) -> None:
        """Frees networks; a runner that is gone has freed them already."""
        if self._session is None:
            return
        try:
            self._session.unload(names)
            self._loaded -= set(names)
        except (RunnerCrashed, ConnectionLost):
            self.close()

    def visit(self, names: Sequence[str], *, repeats: int = 1, warm: int = 1, deadline: float | None = None) -> Batch:
        """One batch from the front of `names`, loading what a crash took; the caller asks again for the rest.

        Args:
            names: networks to visit; they should be loaded.
            repeats: runs a visit.
            warm: runs before them that do not count.
            deadline: on the monotonic clock; a batch is made no longer than the time left.

        Raises:
            RunnerCrashed: the runner dies whatever it runs.
            ConnectionLost: the link is lost for good.
        """
        left = list(names[: self._size(deadline)])
        runs: dict[str, Runs] = {}
        sentinel: list[tuple[float, float]] = []
        started, tries = time.monotonic(), 0
        visiting_s = 0.0
        while left:
            ready = self.load(list(left), limited=False)
            left = [name for name in left if name in ready]
            watch = [self.sentinel] if self.sentinel and self._ready(self.sentinel) else []
            got: dict[str, Runs] = {}
            asked = time.monotonic()
            try:
                batch = [*watch, *(name for name in left if name not in watch)]
                for name, found in self.session.measure(batch, runs=repeats, warm=warm) if batch else ():
                    got[name] = found
                    self._strikes.pop(name, None)  # it runs: the deaths were not its doing
                    self._worked["measure"], self._losses = True, 0
                    self._on_visit()
                    if name == self.sentinel:
                        sentinel += [(time.monotonic(), float(ns)) for ns in found.totals]
            except (RunnerCrashed, ConnectionLost) as e:
                behind = [name for name in left if name not in got]
                self._survive(behind[0] if behind else "", e, "measure")
            except UnsupportedOp as e:
                behind = [name for name in left if name not in got]
                self.skipped[behind[0]] = str(e)
            else:
                self.state = self.session.state
                reason = spoiled(self.session.before, self.session.state, threads=self._threads)
                pause_s = _PAUSE_S * 2**tries
                if reason is not None and self._may_repeat(reason, time.monotonic() - asked + pause_s, tries):
                    time.sleep(pause_s)
                    tries += 1
                    continue
            visiting_s += time.monotonic() - asked
            runs |= {name: found for name, found in got.items() if name in left}
            left = [name for name in left if name not in got and name not in self.skipped]
        seconds = time.monotonic() - started
        self._measured_s += seconds
        if runs:
            self._batch = max(1, min(_LARGEST_BATCH, int(_BATCH_S / max(visiting_s / len(runs), 1e-4))))
        return Batch(runs, seconds, tuple(sentinel))

    def _size(self, deadline: float | None) -> int:
        if deadline is None:
            return self._batch
        each_s = _BATCH_S / self._batch
        return max(1, min(self._batch, int((deadline - time.monotonic()) / each_s)))

    def _ready(self, name: str) -> bool:
        return name not in self.skipped and bool(self.load([name], limited=False))

    def _may_repeat(self, reason: str, seconds: float, tries: int) -> bool:
        """Notes a disturbed batch; whether to repeat it."""
        kind = reason.split(" for ")[0]
        self.disturbed[kind] = self.disturbed.get(kind, 0) + 1
        if tries >= _REPEATS or self._spoiled_s > _SPOILED_SHARE * self._measured_s + _SPOILED_S:
            return False
        self._spoiled_s += seconds
        return True

    def _survive(self, name: str, error: Exception, work: str) -> bool:
        """Notes that the runner or the link went away while at `name`; whether that network gets another chance."""
        self.close()
        if isinstance(error, ConnectionLost):
            self._losses += 1
            if self._losses >= _LOSSES:
                raise error
            return True
        self._strikes[name] = self._strikes.get(name, 0) + 1
        if not self._worked[work] and sum(self._strikes.values()) >= _MANY:
            raise RunnerCrashed(f"the runner dies whatever it runs; check the engine on the board: {error}") from error
        if self._strikes[name] < _STRIKES:
            return True
        self.skipped[name] = str(error)
        return False
