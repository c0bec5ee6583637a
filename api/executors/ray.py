"""Trials on a Ray cluster. Ray itself lives in a process of its own (`api.executors.ray_driver`), as a guest.

Ray ends its driver's process when the cluster's head is gone for a minute, takes over SIGTERM and writes to stdout;
none of that may happen to a service or to a command. Whatever happens to that process, its trials are sent again
through a new one.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from api.errors import OptionError
from nas.errors import SearchError
from nas.evaluator import Evaluation, Progress
from nas.executor import Executor, Outcome, Report, Step, Task, collect_reports
from nas.spaces.recipe import SpaceSpec

# How often a trial's node, or the connection to the cluster, may be lost. That is not the trial's fault and counts as
# no attempt; but one that brings down every node it is given must end at some time.
LOSSES = 10
LOG = "ray.log"  # what Ray writes, in the search's folder
_GOODBYE_S = 20.0  # for Ray to cancel what runs and to stop what it started here
_DRIVER = "from api.executors.ray_driver import main; main()"
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_LOG_TO_DRIVER": "0"}

_log = logging.getLogger(__name__)


@dataclass
class _Trial:
    """A task in Ray's hands; `run` tells its present attempt from those given up."""

    task: Task
    run: int
    running: bool = False
    began: float | None = None  # first of all
    losses: int = 0


@dataclass(frozen=True)
class _Heard:
    """A message of a driver, or None when that process has ended."""

    driver: subprocess.Popen[bytes]
    message: dict[str, Any] | None


class RayExecutor(Executor):
    """Evaluates on the nodes of a Ray cluster, one Ray task per trial.

    A trial on a node is a process as `ProcessExecutor` starts it: the same threads, the same result for the same
    (seed, encoding), the same second attempt when the process dies. A trial whose node is lost begins again on another,
    from its checkpoint. Every node has the same lightnas, torch and plug-ins, and reaches the folders of the trials and
    the data under the same paths, on a file system with locks (NFS 4 has them): a node that is given up while its
    processes still live must not write what its successor writes.

    The calling thread must outlive the executor: on Linux the kernel ends the driver with it.

    Args:
        space: what the nodes build.
        evaluator: its name, in the registry of every node.
        options: of the evaluator.
        parallel: trials at once.
        workdir: where Ray's output goes (`ray.log`).
        address: of a running cluster, one node of which is this machine: `host:port`, or `auto` for the one found
            here; None starts one that is this machine alone, and stops it at `close`.
        cpus: cores a trial takes of its node.
        gpus: GPUs a trial takes of its node; the trial sees no other. A fraction: trials share one.

    Raises:
        OptionError: Ray is not installed, or a trial takes nothing or a negative amount.
    """

    def __init__(
        self,
        space: SpaceSpec,
        evaluator: str,
        options: Mapping[str, Any],
        *,
        parallel: int,
        workdir: Path,
        address: str | None,
        cpus: float = 1.0,
        gpus: float = 0.0,
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise OptionError("Ray is not installed; pip install 'lightnas[ray]', or run the trials in local processes")
        if min(cpus, gpus) < 0 or cpus == gpus == 0:
            raise OptionError(f"a trial cannot take {cpus:g} CPUs and {gpus:g} GPUs of a Ray node; give it some of one")
        self.capacity, self.workdir = parallel, workdir
        self._setup = {
            "parent": os.getpid(),
            "address": address,
            "cpus": cpus,
            "gpus": gpus,
            "evaluation": {"space": space.to_dict(), "evaluator": evaluator, "options": dict(options)},
        }
        self._trials: dict[int, _Trial] = {}
        self._runs = count()
        self._driver: subprocess.Popen[bytes] | None = None
        self._heard: queue.SimpleQueue[_Heard] = queue.SimpleQueue()

    def submit(self, task: Task) -> None:
        """Give the task to Ray, which queues it until a node has room."""
        self._begin(_Trial(task, next(self._runs)))

    def wait(self, timeout_s: float) -> list[Report]:
        """What the nodes told."""
        return collect_reports(self._heard, self._handle, timeout_s)

    def cancel(self, number: int) -> None:
        """Kill the task's process on its node."""
        trial = self._trials.pop(number, None)
        if trial is not None and self._driver is not None:
            self._send(self._driver, {"cancel": trial.run})

    def stop(self, grace_s: float) -> list[Report]:
        """Drop what no node runs, let the others reach their next step, then kill them."""
        reports: list[Report] = []
        deadline = time.monotonic() + grace_s
        try:
            while True:
                for trial in [t for t in self._trials.values() if not t.running]:
                    self.cancel(trial.task.number)
                if not self._trials or (left := deadline - time.monotonic()) <= 0:
                    return reports
                for report in self.wait(left):
                    reports.append(report)
                    if isinstance(report, Step):
                        self.cancel(report.number)
        finally:
            self.close()

    def close(self) -> None:
        """Kill what runs and leave the cluster; one that was started here is stopped."""
        self._trials.clear()
        driver, self._driver = self._driver, None
        if driver is None:
            return
        assert driver.stdin is not None
        with suppress(BrokenPipeError):
            driver.stdin.close()
        try:
            driver.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()

    # Parts -----------------------------------------------------------------------------------------------------

    def _begin(self, trial: _Trial) -> None:
        self._trials[trial.task.number] = trial
        if self._driver is None:
            self._driver = self._connect()
        self._send(self._driver, {"run": trial.run, "task": trial.task.message()})

    def _connect(self) -> subprocess.Popen[bytes]:
        self.workdir.mkdir(parents=True, exist_ok=True)
        with (self.workdir / LOG).open("ab") as log:
            driver = subprocess.Popen(
                [sys.executable, "-P", "-c", _DRIVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | _QUIET | (_alone() if self._setup["address"] is None else {}),
                start_new_session=True,  # Ctrl-C in the terminal is this process's to handle
            )
        threading.Thread(target=self._listen, args=(driver,), daemon=True).start()
        self._send(driver, self._setup)
        return driver

    def _send(self, driver: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
        assert driver.stdin is not None
        with suppress(BrokenPipeError):  # it has died: the listener tells
            driver.stdin.write(json.dumps(message).encode() + b"\n")
            driver.stdin.flush()

    def _listen(self, driver: subprocess.Popen[bytes]) -> None:
        assert driver.stdout is not None
        with driver.stdout as lines:
            for line in lines:
                if line.endswith(b"\n"):  # else it died while writing
                    self._heard.put(_Heard(driver, json.loads(line)))
        driver.wait()
        self._heard.put(_Heard(driver, None))

    def _handle(self, heard: _Heard) -> list[Report]:
        if heard.driver is not self._driver:
            return []
        message = heard.message
        if message is None:
            self._driver = None
            lost = f"the connection to the Ray cluster ended with status {heard.driver.returncode} ({LOG})"
            return [report for trial in list(self._trials.values()) for report in self._lost(trial, lost)]
        if "fatal" in message:
            raise SearchError(str(message["fatal"]))
        trial = next((t for t in self._trials.values() if t.run == message["run"]), None)
        return [] if trial is None else self._told(trial, message)  # None: of an attempt given up

    def _told(self, trial: _Trial, message: dict[str, Any]) -> list[Report]:
        number = trial.task.number
        if "begun" in message:
            _log.info("trial %d runs on %s (Ray node %s)", number, message["begun"], message["node"])
            trial.running, trial.began = True, trial.began or time.monotonic()
            return []
        if "lost" in message:
            return self._lost(trial, message["lost"])
        if "step" in message:
            return [Step(number, Progress(message["step"], message["steps"], message["metrics"]))]
        if "failed" in message:
            return [self._end(trial, message["failed"])]
        return [self._end(trial, Evaluation(message["accuracy"], message["extras"]), message["pruned_at"])]

    def _lost(self, trial: _Trial, why: str) -> list[Report]:
        """Begin again, with the same seed and checkpoint."""
        trial.losses += 1
        trial.running, trial.run = False, next(self._runs)
        if trial.losses > LOSSES:
            return [self._end(trial, f"its node was lost {trial.losses} times, last because: {why}")]
        _log.warning("trial %d begins again: %s", trial.task.number, why)
        self._begin(trial)
        return []

    def _end(self, trial: _Trial, result: Evaluation | str, pruned_at: int | None = None) -> Outcome:
        del self._trials[trial.task.number]
        seconds = 0.0 if trial.began is None else time.monotonic() - trial.began
        return Outcome(trial.task.number, result, seconds, pruned_at)


def _alone() -> dict[str, str]:
    """Environment of a Ray that is this machine alone. Whoever may connect to Ray may run anything.

    So it listens on loopback, which the first variable makes it do on any system (it takes 127.0.0.1 for the machine's
    public address otherwise), and wants a secret.
    """
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
