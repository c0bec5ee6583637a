"""Train every network of a small space, twice, and keep the accuracy after each epoch: a table to replay searches on.

Appends one line a training to a CSV file and skips what is there already, so it can be stopped at any time, and several
may run at once (`--part 0/2`, `--part 1/2`: into files of their own, joined by `--join`). Trainings of the first seed
come first, in a random order; those of the second begin with the small networks, which budgets leave.

    python benchmarks/train_all.py --out benchmarks/results/cluttered_digits_243.csv
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from nas.cost import flops_model
from nas.evaluator import Architecture
from nas.evaluators.training import TrainingEvaluator
from nas.spaces.recipe import SpaceSpec

HERE = Path(__file__).parent
SPACE = HERE / "spaces" / "mobilenetv2-small-243.yaml"
DATA = "cluttered-digits:6000"
EPOCHS = 9  # rungs after 1 and 3: halving by three
SEEDS = (0, 1)


def header(epochs: int) -> list[str]:
    """Columns: the encoding's digits, the training seed, seconds, accuracy after each epoch."""
    return ["arch", "seed", "seconds", *(f"epoch{e + 1}" for e in range(epochs))]


def done(path: Path) -> set[tuple[str, int]]:
    """Trainings already in the file."""
    if not path.exists():
        return set()
    with path.open(newline="", encoding="utf-8") as file:
        return {(row["arch"], int(row["seed"])) for row in csv.DictReader(file)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default=str(SPACE))
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", default="0/1", help="I/N: every N-th training, from the I-th")
    parser.add_argument("--join", type=Path, nargs="+", help="only gather these files into --out, sorted")
    args = parser.parse_args()
    if args.join:
        rows = {(r["arch"], int(r["seed"])): r for path in args.join for r in csv.DictReader(path.open())}
        with args.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header(args.epochs), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows[key] for key in sorted(rows))
        return 0
    space = SpaceSpec.of(args.space).build()
    evaluator = TrainingEvaluator(data=args.data, epochs=args.epochs, device="cpu")
    rows = np.unique(space.canonical(np.concatenate(list(space.enumerate()))), axis=0)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    part, parts = map(int, args.part.split("/"))
    flops = flops_model(space)(rows)
    again = rows[np.argsort(flops, kind="stable")]
    plan = [(row, seed) for seed in SEEDS for row in (again if seed else rows)][part::parts]
    skip = done(args.out)
    if not args.out.exists():
        args.out.write_text(",".join(header(args.epochs)) + "\n", encoding="utf-8")
    for number, (row, seed) in enumerate(plan):
        arch = "".join(map(str, row))
        if (arch, seed) in skip:
            continue
        curve: list[float] = []
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as workdir:
            architecture = Architecture(space, tuple(int(v) for v in row))
            # One seed per (network, seed): two networks must not share their luck.
            luck = int(np.random.SeedSequence([seed, *map(int, row)]).generate_state(1)[0])
            evaluator.evaluate(
                architecture,
                seed=luck,
                workdir=Path(workdir),
                report=lambda p: curve.append(p.metrics["val_accuracy"]),  # noqa: B023 - called within
            )
        seconds = time.perf_counter() - started
        with args.out.open("a", encoding="utf-8") as file:
            file.write(",".join([arch, str(seed), f"{seconds:.2f}", *(f"{a:.6f}" for a in curve)]) + "\n")
        print(f"{number + 1}/{len(plan)} {arch} seed {seed}: {curve[-1]:.4f}, {seconds:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
