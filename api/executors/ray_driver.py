"""The process that talks to Ray for `api.executors.ray`, and what it runs on the nodes.

JSON lines. In: first {"parent", "address", "cpus", "gpus", "evaluation"}, then {"run", "task"} for a trial to begin and
{"cancel": run}. Out, with the run they belong to: {"begun": host, "node": id}, any number of {"step", "steps",
"metrics"}, and one of {"accuracy", "extras", "pruned_at"}, {"failed": why}, {"lost": why its node does not answer}.
{"fatal": why} is the last message of all. The end of input means to leave.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import LocalRayletDiedError, RayError, RayTaskError

from nas.errors import SearchError
from nas.executor import Outcome, ProcessExecutor, Report, Step, Task
from nas.lifeline import die_with_parent
from nas.spaces.recipe import SpaceSpec

_STORE_BYTES = 80_000_000  # of a Ray started here; messages are small, and Ray's least is 75 MB
_REACH_S = 10.0
_TICK_S = 1.0
_WATCH_S = 2.0  # how often the nodes are looked at
Send = Callable[[dict[str, Any]], None]


def evaluate_here(evaluation: dict[str, Any], message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The Ray task: one trial, in a process of its own on this node; yields what it tells."""
    folder, parent = Path(message["workdir"]), message["inherit"]
    task = Task(
        0,
        tuple(message["encoding"]),
        message["seed"],
        folder,
        message["stop_below"],
        None if parent is None else Path(parent),
    )
    folder.mkdir(parents=True, exist_ok=True)
    if not ray.get_gpu_ids():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves all to a task that takes none
    space = SpaceSpec.from_dict(evaluation["space"])
    executor = ProcessExecutor(space, evaluation["evaluator"], evaluation["options"], parallel=1, workdir=folder)
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # an attempt that was given up may still be alive
        yield {"begun": socket.gethostname(), "node": ray.get_runtime_context().get_node_id()}
        try:
            executor.submit(task)
            ended, raylet = False, os.getppid()
            while not ended:
                for report in executor.wait(_TICK_S):
                    yield _message(report)
                    ended = isinstance(report, Outcome)
                if os.getppid() != raylet:
                    os._exit(1)  # the node is given up, and the trial begins elsewhere; Ray would let it go on here
        except SearchError as e:
            yield {"fatal": str(e)}
        finally:
            executor.close()


def _message(report: Report) -> dict[str, Any]:
    if isinstance(report, Step):
        progress = report.progress
        return {"step": progress.step, "steps": progress.steps, "metrics": dict(progress.metrics)}
    result = report.result
    if isinstance(result, str):
        return {"failed": result}
    return {"accuracy": result.accuracy, "extras": dict(result.extras), "pruned_at": report.pruned_at}


class Driver:
    """The trials in Ray's hands; each has a thread that passes on what it tells.

    Args:
        setup: the first line of the input.
        send: tells the parent.
    """

    def __init__(self, setup: dict[str, Any], send: Send) -> None:
        self._send, self._evaluation = send, setup["evaluation"]
        self._runs: dict[int, ray.ObjectRefGenerator[Any]] = {}
        self._nodes: dict[int, str] = {}  # where a run is
        # A trial's attempts are counted elsewhere: Ray's own would hide that its node was lost.
        self._task = ray.remote(evaluate_here).options(
            num_returns="streaming",
            max_retries=0,
            num_cpus=setup["cpus"],
            num_gpus=setup["gpus"],
            name="lightnas trial",
        )
        threading.Thread(target=self._watch, daemon=True).start()

    def begin(self, run: int, task: dict[str, Any]) -> None:
        """Submit a trial."""
        self._runs[run] = self._task.remote(self._evaluation, task)
        threading.Thread(target=self._follow, args=(run, self._runs[run]), daemon=True).start()

    def cancel(self, run: int) -> None:
        """Kill the process that runs a trial."""
        if (told := self._runs.get(run)) is not None:
            ray.cancel(told, force=True)

    def _follow(self, run: int, told: Any) -> None:
        try:
            for reference in told:
                message = ray.get(reference)
                if "begun" in message:
                    self._nodes[run] = message["node"]
                self._send({"run": run, **message})
        except LocalRayletDiedError:
            os._exit(1)  # this connection takes no task any more: the parent makes another
        except RayTaskError as e:  # the evaluation itself raises nothing: its node is not as it should be
            self._send({"fatal": f"a node of the Ray cluster cannot run trials: {_one_line(e.cause)}"})
        except RayError as e:
            self._send({"run": run, "lost": _one_line(e).split(". ")[0]})  # advice follows
        finally:
            self._runs.pop(run, None)
            self._nodes.pop(run, None)

    def _watch(self) -> None:
        """Give up what runs on nodes that are gone: a machine without power closes no connection, and Ray waits on."""
        failed = False
        while True:
            time.sleep(_WATCH_S)
            try:
                self._look()
            except Exception as e:  # Ray raises what it likes, e.g. while the head does not answer: the next look tells
                if not failed:
                    print(f"cannot look at the nodes, trying again: {_one_line(e)}", file=sys.stderr, flush=True)
                failed = True
            else:
                failed = False

    def _look(self) -> None:
        alive = {n["NodeID"] for n in ray.nodes() if n["Alive"]}  # type: ignore[no-untyped-call]
        for run, node in list(self._nodes.items()):
            # Not there any more: the run has ended just now, and `_follow` told how.
            if node not in alive and self._nodes.pop(run, None) is not None:
                self._send({"run": run, "lost": f"node {node} is dead"})
                self.cancel(run)


def connect(address: str | None, folder: str | None, cpus: float, gpus: float) -> None:
    """Join the cluster; without an address start one that keeps its files in the folder.

    Raises:
        SearchError: it cannot be reached, or no node can ever hold a trial.
    """
    at = "start Ray on this machine" if address is None else f"join the Ray cluster {address} from this machine"
    where: dict[str, Any] = {"address": address}
    if address is None:
        where = {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
            "_temp_dir": folder,
        }
    try:
        if address is not None and (host_and_port := address.rpartition(":"))[1]:
            # Ray itself tries for minutes.
            socket.create_connection((host_and_port[0].strip("[]"), int(host_and_port[2])), _REACH_S).close()
        ray.init(**where, log_to_driver=False, configure_logging=False)
    except Exception as e:  # Ray raises what it likes
        raise SearchError(f"cannot {at}: {_one_line(e)}") from e
    nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]  # type: ignore[no-untyped-call]
    if not any(n.get("CPU", 0) >= cpus and n.get("GPU", 0) >= gpus for n in nodes):
        has = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise SearchError(
            f"no node of the Ray cluster has {cpus:g} CPUs and {gpus:g} GPUs for a trial (they have {has}); "
            "start one that has, or ask for less"
        )


def _one_line(error: object) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def main() -> None:
    """Serve until the input ends."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Ray prints there, also when told to be quiet
    writing = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        with writing:
            out.write(json.dumps(message) + "\n")
            out.flush()

    setup = json.loads(sys.stdin.readline())
    die_with_parent(setup["parent"])
    alone = setup["address"] is None
    temporary = tempfile.TemporaryDirectory(prefix="lightnas-ray-", ignore_cleanup_errors=True) if alone else None
    with temporary or contextlib.nullcontext() as folder:
        try:
            connect(setup["address"], folder, setup["cpus"], setup["gpus"])
            _serve(Driver(setup, send))
        except SearchError as e:
            send({"fatal": str(e)})
        ray.shutdown()


def _serve(driver: Driver) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "cancel" in message:
            driver.cancel(message["cancel"])
        else:
            driver.begin(message["run"], message["task"])
