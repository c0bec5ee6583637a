"""Where evaluations run: in this process, or in processes of their own that die with it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nas.errors import SearchError
from nas.evaluator import Evaluation, Evaluator, Progress
from nas.evaluators import build_evaluator
from nas.slot import evaluate
from nas.space import SearchSpace
from nas.spaces.recipe import SpaceSpec

ATTEMPTS = 2  # a trial whose process dies gets one more, with the same seed and checkpoint
# One thread per training whatever `parallel` is: thread counts change accuracies, and k trainings share the cores.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_Message = TypeVar("_Message")
_LOG_TAIL = 2_000  # bytes of a dead process's output that are searched for its last words


@dataclass(frozen=True)
class Task:
    """One trial to evaluate.

    Attributes:
        number: of the trial.
        encoding: choice indices.
        seed: of the evaluation.
        workdir: its own folder.
        stop_below: where it must stop (`Trial.stop_below`).
        parent: the folder of the trial whose weights it may start from.
    """

    number: int
    encoding: tuple[int, ...]
    seed: int
    workdir: Path
    stop_below: Mapping[str, float | None] = field(default_factory=dict)
    parent: Path | None = None

    def message(self) -> dict[str, Any]:
        """What a slot is told of it; JSON types."""
        return {
            "encoding": list(self.encoding),
            "seed": self.seed,
            "workdir": str(self.workdir),
            "stop_below": dict(self.stop_below),
            "inherit": None if self.parent is None else str(self.parent),
        }


@dataclass(frozen=True)
class Step:
    """A trial's report in between."""

    number: int
    progress: Progress


@dataclass(frozen=True)
class Outcome:
    """How a trial's evaluation ended: with a result, or with the reason why it failed.

    `pruned_at` is the step at which it was stopped at a rung; the result is then that of this step.
    """

    number: int
    result: Evaluation | str
    seconds: float
    pruned_at: int | None = None


Report = Step | Outcome


class Executor(ABC):
    """Evaluates tasks. One caller's thread submits, waits, stops and closes.

    Attributes:
        capacity: tasks that run at once; more may be submitted and wait.
    """

    capacity: int = 1

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Evaluate `task` as soon as there is room."""

    @abstractmethod
    def wait(self, timeout_s: float) -> list[Report]:
        """What happened since the last call; waits for something to happen, at most so long.

        Raises:
            SearchError: no evaluation can succeed (the evaluator cannot be built, the disk is full).
        """

    @abstractmethod
    def cancel(self, number: int) -> None:
        """Drop a task wherever it stands; nothing more is told about it."""

    @abstractmethod
    def stop(self, grace_s: float) -> list[Report]:
        """End all tasks, each right after its next step, when a checkpoint is young; after `grace_s` at the latest."""

    def close(self) -> None:  # noqa: B027 - most in-process executors hold nothing
        """Free what is held. Tasks still running are killed."""


def collect_reports(
    heard: queue.SimpleQueue[_Message], handle: Callable[[_Message], list[Report]], timeout_s: float
) -> list[Report]:
    """What `Executor.wait` returns, where other threads put what they hear into a queue.

    Args:
        heard: not yet handled.
        handle: what a message means; nothing, for one that is only the executor's.
        timeout_s: for something to happen.
    """
    reports: list[Report] = []
    deadline = time.monotonic() + timeout_s
    while not reports and (left := deadline - time.monotonic()) > 0:
        try:
            message = heard.get(timeout=left)
        except queue.Empty:
            break
        reports = handle(message)
    while not heard.empty():
        reports += handle(heard.get())
    return reports


class InlineExecutor(Executor):
    """Evaluates in this process, one task per `wait`: for look-ups."""

    def __init__(self, space: SearchSpace, evaluator: Evaluator) -> None:
        self.space, self.evaluator = space, evaluator
        self._tasks: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        """Queue the task."""
        self._tasks.append(task)

    def wait(self, timeout_s: float) -> list[Report]:
        """Evaluate the oldest task, however long it takes."""
        if not self._tasks:
            return []
        task, messages, started = self._tasks.popleft(), list[dict[str, Any]](), time.monotonic()
        messages.append(evaluate(self.evaluator, self.space, task.message(), messages.append))
        return [_report(task.number, m, time.monotonic() - started) for m in messages]

    def cancel(self, number: int) -> None:
        """Forget the task."""
        self._tasks = deque(t for t in self._tasks if t.number != number)

    def stop(self, grace_s: float) -> list[Report]:
        """Forget all tasks."""
        self._tasks.clear()
        return []


@dataclass
class _Slot:
    """One child process and what it is doing."""

    index: int
    process: subprocess.Popen[bytes] | None = None
    task: Task | None = None
    started: float = 0.0
    attempts: int = 0


@dataclass(frozen=True)
class _Heard:
    """A message of a slot's process, or None when that process has ended."""

    slot: _Slot
    process: subprocess.Popen[bytes]
    message: dict[str, Any] | None = field(default=None)


class ProcessExecutor(Executor):
    """Evaluates in child processes, each serving one trial after the other.

    Children are started from the thread that calls `submit` and `wait`, which must outlive them: on Linux the kernel
    kills them when it ends.

    Args:
        space: what the children build.
        evaluator: its name.
        options: of the evaluator.
        parallel: processes.
        workdir: where each process's output goes (`slot-0.log`, …).
    """

    def __init__(
        self, space: SpaceSpec, evaluator: str, options: Mapping[str, Any], *, parallel: int, workdir: Path
    ) -> None:
        self.capacity, self.workdir = parallel, workdir
        self._setup = {
            "space": space.to_dict(),
            "evaluator": evaluator,
            "options": dict(options),
            "parent": os.getpid(),
        }
        self._slots = [_Slot(i) for i in range(parallel)]
        self._waiting: deque[Task] = deque()
        self._heard: queue.SimpleQueue[_Heard] = queue.SimpleQueue()

    def submit(self, task: Task) -> None:
        """Give the task to a free process, started now if need be, or queue it."""
        self._waiting.append(task)
        self._assign()

    def wait(self, timeout_s: float) -> list[Report]:
        """What the processes told."""
        return collect_reports(self._heard, self._handle, timeout_s)

    def cancel(self, number: int) -> None:
        """Kill the task's process; another is started when needed."""
        self._waiting = deque(t for t in self._waiting if t.number != number)
        for slot in self._slots:
            if slot.task is not None and slot.task.number == number:
                self._kill(slot)
        self._assign()

    def stop(self, grace_s: float) -> list[Report]:
        """Let each process reach its next step, then kill it."""
        self._waiting.clear()
        reports: list[Report] = []
        deadline = time.monotonic() + grace_s
        try:
            while any(s.task for s in self._slots) and (left := deadline - time.monotonic()) > 0:
                for report in self.wait(left):
                    reports.append(report)
                    if isinstance(report, Step):
                        self.cancel(report.number)
        finally:
            self.close()
        return reports

    def close(self) -> None:
        """Kill all processes."""
        self._waiting.clear()
        for slot in self._slots:
            self._kill(slot)

    # Parts -----------------------------------------------------------------------------------------------------

    def _assign(self) -> None:
        for slot in self._slots:
            if slot.task is None and self._waiting:
                slot.task, slot.attempts, slot.started = self._waiting.popleft(), 0, time.monotonic()
                self._begin(slot)

    def _begin(self, slot: _Slot) -> None:
        """Send the slot's task to its process."""
        task = slot.task
        if task is None:
            return
        slot.attempts += 1
        if slot.process is None:
            slot.process = self._spawn(slot)
        self._send(slot.process, task.message())

    def _spawn(self, slot: _Slot) -> subprocess.Popen[bytes]:
        self.workdir.mkdir(parents=True, exist_ok=True)
        environment = os.environ | dict.fromkeys(_ONE_THREAD, "1")
        with self._log(slot).open("wb") as log:
            process = subprocess.Popen(
                # -P: a folder named `nas` where the user stands must not shadow the package.
                [sys.executable, "-P", "-m", "nas.slot"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        threading.Thread(target=self._listen, args=(slot, process), daemon=True).start()
        self._send(process, {**self._setup, "slot": slot.index})
        return process

    def _send(self, process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return  # it has died: the listener tells

    def _listen(self, slot: _Slot, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if line.endswith(b"\n"):  # else it was killed while writing
                    self._heard.put(_Heard(slot, process, json.loads(line)))
        process.wait()
        self._heard.put(_Heard(slot, process))

    def _handle(self, heard: _Heard) -> list[Report]:
        slot, message = heard.slot, heard.message
        if slot.process is not heard.process:  # of a process given up meanwhile
            return []
        if message is None:
            return self._died(slot, heard.process)
        if "fatal" in message:
            raise SearchError(f"no trial can be evaluated: {message['fatal']}")
        if slot.task is None or "ready" in message:
            return []
        report = _report(slot.task.number, message, time.monotonic() - slot.started)
        if isinstance(report, Outcome):
            slot.task = None
            self._assign()
        return [report]

    def _died(self, slot: _Slot, process: subprocess.Popen[bytes]) -> list[Report]:
        task = slot.task
        self._kill(slot)
        if task is None:
            return []
        if slot.attempts < ATTEMPTS:
            slot.task = task
            self._begin(slot)
            return []
        self._assign()
        error = f"the process of the evaluation died {ATTEMPTS} times, last with {self._last_words(slot, process)}"
        return [Outcome(task.number, error, time.monotonic() - slot.started)]

    def _last_words(self, slot: _Slot, process: subprocess.Popen[bytes]) -> str:
        code = process.returncode
        if code == -signal.SIGKILL:
            return "SIGKILL (out of memory?)"
        cause = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        lines = self._log(slot).read_bytes()[-_LOG_TAIL:].decode(errors="replace").strip().splitlines()
        return f"{cause}: {lines[-1]}" if lines else cause

    def _log(self, slot: _Slot) -> Path:
        return self.workdir / f"slot-{slot.index}.log"

    def _kill(self, slot: _Slot) -> None:
        process, slot.process, slot.task = slot.process, None, None
        if process is None:
            return
        process.kill()
        process.wait()
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()


def _report(number: int, message: dict[str, Any], seconds: float) -> Report:
    if "fatal" in message:
        raise SearchError(f"no trial can be evaluated: {message['fatal']}")
    if "step" in message:
        return Step(number, Progress(message["step"], message["steps"], message["metrics"]))
    if "failed" in message:
        return Outcome(number, str(message["failed"]), seconds)
    return Outcome(number, Evaluation(message["accuracy"], message["extras"]), seconds, message.get("pruned_at"))


def build_executor(
    space: SpaceSpec,
    built: SearchSpace,
    evaluator: str,
    options: Mapping[str, Any] | None = None,
    *,
    parallel: int = 1,
    workdir: Path,
) -> Executor:
    """Processes for an evaluator that wants them (`isolated`), else this process.

    Args:
        space: what children build; its `build()` equals `built`.
        built: the space itself.
        evaluator: its name.
        options: its options; wrong ones are told now.
        parallel: trials at once.
        workdir: for the processes' output.

    Raises:
        UnknownPlugin: no such evaluator.
        EvaluationError: an option is wrong.
    """
    found = build_evaluator(evaluator, options)
    if not found.isolated:
        return InlineExecutor(built, found)
    return ProcessExecutor(space, evaluator, options or {}, parallel=parallel, workdir=workdir)
