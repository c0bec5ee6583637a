"""How fast a CostModel prices encodings: batches of `light-nas` rows, beside pricing one Graph at a time.

Usage: python benchmarks/pricing.py [--repeats 7]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from nas.cost import flops_model
from nas.spaces import build_space


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Median wall time of a call after one warm-up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="timed repetitions; the median is printed")
    repeats = parser.parse_args().repeats
    start = time.perf_counter()
    space = build_space("light-nas")
    flops = flops_model(space)
    print(f"compile light-nas ({len(space.ops())} ops): {time.perf_counter() - start:.2f} s, once per process")
    rng = np.random.default_rng(0)
    print(f"{'batch':>9} {'µs a call':>12} {'encodings/s':>14}")
    for n in (1, 64, 4096, 100_000, 1_000_000):
        x = space.sample(rng, n)
        seconds = median_seconds(lambda x=x: flops(x), repeats)  # type: ignore[misc]
        print(f"{n:>9} {seconds * 1e6:>12.1f} {n / seconds:>14,.0f}")
    row = space.sample(rng)[0]
    seconds = median_seconds(lambda: space.graph(row).flops, repeats)
    print(f"one Graph built and summed: {seconds * 1e6:.0f} µs ({1 / seconds:,.0f}/s)")


if __name__ == "__main__":
    main()
