"""A user's own model run on a board, a few times or for minutes without a pause.

A file of the engine's own format is sent as it is, under a name made of its content, and removed afterwards. Any other
is read into a Graph and written for the engine, with zero weights: they take the same time.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from latency.board import Board
from latency.deploy import Deployment
from latency.disturbance import spoiled
from latency.engines import get_engine
from latency.errors import LatencyError, UnsupportedOp
from latency.importers import ONNX, PARAM, Imported, read_model
from latency.priced import inference_form
from latency.profiler import require_dtype, session_identity
from latency.session import RunnerSession
from latency.sustained import Interval, Sustained, Watch, summarise
from latency.table import Identity
from latency.transport import Transport
from nas.graph import Graph, Shape

OWN_FORMAT: Final = {"ncnn": PARAM, "onnxruntime": ONNX}
"""What each engine loads as it is."""
_WANTED_S: Final = 10.0
_PASSES: Final = (5, 100)
_CHUNK_S: Final = 5.0
_LINES: Final = 60
_RM_TIMEOUT_S: Final = 20.0
_NAME: Final = "model"


@dataclass(frozen=True)
class Measured:
    """A model's latency.

    Attributes:
        runs_ms: every run that counts, in order.
        median_ms, p95_ms, min_ms: of them.
        passes: visits they were made in, each after one run that does not count.
        disturbed: per pass that something else disturbed, what it was.
        state: of the board afterwards, as the runner tells it.
    """

    runs_ms: tuple[float, ...]
    median_ms: float
    p95_ms: float
    min_ms: float
    passes: int
    disturbed: tuple[str, ...]
    state: Mapping[str, Any]


@dataclass(frozen=True)
class _Read:
    """A file as a Graph, or why it is none."""

    imported: Imported | None
    obstacle: str = ""


class LoadedModel:
    """A model on a board, ready to run; made by `load_model`.

    Attributes:
        identity: what its times hold for.
        facts: of the board, as the runner tells them.
        memory_bytes: what loading and running it once took.
        converted: it was read and written anew, with zero weights.
        imported: the model as a Graph; None if the file cannot be read as one.
        obstacle: why it cannot; empty if it can.
    """

    def __init__(
        self, session: RunnerSession, board: Board, read: _Read, memory_bytes: int, *, converted: bool
    ) -> None:
        self._session, self._threads = session, board.threads
        self.identity: Identity = session_identity(session, board)
        self.facts: Mapping[str, Any] = session.facts
        self.memory_bytes, self.converted = memory_bytes, converted
        self.imported, self.obstacle = read.imported, read.obstacle
        self._run_s = 0.0

    @property
    def emulated(self) -> bool:
        """Whether QEMU plays the board: its time is then of no real one."""
        return any(mark in self.identity.model for mark in ("dummy-virt", "QEMU"))

    def _visit(self, runs: int, warm: int) -> list[float]:
        """Seconds of each run."""
        [(_, visit)] = self._session.measure([_NAME], runs=runs, warm=warm)
        seconds = [ns / 1e9 for ns in visit.whole]
        self._run_s = float(np.median(seconds))
        return seconds

    def measure(
        self,
        *,
        passes: int | None = None,
        runs: int = 1,
        on_progress: Callable[[int, int], None] = lambda done, passes: None,
    ) -> Measured:
        """Times it.

        Args:
            passes: visits; None for as many as about 10 s hold, 5 at least and 100 at most.
            runs: that count of each visit. With more than 1 they find warmer caches than in a profile, and predictions
                are made for what a profile finds.
            on_progress: told the visits done, and of how many, after each.

        Raises:
            RunnerCrashed: the engine died.
            ConnectionLost: the link broke.
        """
        self._visit(runs=1, warm=1)  # memory is laid out, caches are warm, and we know how long it takes
        fit = round(_WANTED_S / ((1 + runs) * self._run_s))
        passes = passes or min(max(fit, _PASSES[0]), _PASSES[1])
        seconds: list[float] = []
        disturbed = []
        for done in range(1, passes + 1):
            seconds += self._visit(runs, warm=1)
            if reason := self._disturbance():
                disturbed.append(reason)
            on_progress(done, passes)
        ms = np.array(seconds) * 1e3
        return Measured(
            runs_ms=tuple(ms.tolist()),
            median_ms=float(np.median(ms)),
            p95_ms=float(np.percentile(ms, 95)),
            min_ms=float(ms.min()),
            passes=passes,
            disturbed=tuple(disturbed),
            state=self._session.state,
        )

    def _disturbance(self) -> str | None:
        return spoiled(self._session.before, self._session.state, threads=self._threads)

    def sustain(
        self,
        duration_s: float,
        *,
        on_interval: Callable[[Interval], None] = lambda interval: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Sustained:
        """Runs it without a pause. Ctrl-C ends it with what there is.

        Args:
            duration_s: how long, at least 1.
            on_interval: told each stretch as it ends: a sixtieth of the time, at least a second.
            clock: seconds that go on.

        Raises:
            KeyboardInterrupt: before there was anything to tell.
            RunnerCrashed: the engine died.
            ConnectionLost: the link broke; the stretches so far have been told.
        """
        ends, lengths = array("d"), array("d")
        intervals: list[Interval] = []
        interval_s = max(1.0, duration_s / _LINES)
        watch = Watch()
        stopped = False
        try:
            self._visit(runs=1, warm=1)
            begin = clock()
            while (now := clock() - begin) < duration_s:
                left_s = min(_CHUNK_S, (len(intervals) + 1) * interval_s - now, duration_s - now)
                seconds = self._visit(max(1, round(left_s / self._run_s)), warm=0)
                after = clock() - begin
                # Where in the stretch a run ended is told by those behind it.
                ends.extend((after - np.cumsum([0.0, *seconds[:0:-1]])[::-1]).tolist())
                lengths.extend(seconds)
                reason = self._disturbance()
                watch.note(self._session.before, self._session.state, reason)
                if after >= min((len(intervals) + 1) * interval_s, duration_s):
                    intervals.append(watch.interval(ends, lengths))
                    on_interval(intervals[-1])
        except KeyboardInterrupt:
            if not lengths:
                raise
            stopped = True
        if watch.runs < len(lengths):
            intervals.append(watch.interval(ends, lengths))
            on_interval(intervals[-1])
        return summarise(ends, lengths, intervals, stopped=stopped)


@contextlib.contextmanager
def load_model(
    board: Board, transport: Transport, deployment: Deployment, path: Path, shape: Shape | None = None
) -> Iterator[LoadedModel]:
    """Puts a model on a board, loads it there, and removes it at the end.

    Args:
        board: what to run on, and how.
        transport: an open link to it.
        deployment: the runner on it.
        path: an ONNX file or an ncnn text, with its `.bin` beside it if there is one.
        shape: (c, h, w) of the picture, where the file does not tell it.

    Raises:
        LatencyError: the file cannot be read or, where it has to be converted, not be expressed; names the node.
        UnsupportedOp: the engine refuses the model.
        BoardBusy: somebody else measures on the board.
    """
    engine = get_engine(board.engine)
    require_dtype(board, engine)
    as_it_is = path.suffix == OWN_FORMAT.get(board.engine)
    if not as_it_is:
        imported = read_model(path, shape)
        model = engine.build(inference_form(_whole(path, imported)))
        with RunnerSession(transport, deployment, board, engine) as session:
            memory_bytes = session.load(_NAME, model, timed=False)
            yield LoadedModel(session, board, _Read(imported), memory_bytes, converted=True)
        return
    files = _files(path)
    try:
        read = _Read(read_model(path, shape))
    except LatencyError as e:  # the engine may run what we cannot read
        read = _Read(None, str(e))
    digest = _digest(files)
    with RunnerSession(transport, deployment, board, engine) as session:
        sent = [(file, f"{deployment.folder}/model-{digest}{file.suffix}") for file in files]
        try:
            for file, there in sent:
                transport.put(file, there)
            memory_bytes = session.load_file(_NAME, sent[0][1], shape).bytes
            yield LoadedModel(session, board, read, memory_bytes, converted=False)
        finally:
            with contextlib.suppress(LatencyError):  # a board that is gone is cleaned by `nas boards clean`
                transport.run(["rm", "-f", *(there for _, there in sent)], timeout_s=_RM_TIMEOUT_S)


def _whole(path: Path, imported: Imported) -> Graph:
    """The network, if it can be written for another engine."""
    if imported.unsupported:
        first, more = imported.unsupported[0], len(imported.unsupported) - 1
        others = f" and {more} more node(s)" if more else ""
        raise UnsupportedOp(
            f"{path} has to be converted for this board's engine, but {first}{others} cannot be; use a board whose "
            f"engine reads {path.suffix} files"
        )
    if imported.outputs != 1:
        raise UnsupportedOp(
            f"{path} has to be converted for this board's engine, but it has {imported.outputs} outputs and only "
            "networks with one can be"
        )
    return imported.graph


def _files(path: Path) -> list[Path]:
    """What has to be sent."""
    if not path.is_file():
        raise LatencyError(f"{path}: there is no such file; give an ONNX file or an ncnn text")
    if path.suffix == ONNX:
        from latency.importers.onnx import external_files, load_onnx

        others = external_files(load_onnx(path))
        if others:
            raise LatencyError(f"{path} keeps its weights in {', '.join(others[:3])}; save the model as one file")
        return [path]
    weights = path.with_suffix(".bin")
    return [path, weights] if weights.is_file() else [path]


def _digest(files: list[Path]) -> str:
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            whole.update(hashlib.file_digest(opened, "sha256").digest())
    return whole.hexdigest()[:16]
