"""How many evaluations a strategy needs: NAS-Bench-Macro, one seed's recorded accuracy per evaluation.

Per strategy and budget, over the seeds: the gap (in points of mean accuracy) between the best network of the table
and the best one seen, and the one recommended, after 25, 50, 100 and 200 evaluations; the median number until
one within 0.2 and 0.1 points was seen. Recommended is what the strategy recommends, or the highest observed.

Each (strategy, budget) is kept in benchmarks/results/search_efficiency.json; `search_report.py` makes docs/search.md.

    python benchmarks/search_efficiency.py --strategies guided annealing random tpe nsga2 light-nas sanas
    python benchmarks/search_efficiency.py --strategies gp --seeds 10 --evaluations 100
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers import PEERS

from nas.cost import flops_model
from nas.objective import Budget
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.strategies import build_strategy
from nas.strategy import rng
from nas.trial import Trial

DATA = Path(os.environ.get("LIGHTNAS_BENCHMARK_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
TABLE = DATA / "nas_bench_macro" / "nas_bench_macro_cifar10.csv"
RESULTS = Path(__file__).parent / "results" / "search_efficiency.json"
CHECKPOINTS = (25, 50, 100, 200)
TOLERANCES = (0.2, 0.1)
SHARES = (None, 0.7, 0.5)  # budgets: of the largest FLOPs
SEED_DRAW = 7  # role of the generator that picks which of the three recorded trainings an evaluation returns


@dataclass(frozen=True)
class Benchmark:
    """The recorded accuracies.

    Attributes:
        space: `nas-bench-macro`.
        accuracy: (6561, 3) points, by the encoding read as a number of base 3, and seed.
        budgets: a limit on the FLOPs, or none.
    """

    space: SearchSpace
    accuracy: NDArray[np.float64]
    budgets: tuple[Budget, ...]

    @classmethod
    def load(cls, share: float | None) -> Benchmark:
        """Read the table; `share` of the largest FLOPs becomes the budget."""
        space = build_space("nas-bench-macro")
        accuracy = np.zeros((space.size, 3))
        with TABLE.open(newline="", encoding="utf-8") as file:
            for record in csv.DictReader(file):
                accuracy[int(record["arch"], 3)] = [float(record[f"acc_seed{s}"]) for s in range(3)]
        cost = flops_model(space)
        budgets = () if share is None else (Budget("flops", share * cost.maximum()[0], cost),)
        return cls(space, accuracy, budgets)

    @cached_property
    def optimum(self) -> float:
        """Highest mean accuracy inside the budgets."""
        rows = np.concatenate(list(self.space.enumerate()))
        inside = np.all([b.allows(rows) for b in self.budgets] or [np.ones(len(rows), dtype=bool)], axis=0)
        return float(self.accuracy[inside].mean(axis=1).max())


def gaps(benchmark: Benchmark, strategy_name: str, seed: int, evaluations: int) -> tuple[list[float], list[float]]:
    """(best seen, recommended) gaps after each evaluation of one search."""
    if strategy_name in PEERS:
        strategy = PEERS[strategy_name](benchmark.space, benchmark.budgets, seed)
    else:
        strategy = build_strategy(strategy_name, benchmark.space, benchmark.budgets, seed)
    optimum = benchmark.optimum
    means: list[float] = []
    observed: list[float] = []
    recommended: list[float] = []
    for number in range(evaluations + 1):  # the last ask tells what is recommended after all evaluations
        row = strategy.ask(number)
        if number:
            chosen = strategy.attrs(number).get("recommended", int(np.argmax(observed)))
            recommended.append(optimum - means[chosen])
        if number == evaluations:
            break
        recorded = benchmark.accuracy[int("".join(map(str, row)), 3)]
        observed.append(float(recorded[rng(seed, number, SEED_DRAW).integers(3)]))
        means.append(float(recorded.mean()))
        reward = observed[-1] / 100
        trial = Trial(number, tuple(row.tolist()), attrs=strategy.attrs(number))
        strategy.tell(trial.complete(reward, reward, 0.0, {}))
    return (optimum - np.maximum.accumulate(means)).tolist(), recommended


def summary(runs: list[tuple[list[float], list[float]]], ms_per_trial: float) -> dict[str, Any]:
    """What is kept of all seeds of a strategy and budget."""
    seen, recommended = (np.array([r[i] for r in runs]) for i in (0, 1))
    marks = [c for c in CHECKPOINTS if c <= seen.shape[1]]
    at = [c - 1 for c in marks]
    first = {}
    for tolerance in TOLERANCES:
        hit = seen <= tolerance
        first[str(tolerance)] = float(np.median(np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, np.inf)))
    return {
        "seeds": len(runs),
        "evaluations": seen.shape[1],
        "ms_per_trial": round(ms_per_trial, 2),
        "seen": dict(zip(marks, seen.mean(axis=0)[at].round(4).tolist(), strict=True)),
        "seen_error": dict(zip(marks, (seen.std(axis=0)[at] / len(runs) ** 0.5).round(4).tolist(), strict=True)),
        "recommended": dict(zip(marks, recommended.mean(axis=0)[at].round(4).tolist(), strict=True)),
        "within": {k: None if v == np.inf else v for k, v in first.items()},
        "curve": seen.mean(axis=0).round(4).tolist(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=CHECKPOINTS[-1])
    parser.add_argument("--strategies", nargs="+", default=["guided", "annealing", "random", "tpe", "nsga2", *PEERS])
    parser.add_argument("--flops-shares", type=float, nargs="+", help="budgets: shares of the largest FLOPs; 1: none")
    parser.add_argument("--no-save", action="store_true", help="only print: for seeds that are not the benchmark's")
    args = parser.parse_args()
    if not TABLE.exists():
        print(
            f"{TABLE} is missing; set LIGHTNAS_BENCHMARK_DATA to the folder that holds nas_bench_macro", file=sys.stderr
        )
        return 2
    shares = SHARES if args.flops_shares is None else [None if s == 1 else s for s in args.flops_shares]
    marks = [c for c in CHECKPOINTS if c <= args.evaluations]
    heads = [f"{kind}@{c}" for kind in ("seen", "rec") for c in marks] + ["in .2", "in .1", "ms/trial"]
    print(f"{'strategy':<11}{'budget':<8}" + "".join(f"{h:>9}" for h in heads))
    for share in shares:
        benchmark = Benchmark.load(share)
        budget = "none" if share is None else f"{share:.0%}"
        for name in args.strategies:
            started = time.process_time()
            runs = [gaps(benchmark, name, args.first_seed + s, args.evaluations) for s in range(args.seeds)]
            ms = (time.process_time() - started) * 1e3 / (args.seeds * args.evaluations)
            found = summary(runs, ms)
            values = [*found["seen"].values(), *found["recommended"].values()]
            within = [v or float("inf") for v in found["within"].values()]
            print(f"{name:<11}{budget:<8}" + "".join(f"{v:>9.3f}" for v in values), end="")
            print("".join(f"{v:>9.1f}" for v in (*within, ms)), flush=True)
            if not args.no_save:
                kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
                kept.setdefault(budget, {})[name] = found
                RESULTS.parent.mkdir(exist_ok=True)
                RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
