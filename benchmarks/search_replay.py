"""Strategies and rungs on our own table: every network of a small space really trained, replayed over many seeds.

The table (`train_all.py`) has each of the 243 networks of spaces/mobilenetv2-small-243.yaml trained twice on
cluttered-digits, with the accuracy after every epoch. An evaluation replays one of the two trainings; the gap is the
difference (in points) of mean final accuracy to the best network inside the latency budget, which half of the networks
keep. Runs the real search loop: `nas.search.Search`, an evaluator that reports epochs, rungs.

    python benchmarks/search_replay.py --latency-table TABLE.json     # once: writes the latencies beside the table
    python benchmarks/search_replay.py
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau
from train_all import SPACE

from nas.cost import CostModel, flops_model
from nas.evaluator import Architecture, Evaluation, Evaluator, Progress, Report
from nas.executor import InlineExecutor
from nas.objective import Budget
from nas.rungs import Rungs
from nas.search import Search
from nas.space import SearchSpace
from nas.spaces.recipe import SpaceSpec
from nas.strategies import build_strategy
from nas.trial import MemoryTrialLog, Trial, TrialState

RESULTS = Path(__file__).parent / "results"
TABLE = RESULTS / "cluttered_digits_243.csv"
LATENCY = RESULTS / "cluttered_digits_243_latency.json"
MARKS = (5, 10, 20, 30, 50)  # evaluations, or their worth in seconds
RUNGS = {"rungs 1, 3": Rungs((1, 3), 3.0), "rungs 3, 6": Rungs((3, 6), 3.0)}
STRATEGIES = ("guided", "annealing", "random", "tpe")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recorded:
    """The trainings.

    Attributes:
        curves: encoding -> (trainings, epochs) accuracy.
        seconds: encoding -> of one epoch.
    """

    curves: dict[tuple[int, ...], Floats]
    seconds: dict[tuple[int, ...], float]

    @classmethod
    def load(cls, path: Path) -> Recorded:
        """From a file of `train_all.py`."""
        curves: dict[tuple[int, ...], list[list[float]]] = {}
        seconds: dict[tuple[int, ...], list[float]] = {}
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                arch = tuple(map(int, row["arch"]))
                epochs = [float(v) for k, v in row.items() if k.startswith("epoch")]
                curves.setdefault(arch, []).append(epochs)
                seconds.setdefault(arch, []).append(float(row["seconds"]) / len(epochs))
        return cls({a: np.array(c) for a, c in curves.items()}, {a: float(np.median(s)) for a, s in seconds.items()})

    def final(self, arch: tuple[int, ...]) -> float:
        """Mean accuracy after the last epoch, in points."""
        return 100 * float(self.curves[arch][:, -1].mean())


class Replay(Evaluator):
    """One of an architecture's recorded trainings, epoch by epoch."""

    name = "replay"
    isolated = False

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.steps = next(iter(recorded.curves.values())).shape[1]

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        """Reports every epoch of the training the seed picks."""
        curves = self.recorded.curves[architecture.encoding]
        curve = curves[np.random.default_rng(seed).integers(len(curves))]
        for epoch, accuracy in enumerate(curve.tolist(), start=1):
            report(Progress(epoch, len(curve), {"val_accuracy": accuracy}))
        return Evaluation(curve[-1])


def run(
    space: SearchSpace, recorded: Recorded, budget: Budget, strategy: str, seed: int, trials: int, rungs: Rungs
) -> list[Trial]:
    """The trials of one search."""
    log = MemoryTrialLog()
    Search(
        space,
        build_strategy(strategy, space, (budget,), seed),
        InlineExecutor(space, Replay(recorded)),
        log,
        trials=trials,
        budgets=(budget,),
        rungs=rungs,
        seed=seed,
        workdir=Path("unused"),
    ).run()
    return list(log.load())


def gaps(trials: Sequence[Trial], recorded: Recorded, optimum: float) -> tuple[Floats, Floats, Floats]:
    """After each trial: (seconds trained so far, gap of the best network trained to its end, of the recommended)."""
    seconds, seen, recommended = [], [], []
    spent, best, chosen, observed = 0.0, 0.0, 0.0, -1.0
    for i, trial in enumerate(trials):
        epochs = trial.pruned_at or recorded.curves[trial.encoding].shape[1]
        spent += epochs * recorded.seconds[trial.encoding]
        if trial.state is TrialState.COMPLETE:
            best = max(best, recorded.final(trial.encoding))
            if (trial.accuracy or 0.0) > observed:
                observed, chosen = trial.accuracy or 0.0, recorded.final(trial.encoding)
        wise = trials[i + 1].attrs.get("recommended") if i + 1 < len(trials) else None
        seconds.append(spent)
        seen.append(optimum - best)
        recommended.append(optimum - (chosen if wise is None else recorded.final(trials[wise].encoding)))
    return np.array(seconds), np.array(seen), np.array(recommended)


def at_seconds(curves: tuple[Floats, Floats, Floats], seconds: float) -> tuple[float, float]:
    """(seen, recommended) gaps when so much has been trained."""
    at = max(int(np.searchsorted(curves[0], seconds, side="right")) - 1, 0)
    return float(curves[1][at]), float(curves[2][at])


def latencies(path: Path, space: SearchSpace) -> dict[str, object]:
    """Predicted ms of every network, by a latency table."""
    from latency.predict import latency_model
    from latency.table import LatencyTable

    table = LatencyTable.from_json(path.read_text(encoding="utf-8"))
    rows = np.concatenate(list(space.enumerate()))
    values = latency_model(table, space)(rows)
    ms = {"".join(map(str, r)): round(float(v), 6) for r, v in zip(rows, values, strict=True)}
    return {"board": table.identity.board, "engine": str(table.identity.engine), "latency_ms": ms}


def recorded_latency(space: SearchSpace, kept: dict[str, float]) -> CostModel:
    """The additive model that gave the kept latencies, solved from them; exact, because they are sums over sites."""
    rows = np.concatenate(list(space.enumerate()))
    at = space.site_rows(rows)
    varying = [s for s, site in enumerate(space.compiled.sites) if site.rows > 1]
    design = np.concatenate([np.eye(space.compiled.sites[s].rows)[at[:, s]] for s in varying], axis=1)
    values = np.array([kept["".join(map(str, r))] for r in rows])
    solved = np.linalg.lstsq(design, values, rcond=None)[0]
    tables, start = [], 0
    for s, site in enumerate(space.compiled.sites):
        size = site.rows if s in varying else 0
        tables.append(solved[start : start + size] if size else np.zeros(site.rows))
        start += size
    return CostModel(space, tables, unit="ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--latency-table", type=Path, help="a table of `nas tables export`: keep its predictions")
    args = parser.parse_args()
    space = SpaceSpec.of(str(SPACE)).build()
    if args.latency_table:
        LATENCY.write_text(json.dumps(latencies(args.latency_table, space), indent=1) + "\n", encoding="utf-8")
        return 0
    recorded = Recorded.load(args.table)
    if LATENCY.exists():
        kept = json.loads(LATENCY.read_text(encoding="utf-8"))
        cost, metric, source = recorded_latency(space, kept["latency_ms"]), "latency_ms", kept["board"]
    else:
        cost, metric, source = flops_model(space), "flops", "no latencies kept: FLOPs"
    rows = np.concatenate(list(space.enumerate()))
    budget = Budget(metric, float(np.median(cost(rows))), cost)
    inside = [tuple(map(int, r)) for r in rows[budget.allows(rows)]]
    twice = [c for c in recorded.curves.values() if len(c) == 2]
    lacking = [a for a in inside if a not in recorded.curves or len(recorded.curves[a]) < 2]
    if lacking:
        print(f"{args.table}: {len(lacking)} networks inside were not trained twice; run train_all.py", file=sys.stderr)
        return 2
    optimum = max(recorded.final(a) for a in inside)
    finals = np.array([c[:, -1] for c in twice])
    steps = sorted({s for rungs in RUNGS.values() for s in rungs.steps})
    rung_tau = [float(kendalltau([c[0, s - 1] for c in twice], finals[:, 0]).statistic) for s in steps]
    whole = float(np.mean([recorded.seconds[a] for a in inside])) * next(iter(recorded.curves.values())).shape[1]
    report: dict[str, object] = {
        "networks": len(recorded.curves),
        "trained_twice": len(twice),
        "inside": len(inside),
        "budget": f"{metric} <= {budget.limit:.6g} ({source})",
        "tau_between_trainings": round(float(kendalltau(finals[:, 0], finals[:, 1]).statistic), 3),
        "tau_rung_to_final": dict(zip(map(str, steps), np.round(rung_tau, 3).tolist(), strict=True)),
        "noise_sd": round(100 * float(np.sqrt(((finals[:, 0] - finals[:, 1]) ** 2).mean() / 2)), 3),
        "spread_sd": round(100 * float(finals.mean(axis=1).std()), 3),
        "seconds_per_training": round(whole, 2),
        "seeds": args.seeds,
        "marks": list(MARKS),
    }
    print(json.dumps(report))
    found: dict[str, dict[str, object]] = {}
    for name in args.strategies:
        for label, rungs in {"full trainings": Rungs(), **RUNGS}.items():
            trials = len(inside) if rungs.steps else max(MARKS) + 1
            each = []
            for seed in range(args.seeds):
                curves = gaps(run(space, recorded, budget, name, seed, trials, rungs), recorded, optimum)
                each.append([at_seconds(curves, mark * whole) for mark in MARKS])
            mean = np.array(each).mean(axis=0)
            found.setdefault(name, {})[label] = {
                "seen": mean[:, 0].round(3).tolist(),
                "recommended": mean[:, 1].round(3).tolist(),
                "error": (np.array(each)[:, :, 0].std(axis=0) / args.seeds**0.5).round(3).tolist(),
            }
            print(f"{name:<10} {label:<15} seen {mean[:, 0].round(2)} recommended {mean[:, 1].round(2)}", flush=True)
    (RESULTS / "search_replay.json").write_text(json.dumps(report | {"found": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
