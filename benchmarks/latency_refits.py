"""Coverage of the intervals themselves: many fits of one measurement, judged on networks each of them did not see.

Cover networks and fresh ones run interleaved in one measurement. Each re-fit takes 48 of the fresh networks for terms
and residuals, and the others, hundreds, are counted: how many lie in their 90 % interval. What a board drifts by from
one measurement to another is left out on both sides; `latency_promises.py` has it in.

    python benchmarks/latency_refits.py --space light-nas --resolution 96 --nets 300 --refits 10
"""

from __future__ import annotations

import argparse
import json
from dataclasses import astuple, replace

import numpy as np
from accuracy_report import save
from boards import HOST, open_board
from latency_accuracy import bar

from latency.detrend import detrend
from latency.engines import get_engine
from latency.fit import calibrate, network_row, sample
from latency.fresh import fresh_graphs
from latency.interval import log_bound
from latency.link import PatientLink
from latency.passes import Pass
from latency.profiler import FRESH_NETWORKS, Profiler, network_name
from nas.spaces import build_space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", default=HOST)
    parser.add_argument("--engine", default="ncnn")
    parser.add_argument("--space", default="light-nas")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--nets", type=int, default=300, help="judged by each re-fit")
    parser.add_argument("--refits", type=int, default=10)
    parser.add_argument("--passes", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    space, engine = build_space(options.space, resolution=options.resolution), get_engine(options.engine)
    count, passes = options.nets + FRESH_NETWORKS, list[Pass]()
    with open_board(options.board, options.engine) as board, PatientLink(board) as link:
        profiler = Profiler(
            board, link.open_session, space, fresh_networks=count, passes=options.passes, seed=options.seed
        )
        table = profiler.run(on_pass=passes.append, on_progress=bar("profile")).table
    fresh, steady = [], detrend(passes)
    for graph in fresh_graphs(space, count, options.seed):
        model = engine.build(graph)
        fresh.append(sample(steady, graph, model, None, f"{network_name(model)}-whole"))
    rows = np.array([network_row(engine, table.entries, s.graph) for s in fresh])
    truth = np.array([np.median(s.whole) for s in fresh]) / 1e6
    chance = np.random.default_rng(options.seed)
    inside, below, errors = [], [], []
    for _ in range(options.refits):
        order = chance.permutation(len(fresh))
        used, judged = order[:FRESH_NETWORKS], order[FRESH_NETWORKS:]
        fitted = calibrate(engine, table.entries, table.offset_ms, [fresh[i] for i in used])
        made = replace(table, calibration=replace(fitted, drift_sigma=0.0))
        ratio = np.log(truth[judged] / (rows[judged] @ np.array(astuple(fitted.terms)) + table.offset_ms))
        low, high = log_bound(made, 0.05), log_bound(made, 0.95)
        inside.append(float(np.mean((low <= ratio) & (ratio <= high))))
        below.append(float(np.mean(ratio <= high)))
        errors.append(float(np.mean(np.abs(np.expm1(-ratio)))))
    result = {
        "nets": len(fresh) - FRESH_NETWORKS, "refits": options.refits, "coverage_pct": 100 * float(np.mean(inside)),
        "lowest_pct": 100 * min(inside), "highest_pct": 100 * max(inside), "below_pct": 100 * float(np.mean(below)),
        "mean_error_pct": 100 * float(np.mean(errors)),
    }  # fmt: skip
    name = f"refits-{options.board}-{options.engine}-{space.name}-{space.inputs[0][1]}"
    print(json.dumps(save(name, options, space, result)))


if __name__ == "__main__":
    main()
