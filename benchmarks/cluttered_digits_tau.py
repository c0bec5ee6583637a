"""Does architecture matter on `cluttered-digits`? Kendall's tau between two training seeds over random networks.

With tau near 0 a search on a data set learns nothing: what looks like a better network is a luckier seed. Plain digits
give about 0.05. Run: `python benchmarks/cluttered_digits_tau.py` (one core, about 15 minutes).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from nas.evaluator import Architecture
from nas.evaluators.training import TrainingEvaluator
from nas.spaces import build_space


def main() -> None:
    """Train each network with both seeds; one JSON line a network, then tau."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="cluttered-digits:6000")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--sample-seed", type=int, default=0)
    args = parser.parse_args()
    space = build_space("mobilenetv2-small", resolution=args.resolution, channels=1)
    evaluator = TrainingEvaluator(data=args.data, epochs=args.epochs, device="cpu")
    start = time.perf_counter()
    accuracies = []
    for row in space.sample(np.random.default_rng(args.sample_seed), args.networks):
        architecture = Architecture(space, tuple(int(v) for v in row))
        pair = []
        for seed in (0, 1):
            with tempfile.TemporaryDirectory() as workdir:
                result = evaluator.evaluate(architecture, seed=seed, workdir=Path(workdir), report=lambda _: None)
            pair.append(result.accuracy)
        accuracies.append(pair)
        graph = architecture.graph
        print(json.dumps({"flops": graph.flops, "params": graph.params, "val_accuracy": pair}), flush=True)
    table = np.array(accuracies)
    summary = {
        "data": args.data,
        "resolution": args.resolution,
        "epochs": args.epochs,
        "networks": args.networks,
        "kendall_tau": round(float(kendalltau(table[:, 0], table[:, 1]).statistic), 3),
        "accuracy_min_max": [float(table.min()), float(table.max())],
        "seconds": round(time.perf_counter() - start),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
