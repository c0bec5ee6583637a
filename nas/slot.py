"""A process that evaluates one trial after the other: `python -m nas.slot`, started by nas.executor.

JSON lines. In: first {"space", "evaluator", "options", "parent", "slot"}, then {"encoding", "seed", "workdir",
"stop_below", "inherit"} a trial. Out: {"ready"}; per trial any number of {"step", "steps", "metrics"} and one of
{"accuracy", "extras"}, the same with {"pruned_at"} if it was stopped at a rung, {"failed": why this architecture cannot
be judged}, {"fatal": why no trial can}.
"""

from __future__ import annotations

import errno
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from nas.errors import EvaluationError, LightnasError
from nas.evaluator import Architecture, Evaluator, Progress
from nas.evaluators import build_evaluator
from nas.lifeline import die_with_parent
from nas.rungs import Climb, Stop
from nas.space import SearchSpace
from nas.spaces.recipe import SpaceSpec

SLOT = "LIGHTNAS_SLOT"
"""In the environment of an evaluation: which of the processes side by side it is, 0 for the first."""
Send = Callable[[dict[str, Any]], None]
_FULL = (errno.ENOSPC, errno.EDQUOT)


def evaluate(evaluator: Evaluator, space: SearchSpace, task: dict[str, Any], send: Send) -> dict[str, Any]:
    """The message that ends a trial: an accuracy, {"failed"} or {"fatal"}; `send` gets those of the steps."""
    climb = Climb(task["stop_below"], evaluator.name)

    def report(progress: Progress) -> None:
        send({"step": progress.step, "steps": progress.steps, "metrics": dict(progress.metrics)})
        climb.hear(progress)

    workdir, parent = Path(task["workdir"]), task.get("inherit")
    architecture = Architecture(space, tuple(task["encoding"]), None if parent is None else Path(parent))
    try:
        found = evaluator.evaluate(architecture, seed=task["seed"], workdir=workdir, report=report)
        climb.finish()
    except Stop:
        reached, step = climb.reached, climb.stopped_at
        return {"accuracy": reached[str(step)], "extras": {"rungs": reached}, "pruned_at": step}
    except EvaluationError as e:
        return {"failed": str(e)}
    except LightnasError as e:  # data, plug-ins: the next trial would meet the same
        return {"fatal": str(e)}
    except OSError as e:
        return {"fatal" if e.errno in _FULL else "failed": f"{workdir}: {e.strerror or e}"}
    except Exception as e:
        return {"failed": f"{type(e).__name__}: {' '.join(str(e).split())}"}
    if not 0.0 <= found.accuracy <= 1.0:
        return {"failed": f"evaluator {evaluator.name} returned the accuracy {found.accuracy}, outside [0, 1]"}
    rungs = {"rungs": climb.reached} if climb.reached else {}
    return {"accuracy": float(found.accuracy), "extras": {**found.extras, **rungs}}


def make_folder(task: dict[str, Any]) -> dict[str, Any] | None:
    """Make the trial's folder; the message that ends the search if that is impossible."""
    try:
        Path(task["workdir"]).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        return {"fatal": f"cannot make the folder {task['workdir']}: {e.strerror or e}"}
    return None


def _listen(source: TextIO, lines: queue.SimpleQueue[str]) -> None:
    """Pass lines on; the end of input means that the parent is gone: leave in the middle of a training."""
    for line in source:
        lines.put(line)
    os._exit(1)


def main() -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the parent's to handle
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not mix with the messages

    def send(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    setup = json.loads(sys.stdin.readline())
    die_with_parent(setup["parent"])
    os.environ[SLOT] = str(setup["slot"])
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, lines), daemon=True).start()
    try:
        space = SpaceSpec.from_dict(setup["space"]).build()
        evaluator = build_evaluator(setup["evaluator"], setup["options"])
    except LightnasError as e:
        send({"fatal": str(e)})
        return
    send({"ready": True})
    while True:
        task = json.loads(lines.get())
        send(make_folder(task) or evaluate(evaluator, space, task, send))


if __name__ == "__main__":
    main()
