"""A conversation with the runner on a board; the runner's death is told apart from the link's."""

from __future__ import annotations

import base64
import contextlib
import getpass
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from latency.board import Board
from latency.deploy import Deployment
from latency.engines import Engine, EngineModel
from latency.errors import BoardBusy, BoardUnfit, ConnectionLost, RunnerCrashed, UnsupportedOp
from latency.process import Process, ProcessEnded, TransportTimeout
from latency.transport import Transport

PROTOCOL: Final = 1
PATIENCE_S: Final = 180.0
"""Seconds without a line after which the runner counts as hung: the slowest answer known, 16 runs of MobileNetV2 at 224
on an emulated Cortex-A72, takes 50. A board that is gone is found out much sooner, by the link's keepalive."""
OWNER_VARIABLE: Final = "LIGHTNAS_OWNER"
"""In the environment of every runner: who started it, as `owner` says; by it a runner left behind is known again."""
BOARD_LOCK: Final = "/tmp/lightnas-board.lock"
"""On every board: what the runners of all its accounts lock; the lock in an account's own cache is beside it."""
IDLE_STATUS: Final = 75
"""The exit status of a runner that has not heard from us for too long."""
_TOKEN: Final = secrets.token_hex(8)


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

    @property
    def totals(self) -> tuple[int, ...]:
        """Each run's time from start to end, in ns."""
        return self.whole or tuple(sum(run) for run in self.timed)


@dataclass(frozen=True)
class LoadedFile:
    """A user's own model, loaded on the board.

    Attributes:
        bytes: the memory it took.
        inputs: (name, shape) of each input as it is fed, without the batch: (c, h, w) of pictures.
    """

    bytes: int
    inputs: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Answers:
    """What a model made of some pictures that it was shown one by one.

    Attributes:
        logits: (n, outputs) float32.
        latency_ms: (n,) float64: one run each.
        memory_bytes: the most resident memory the runner has had since it began to load the model, beyond what it had
            then.
    """

    logits: NDArray[np.float32]
    latency_ms: NDArray[np.float64]
    memory_bytes: int


def owner() -> str:
    """This very process, as a board's lock names its holder; distinct even between containers with one host name."""
    return f"{getpass.getuser()}@{socket.gethostname()} pid {os.getpid()} {_TOKEN}"


class RunnerSession:
    """One runner process on a board, from hello to the end. A context manager; `close` may be called twice.

    Attributes:
        facts: what the runner told about the board and its engine.
        state: frequency, temperature, throttling, load, free memory and work done since boot, as last told.
        before: the same from just before the last `measure`; with `state` it tells what disturbed it
            (`latency.disturbance`).
        governor: whether the cores are held at the governor `performance` (`set`), the governors before (`was`), and
            why they are not held, with the mend (`why_not`, or None).
        visits: how many visits of networks have been finished.
        lost: whether it ended because the link, or the board, went away.

    Raises:
        BoardBusy: somebody else measures on the board.
        RunnerCrashed: the runner died or answered nonsense; the link still works and a new session may be opened.
        ConnectionLost: the link is gone, or the board does not answer any more.
    """

    def __init__(self, transport: Transport, deployment: Deployment, board: Board, engine: Engine) -> None:
        self._name = board.name
        self._orders: dict[str, tuple[int, ...]] = {}
        self.visits, self.lost = 0, False
        argv = [deployment.python, "-u", deployment.runner_path]
        self._process: Process = transport.spawn(argv, env={**deployment.env, OWNER_VARIABLE: owner()})
        try:
            answer = self._ask(
                do="hello",
                engine=engine.name,
                threads=board.threads,
                cores=list(board.cores),
                dtype=board.dtype,
                lock=deployment.lock_path,
                owner=owner(),
                board_lock=os.environ.get("LIGHTNAS_BOARD_LOCK", BOARD_LOCK),
            )
            if answer.get("protocol") != PROTOCOL:
                raise RunnerCrashed(f"{board.name}: the runner is of another version; deploy it again")
            self.facts: dict[str, Any] = dict(answer["facts"])
            self.state: dict[str, Any] = dict(answer["state"])
            self.before = self.state
            self.governor: dict[str, Any] = dict(answer["governor"])
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

    def load_file(self, name: str, path: str, shape: Sequence[int] | None = None) -> LoadedFile:
        """Loads a model file that is on the board, to be run whole; runs it once.

        Args:
            name: what `measure` and `unload` shall call it.
            path: the file on the board: a `.param` for ncnn (with the `.bin` beside it, or else with zero weights), a
                `.onnx` for onnxruntime.
            shape: of the first input without the batch, e.g. (c, h, w); None: as the model says.

        Raises:
            UnsupportedOp: the engine cannot read or run the file, or the model does not tell its input's shape.
        """
        answer = self._ask(do="load", name=name, path=path, shape=None if shape is None else list(shape))
        self._orders[name] = ()
        inputs = tuple((str(each), tuple(int(n) for n in sizes)) for each, sizes in answer["inputs"])
        return LoadedFile(int(answer["bytes"]), inputs)

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
            self.visits += 1
            yield name, Runs(tuple(answer["whole"]), tuple(_in_text_order(run, order) for run in answer["timed"]))
        answer = self._receive()
        self.before, self.state = dict(answer["before"]), dict(answer["state"])

    def classify(
        self,
        name: str,
        path: str,
        count: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> Iterator[Answers]:
        """Shows a model the pictures of a file on the board, one run each, after one that does not count.

        Yields the answers to the next of them, as they come. Exhaust the iterator.

        Args:
            name: loaded by `load_file`, with one input of 1 or 3 channels.
            path: the file: (count, h, w, c) in uint8.
            count: how many.
            mean: per channel, of pictures in [0, 1].
            std: likewise.

        Raises:
            UnsupportedOp: the model reads something else than pictures.
        """
        self._send(do="classify", name=name, path=path, count=count, first=0, mean=list(mean), std=list(std))
        done = 0
        while done < count:
            answer = self._receive()
            latency_ms = np.array(answer["ns"]) / 1e6
            done, self.visits = done + len(latency_ms), self.visits + 1
            logits = _from_text(answer["logits"]).reshape(len(latency_ms), -1)
            yield Answers(logits, latency_ms, int(answer["memory_bytes"]))

    def activations(
        self, name: str, path: str, values: Sequence[str], *, mean: Sequence[float], std: Sequence[float]
    ) -> dict[str, NDArray[np.float32]]:
        """Shows a model the first picture of a file and tells what it computes on the way; see `classify`.

        Args:
            name: loaded by `load_file`.
            path: the file on the board.
            values: for ncnn names of blobs, for onnxruntime of outputs.
            mean: per channel, of pictures in [0, 1].
            std: likewise.

        Returns:
            Flat, by name.

        Raises:
            UnsupportedOp: the model has no such value.
        """
        self._send(do="activations", name=name, names=list(values), path=path, first=0, mean=list(mean), std=list(std))
        return {value: _from_text(self._receive()["values"]) for value in values}

    @property
    def emulated(self) -> bool:
        """Whether QEMU plays the board: its times are then of no real one."""
        return any(mark in str(self.facts["model"]) for mark in ("dummy-virt", "QEMU"))

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
            busy = f"board {self._name} is being measured by {message}; wait for its end, or end it"
            raise BoardBusy(busy, str(message))
        if kind == "engine":
            raise UnsupportedOp(f"{self._name}: {message}")
        if kind == "board":
            raise BoardUnfit(f"{self._name}: {message}")
        raise RunnerCrashed(f"{self._name}: the runner refused a request: {message}")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ProcessEnded as e:
            if e.exit_status == IDLE_STATUS:
                self.lost = True
                raise ConnectionLost(f"{self._name}: this side was silent for so long that the runner ended") from e
            raise RunnerCrashed(f"{self._name}: the runner died: {e}") from e
        except ConnectionLost:
            self.lost = True
            raise
        except TransportTimeout as e:
            self.lost = True
            self.close()
            raise ConnectionLost(
                f"{self._name}: the board did not answer for {PATIENCE_S:g} s; check it, then start again to resume"
            ) from e


def _from_text(values: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(values), "<f4").astype(np.float32)


def _in_text_order(intervals: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """From the order in which the stamps ran to the order in which they stand; the tail stays last."""
    out = [0] * len(order)
    for place, interval in zip(order, intervals, strict=False):
        out[place] = interval
    return (*out, intervals[-1])


def opener(transport: Transport, deployment: Deployment, board: Board, engine: Engine) -> Callable[[], RunnerSession]:
    """What starts a runner over this very link, again and again; `latency.link.PatientLink` also mends the link."""
    return lambda: RunnerSession(transport, deployment, board, engine)
