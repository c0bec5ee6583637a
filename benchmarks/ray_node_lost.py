"""Kills nodes of a real Ray cluster amid trainings, and compares the trials with an undisturbed local run's.

    python benchmarks/ray_node_lost.py [--trials 12] [--nodes 4] [--kills 3] [--epochs 8] [--json]

The cluster is a head and nodes of one core each, real processes on loopback. Now a node's raylet alone is killed, now
the node with all its processes. Compared are number, encoding, state and accuracy of every trial.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "api" / "executors"))
from ray_cluster import RayCluster, ray_cluster

from api.executors.ray import RayExecutor
from nas.cost import flops_model
from nas.executor import Executor, ProcessExecutor
from nas.objective import Budget
from nas.search import Search, SearchEvent, TrialEnded, TrialStep
from nas.spaces.recipe import SpaceSpec
from nas.strategies import build_strategy
from nas.trial import MemoryTrialLog

SPACE = SpaceSpec("mobilenetv2-small", (16,))
Rows = list[tuple[int, tuple[int, ...], str, float | None]]


@dataclass
class Kill:
    """One kill: of what, amid which trial, and the seconds until this was noticed and until the trial ran elsewhere.

    A trial whose raylet alone is killed may reach its end before Ray gives it up; it is then not lost.
    """

    whole: bool
    trial: int
    at: float
    noticed_s: float | None = None
    again_s: float | None = None


class Watch(logging.Handler):
    """Hears from the executor where trials run, and kills nodes under them."""

    def __init__(self, kills: int, chance: random.Random) -> None:
        super().__init__(logging.INFO)
        self.wanted, self.chance = kills, chance
        self.kills: list[Kill] = []
        self.nodes: dict[int, str] = {}
        self.attempts = 0
        self._wait = 3  # steps until the next kill

    def emit(self, record: logging.LogRecord) -> None:
        """Note where a trial begins, and when one is given up."""
        assert isinstance(record.args, tuple)
        number, text = int(str(record.args[0])), str(record.args[-1])
        since = [k for k in self.kills if k.trial == number and k.again_s is None]
        if "runs on" in record.msg:
            self.attempts += 1
            self.nodes[number] = text
            for kill in since:
                kill.again_s = time.monotonic() - kill.at
        else:
            for kill in since:
                kill.noticed_s = time.monotonic() - kill.at

    def disturb(self, cluster: RayCluster) -> Callable[[SearchEvent], None]:
        """Kills at some steps of the search, one after the other's trial has ended."""

        def hear(event: SearchEvent) -> None:
            if isinstance(event, TrialEnded):
                self.nodes.pop(event.trial.number, None)
            if not isinstance(event, TrialStep) or len(self.kills) == self.wanted:
                return
            amid = event.progress.step <= event.progress.steps / 2
            self._wait -= 1
            if self._wait > 0 or not amid or any(k.trial in self.nodes for k in self.kills):
                return
            node = next(n for n in cluster.raylets if n in self.nodes[event.number])
            self.kills.append(Kill(len(self.kills) % 2 == 1, event.number, time.monotonic()))
            cluster.kill(node, whole=self.kills[-1].whole)
            self._wait = self.chance.randrange(4, 16)

        return hear


def run(
    executor: Executor, folder: Path, trials: int, parallel: int, on_event: Callable[[SearchEvent], None]
) -> tuple[Rows, float]:
    """The trial table, and the seconds it took."""
    space, log = SPACE.build(), MemoryTrialLog()
    cost = flops_model(space)
    budgets = [Budget("flops", 0.3 * cost.maximum()[0], cost)]
    strategy = build_strategy("annealing", space, budgets, 7)
    fixed: dict[str, Any] = {"trials": trials, "parallel": parallel, "seed": 7, "budgets": budgets, "workdir": folder}
    found = Search(space, strategy, executor, log, on_event=on_event, **fixed).run()
    return [(t.number, t.encoding, str(t.state), t.accuracy) for t in log.load()], found.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--kills", type=int, default=3, help="fewer than nodes")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    if wanted.kills >= wanted.nodes:
        parser.error("one node has to stay")
    options = {"epochs": wanted.epochs, "device": "cpu"}
    watch = Watch(wanted.kills, random.Random(wanted.seed))
    logger = logging.getLogger("api.executors.ray")
    logger.setLevel(logging.INFO)
    logger.addHandler(watch)
    folder = Path(tempfile.mkdtemp(prefix="lightnas-node-lost-"))
    try:
        common: dict[str, Any] = {"parallel": 2}
        here = ProcessExecutor(SPACE, "training", options, workdir=folder / "here", **common)
        undisturbed, undisturbed_s = run(here, folder / "here", wanted.trials, 2, lambda event: None)
        with ray_cluster(wanted.nodes) as cluster:
            os.environ.update(cluster.environment)
            there = RayExecutor(SPACE, "training", options, workdir=folder / "ray", address=cluster.address, **common)
            table, seconds = run(there, folder / "ray", wanted.trials, 2, watch.disturb(cluster))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = {
        "trials": len(table),
        "complete": sum(row[2] == "complete" for row in table),
        "attempts": watch.attempts,
        "equal": table == undisturbed,
        "undisturbed_s": round(undisturbed_s, 1),
        "killed_s": round(seconds, 1),
        "kills": [{k: v for k, v in asdict(kill).items() if k != "at"} for kill in watch.kills],
    }
    if wanted.json:
        print(json.dumps(result))
    else:
        show(result)
    sys.exit(not result["equal"])


def show(result: dict[str, Any]) -> None:
    """The table for people."""
    print("killed         amid trial   noticed after s   runs elsewhere after s")
    for kill in result["kills"]:
        what = "whole node" if kill["whole"] else "raylet alone"
        times = [("-" if s is None else f"{s:.1f}") for s in (kill["noticed_s"], kill["again_s"])]
        print(f"{what:14} {kill['trial']:10} {times[0]:>17} {times[1]:>24}")
    print(
        f"{result['trials']} trials, {result['complete']} complete, {result['attempts']} attempts, "
        f"{result['killed_s']} s (undisturbed, in local processes: {result['undisturbed_s']} s); "
        f"equal to the undisturbed table: {'yes' if result['equal'] else 'NO'}"
    )


if __name__ == "__main__":
    main()
