"""Are the intervals honest? Coverage over many profiles, and whether what searches pick keeps its budget.

Each round profiles two spaces anew (other fresh networks, other shuffles), reconnects, and runs on the board
  - networks that had no part in the table: how many of them lie in their 90 % interval;
  - the winners of searches (annealing, recorded accuracies of NAS-Bench-Macro, budgets from the 5th to the 95th
    percentile of the space's latency, --confidence 0.95): how many of them keep their budget.
A search picks what is predicted too fast, so the second is the harder promise. Nothing is rescaled in between.

    python benchmarks/latency_promises.py --rounds 10 --nets 300 --searches 10
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np
from accuracy_report import save
from boards import HOST, open_board
from latency_accuracy import unseen
from numpy.typing import NDArray
from search_efficiency import SEED_DRAW, Benchmark

from latency.interval import log_bound
from latency.link import PatientLink
from latency.predict import latency_model
from latency.profiler import FRESH_NETWORKS, Profiler
from latency.table import LatencyTable
from latency.verify import common_scale, verify
from nas.errors import SpaceExhausted
from nas.objective import Budget
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.strategies import build_strategy
from nas.strategy import rng
from nas.trial import Trial

CONFIDENCE = 0.95
PERCENTILES = (5, 95)
_SAMPLES = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", default=HOST)
    parser.add_argument("--engine", default="ncnn")
    parser.add_argument("--space", default="mobilenetv2-small", help="of the coverage")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--nets", type=int, default=300)
    parser.add_argument("--searches", type=int, default=10, help="a round")
    parser.add_argument("--trials", type=int, default=100, help="a search")
    parser.add_argument("--passes", type=int)
    parser.add_argument("--first-seed", type=int, default=100)
    options = parser.parse_args()
    space = build_space(options.space, resolution=options.resolution)
    recorded = Benchmark.load(None)
    rounds = []
    with open_board(options.board, options.engine) as board, PatientLink(board) as link:
        for number in range(options.rounds):
            seed = options.first_seed + number
            told = _coverage(link, space, options.nets, options.passes, seed)
            told |= _winners(link, recorded, options.searches, options.trials, options.passes, seed)
            rounds.append(told)
            print(json.dumps({k: v for k, v in told.items() if k != "winners"}), file=sys.stderr, flush=True)
    winners = [w for r in rounds for w in r["winners"]]
    result: dict[str, Any] = {
        "rounds": [{k: v for k, v in r.items() if k != "winners"} for r in rounds],
        "nets": options.nets,
        "coverage_pct": float(np.mean([r["coverage_pct"] for r in rounds])),
        "coverage_scaled_pct": float(np.mean([r["coverage_scaled_pct"] for r in rounds])),
        "searches": len(winners),
        "kept": sum(w["kept"] for w in winners),
        "kept_scaled": sum(w["kept_scaled"] for w in winners),
        "kept_as_predicted": sum(w["kept_as_predicted"] for w in winners),
        "confidence": CONFIDENCE,
    }  # fmt: skip
    told = save(f"promises-{options.board}-{options.engine}", options, space, result)
    print(json.dumps({k: v for k, v in told.items() if k != "rounds"}, indent=1))


def _profile(link: PatientLink, space: SearchSpace, passes: int | None, seed: int) -> LatencyTable:
    return Profiler(link.board, link.open_session, space, passes=passes, seed=seed).run().table


def _coverage(link: PatientLink, space: SearchSpace, nets: int, passes: int | None, seed: int) -> dict[str, Any]:
    """How many networks lie in their interval; also after the scale that the session's networks have in common."""
    table = _profile(link, space, passes, seed)
    graphs = [space.graph(row) for row in unseen(space, nets, seed)]
    results = verify(link.board, link.open_session, graphs, table, passes=passes, seed=seed)
    scale = common_scale(results)
    inside = [r.low_ms <= r.measured_ms <= r.high_ms for r in results if r.low_ms and r.high_ms]
    scaled = [r.low_ms * scale <= r.measured_ms <= r.high_ms * scale for r in results if r.low_ms and r.high_ms]
    return {
        "seed": seed,
        "coverage_pct": 100 * float(np.mean(inside)),
        "coverage_scaled_pct": 100 * float(np.mean(scaled)),
        "scale": scale,
        "drift_sigma": table.calibration.drift_sigma,
        "upper_pct": 100 * float(np.expm1(log_bound(table, CONFIDENCE))),
        "mean_error_pct": float(np.mean([abs(r.error_pct) for r in results])),
        "fresh_networks": min(FRESH_NETWORKS, table.calibration.networks),
    }


def _winners(
    link: PatientLink, recorded: Benchmark, searches: int, trials: int, passes: int | None, seed: int
) -> dict[str, Any]:
    """Searches at budgets across the range, and their winners run on the board."""
    space = recorded.space
    table = _profile(link, space, passes, seed)
    predicted, upper = latency_model(table, space), latency_model(table, space, quantile=CONFIDENCE)
    chance = np.random.default_rng([seed, 1])
    percentiles = chance.uniform(*PERCENTILES, searches)
    range_ms = [float(v) for v in np.percentile(predicted(space.sample(chance, _SAMPLES)), percentiles)]
    found = []
    for number, limit in enumerate(range_ms):
        budget = Budget("latency_ms", limit, upper)
        naive = Budget("latency_ms", limit, predicted)
        found.append(tuple(_search(recorded, b, trials, seed * 1000 + number) for b in (budget, naive)))
    graphs = [space.graph(row) for pair in found for row in pair]
    # Neighbours in the space tell how fast the board is today.
    others = [space.graph(row) for row in unseen(space, 20, seed)]
    results = verify(link.board, link.open_session, [*graphs, *others], table, passes=passes, seed=seed)
    scale = common_scale(results[len(graphs) :])
    pairs = zip(results[: len(graphs) : 2], results[1 : len(graphs) : 2], range_ms, strict=True)
    return {
        "winners": [
            {
                "limit_ms": limit,
                "predicted_ms": sure.predicted_ms,
                "measured_ms": sure.measured_ms,
                "kept": sure.measured_ms <= limit,
                "kept_scaled": sure.measured_ms / scale <= limit,
                "kept_as_predicted": naive.measured_ms <= limit,
            }
            for sure, naive, limit in pairs
        ],
        "winners_scale": scale,
        "winners_kept": sum(
            r.measured_ms <= limit for r, limit in zip(results[: len(graphs) : 2], range_ms, strict=True)
        ),
    }


def _search(recorded: Benchmark, budget: Budget, trials: int, seed: int) -> NDArray[np.uint8]:
    """The best trial of an annealing; each evaluation returns one recorded training's accuracy."""
    strategy = build_strategy("annealing", recorded.space, (budget,), seed)
    best: tuple[float, NDArray[np.uint8]] | None = None
    for number in range(trials):
        try:
            row = strategy.ask(number)
        except SpaceExhausted:
            break
        accuracies = recorded.accuracy[int("".join(map(str, row)), 3)]
        accuracy = float(accuracies[rng(seed, number, SEED_DRAW).integers(3)]) / 100
        trial = Trial(number, tuple(row.tolist()), attrs=strategy.attrs(number))
        strategy.tell(trial.complete(accuracy, accuracy, 0.0, {}))
        if best is None or accuracy > best[0]:
            best = (accuracy, row)
    assert best is not None
    return best[1]


if __name__ == "__main__":
    main()
