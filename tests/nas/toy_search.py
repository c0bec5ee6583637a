"""A search to be killed: `python toy_search.py FOLDER STRATEGY PARALLEL TRIALS RUNGS [SECONDS]`; prints "done" at last.

Its evaluator `toy` is registered by a made-up third-party package (see `toy_package` in test_search.py), runs in
processes of its own, and resumes from a checkpoint of three steps. RUNGS are joined by commas, - for none; SECONDS are
those of a step, more or less.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nas.cost import flops_model
from nas.errors import EvaluationError
from nas.evaluator import Architecture, Evaluation, Evaluator, Progress, Report
from nas.executor import build_executor
from nas.objective import Budget
from nas.rungs import Rungs
from nas.search import Search
from nas.spaces.recipe import SpaceSpec
from nas.strategies import build_strategy
from nas.trial import Trial, TrialState

STEPS = 3


class FileTrialLog:
    """One line a change, synced before it returns; a torn last line is what never happened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Iterator[Trial]:
        trials: dict[int, Trial] = {}
        if self.path.exists():
            whole, _, torn = self.path.read_bytes().rpartition(b"\n")
            if torn:
                os.truncate(self.path, len(whole) + 1 if whole else 0)
            for line in whole.splitlines():
                data = json.loads(line)
                trial = Trial(**{**data, "encoding": tuple(data["encoding"]), "state": TrialState(data["state"])})
                trials[trial.number] = trial
        return iter([trials[n] for n in sorted(trials)])

    def started(self, trial: Trial) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps(asdict(trial)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    finished = started


class ToyEvaluator(Evaluator):
    """Accuracy from the encoding and the seed, after a few steps; how it misbehaves is an option."""

    name = "toy"
    isolated = True
    steps = STEPS

    def __init__(self, *, seconds: float = 0.03, crash: str = "", pids: str = "") -> None:
        if crash == "build":
            raise EvaluationError("toy cannot be built: no data")
        self.seconds, self.crash, self.pids = seconds, crash, pids

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        if self.pids:
            Path(self.pids, str(os.getpid())).touch()
        if self.crash == "fail":
            raise EvaluationError("toy always fails")
        if self.crash == "fifth" and workdir.name == "5":
            raise RuntimeError("toy fails\nonce")
        if self.crash == "once" and not (workdir / "crashed").exists():
            (workdir / "crashed").touch()
            os.kill(os.getpid(), 9)
        if self.crash == "always" and workdir.name != "0":
            os.abort()
        print("a library's chatter on stdout")
        checkpoint = workdir / "checkpoint"
        signal = float(np.mean(np.array(architecture.encoding) / (architecture.space.cardinalities - 1)))
        history: list[float] = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
        resumed_at = len(history)
        for step, accuracy in enumerate(history, 1):
            report(Progress(step, STEPS, {"val_accuracy": accuracy}))
        while len(history) < STEPS:
            random = np.random.default_rng([seed, len(history)])
            time.sleep(self.seconds * (0.2 + random.random()))
            last = history[-1] if history else 0.5 + signal / 4
            history.append(min(max(last + float(random.normal(0, 0.01)), 0.0), 1.0))
            temporary = checkpoint.with_suffix(".new")
            temporary.write_text(json.dumps(history))
            temporary.replace(checkpoint)
            if self.crash == "undecided" and int(workdir.name) > 1 and not (workdir / "crashed").exists():
                (workdir / "crashed").touch()
                os.kill(os.getpid(), 9)
            report(Progress(len(history), STEPS, {"val_accuracy": history[-1]}))
        return Evaluation(history[-1], {"resumed_at": resumed_at})


def build_search(folder: Path, strategy: str, parallel: int, trials: int, **settings: Any) -> Search:
    spec = SpaceSpec("mobilenetv2-small")
    space, options = spec.build(), settings.pop("options", {})
    cost = flops_model(space)
    budgets = [Budget("flops", 0.3 * cost.maximum()[0], cost)]
    return Search(
        space,
        build_strategy(strategy, space, budgets, 7),
        build_executor(spec, space, "toy", options, parallel=parallel, workdir=folder),
        FileTrialLog(folder / "trials.jsonl"),
        trials=trials,
        workdir=folder,
        budgets=budgets,
        parallel=parallel,
        seed=7,
        **settings,
    )


if __name__ == "__main__":
    steps = tuple(int(step) for step in sys.argv[5].split(",") if step != "-")
    rungs = Rungs(steps, eta=2.0)
    options = {"seconds": float(sys.argv[6])} if len(sys.argv) > 6 else {}
    build_search(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), rungs=rungs, options=options).run()
    print("done")
