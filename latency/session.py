"""A conversation with the runner on a board; the runner's death is told apart from the link's."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from latency.board import Board
from latency.deploy import Deployment
from latency.engines import Engine, EngineModel
from latency.errors import BoardBusy, ConnectionLost, RunnerCrashed, UnsupportedOp
from latency.process import Process, ProcessEnded, TransportTimeout
from latency.transport import Transport

PROTOCOL: Final = 1
PATIENCE_S: Final = 180.0
"""Seconds without a line after which the board counts as lost; the largest network on the slowest board needs a few."""


@dataclass(frozen=True)
class Runs:
    """What a network took in one visit, in ns.

    Attributes:
        whole: the network as deployed, one number a run; or
        timed: per run of the network with stamps, the interval before each stamp, in the order of
            `EngineModel.stamps`, then the one from the last stamp to the end.
    """

    whole: tuple[int, ...]
    timed: tuple[tuple[int, ...], ...]


class RunnerSession:
    """One runner process on a board, from hello to the end. A context manager; `close` may be called twice.

    Attributes:
        facts: what the runner told about the board and its engine.
        state: frequency, temperature, throttling, load and free memory, as last told.

    Raises:
        BoardBusy: somebody else measures on the board.
        RunnerCrashed: the runner died or answered nonsense; the link still works and a new session may be opened.
        ConnectionLost: the link is gone, or the board does not answer any more.
    """

    def __init__(self, transport: Transport, deployment: Deployment, board: Board, engine: Engine) -> None:
        self._name = board.name
        self._orders: dict[str, tuple[int, ...]] = {}
        argv = [deployment.python, "-u", deployment.runner_path]
        self._process: Process = transport.spawn(argv, env=deployment.env)
        try:
            answer = self._ask(
                do="hello",
                engine=engine.name,
                threads=board.threads,
                cores=list(board.cores),
                dtype=board.dtype,
                lock=deployment.lock_path,
                owner=f"{getpass.getuser()}@{socket.gethostname()} pid {os.getpid()}",
            )
            if answer.get("protocol") != PROTOCOL:
                raise RunnerCrashed(f"{board.name}: the runner is of another version; deploy it again")
            self.facts: dict[str, Any] = dict(answer["facts"])
            self.state: dict[str, Any] = dict(answer["state"])
        except BaseException:
            self.close()
            raise

    def load(self, name: str, model: EngineModel, *, timed: bool) -> int:
        """Loads a network with zero weights, to be run whole or timed layer by layer; runs it once.

        Returns:
            The memory it took, in bytes.

        Raises:
            UnsupportedOp: the engine refuses the network.
        """
        answer = self._ask(
            do="load",
            name=name,
            model=model.timed_model if timed else model.model,
            shape=list(model.input_shape),
        )
        order = tuple(int(i) for i in answer["order"])
        if timed and sorted(order) != list(range(len(model.stamps))):
            raise UnsupportedOp(f"{self._name}: not every op of network {name} runs exactly once; it cannot be timed")
        self._orders[name] = order
        return int(answer["bytes"])

    def unload(self, names: Sequence[str]) -> None:
        """Frees networks."""
        self._ask(do="unload", names=list(names))

    def measure(self, names: Sequence[str], *, runs: int, warm: int) -> Iterator[tuple[str, Runs]]:
        """Visits networks in the given order; yields each as soon as it is done. Exhaust the iterator.

        Args:
            names: loaded networks.
            runs: kept runs a visit.
            warm: runs before them that are not kept.
        """
        self._send(do="measure", names=list(names), runs=runs, warm=warm)
        for name in names:
            answer = self._receive()
            if answer.get("name") != name:
                raise RunnerCrashed(f"{self._name}: the runner measured {answer.get('name')!r} instead of {name!r}")
            order = self._orders[name]
            yield name, Runs(tuple(answer["whole"]), tuple(_in_text_order(run, order) for run in answer["timed"]))
        self.state = dict(self._receive()["state"])

    def close(self) -> None:
        """Ends the runner; the board's lock goes with it."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        self._send(**request)
        return self._receive()

    def _send(self, **request: Any) -> None:
        with self._translated():
            self._process.send_line(json.dumps(request, separators=(",", ":")))

    def _receive(self) -> dict[str, Any]:
        with self._translated():
            line = self._process.read_line(PATIENCE_S)
        try:
            answer = json.loads(line)
            good = answer["ok"]
        except (ValueError, TypeError, KeyError):
            self.close()
            raise RunnerCrashed(f"{self._name}: the runner answered nonsense: {line[:120]!r}; start again") from None
        if good:
            return dict(answer)
        kind, message = answer.get("kind"), answer.get("message")
        if kind == "busy":
            raise BoardBusy(f"board {self._name} is being measured by {message}; wait for its end, or end it")
        if kind == "engine":
            raise UnsupportedOp(f"{self._name}: {message}")
        raise RunnerCrashed(f"{self._name}: the runner refused a request: {message}")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ProcessEnded as e:
            raise RunnerCrashed(f"{self._name}: the runner died: {e}") from e
        except TransportTimeout as e:
            self.close()
            raise ConnectionLost(
                f"{self._name}: the board did not answer for {PATIENCE_S:g} s; check it, then start again to resume"
            ) from e


def _in_text_order(intervals: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """From the order in which the stamps ran to the order in which they stand; the tail stays last."""
    out = [0] * len(order)
    for place, interval in zip(order, intervals, strict=False):
        out[place] = interval
    return (*out, intervals[-1])
