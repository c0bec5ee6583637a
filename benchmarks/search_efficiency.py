"""How many evaluations a strategy needs: NAS-Bench-Macro, one seed's recorded accuracy per evaluation.

Prints, per strategy, the gap (in points of mean accuracy) between the best network of the table and the best one seen,
and the one recommended (the highest observed), after 25, 50 and 100 evaluations, averaged over the seeds.

    python benchmarks/search_efficiency.py --seeds 100 --strategies annealing random tpe
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

import numpy as np
from numpy.typing import NDArray

from nas.cost import flops_model
from nas.objective import Budget
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.strategies import build_strategy
from nas.strategy import rng
from nas.trial import Trial

DATA = Path(os.environ.get("LIGHTNAS_BENCHMARK_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
TABLE = DATA / "nas_bench_macro" / "nas_bench_macro_cifar10.csv"
CHECKPOINTS = (25, 50, 100)
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
    strategy = build_strategy(strategy_name, benchmark.space, benchmark.budgets, seed)
    optimum = benchmark.optimum
    seen, recommended, best_seen, best_observed, chosen = [], [], 0.0, -1.0, 0.0
    for number in range(evaluations):
        row = strategy.ask(number)
        recorded = benchmark.accuracy[int("".join(map(str, row)), 3)]
        observed = float(recorded[rng(seed, number, SEED_DRAW).integers(3)])
        mean = float(recorded.mean())
        trial = Trial(number, tuple(row.tolist()), attrs=strategy.attrs(number))
        strategy.tell(trial.complete(observed / 100, observed / 100, 0.0, {}))
        best_seen = max(best_seen, mean)
        if observed > best_observed:
            best_observed, chosen = observed, mean
        seen.append(optimum - best_seen)
        recommended.append(optimum - chosen)
    return seen, recommended


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--strategies", nargs="+", default=["annealing", "random", "tpe"])
    parser.add_argument("--flops-share", type=float, help="budget: share of the largest FLOPs of the space")
    parser.add_argument("--json", action="store_true", help="one object a strategy on stdout")
    args = parser.parse_args()
    if not TABLE.exists():
        print(
            f"{TABLE} is missing; set LIGHTNAS_BENCHMARK_DATA to the folder that holds nas_bench_macro", file=sys.stderr
        )
        return 2
    benchmark = Benchmark.load(args.flops_share)
    marks = [c - 1 for c in CHECKPOINTS]
    if not args.json:
        heads = [f"{kind}@{c}" for kind in ("seen", "rec") for c in CHECKPOINTS]
        print(f"{'strategy':<12}" + "".join(f"{h:>10}" for h in heads) + f"{'±seen@100':>12}{'ms/trial':>10}")
    for name in args.strategies:
        started = time.perf_counter()
        runs = [gaps(benchmark, name, args.first_seed + s, CHECKPOINTS[-1]) for s in range(args.seeds)]
        ms = (time.perf_counter() - started) * 1e3 / (args.seeds * CHECKPOINTS[-1])
        seen, recommended = (np.array([r[i] for r in runs])[:, marks] for i in (0, 1))
        error = float(seen[:, -1].std() / np.sqrt(args.seeds))
        if args.json:
            result = {"strategy": name, "seeds": args.seeds, "ms_per_trial": ms, "seen_error": error}
            result |= {f"seen@{c}": v for c, v in zip(CHECKPOINTS, seen.mean(axis=0), strict=True)}
            result |= {f"recommended@{c}": v for c, v in zip(CHECKPOINTS, recommended.mean(axis=0), strict=True)}
            print(json.dumps(result), flush=True)
        else:
            values = [*seen.mean(axis=0), *recommended.mean(axis=0)]
            print(f"{name:<12}" + "".join(f"{v:>10.3f}" for v in values) + f"{error:>12.4f}{ms:>10.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
