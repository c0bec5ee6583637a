"""How fast batches of `light-nas` encodings are priced, made canonical and checked, beside building one Graph.

A table of float prices stands for a latency table. One thread is used; the figures are of CPU time, so that another
program on the machine disturbs them little.

Usage: OPENBLAS_NUM_THREADS=1 python benchmarks/pricing.py [--repeats 7]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

from nas.cost import CostModel, costs, flops_model, params_model
from nas.space import Encodings
from nas.spaces import build_space

BATCHES = (1, 64, 4096, 100_000, 1_000_000)
COLUMNS = 30  # of the vector-valued tables: features of a surrogate
SHORTEST_S = 2e-3  # of one timing; smaller calls are timed several at once


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Median CPU time of a call after one warm-up."""
    start = time.perf_counter()
    call()
    together = max(1, int(SHORTEST_S / (time.perf_counter() - start)))
    times = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(together):
            call()
        times.append((time.process_time() - start) / together)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="timed repetitions; the median is printed")
    repeats = parser.parse_args().repeats
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        print("set OPENBLAS_NUM_THREADS=1, else the CPU time of idle threads is counted as well")
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    space = build_space("light-nas")
    plan, prices = space.compiled.plan, {key: float(rng.random()) for key in (op.key for op in space.ops())}
    print(f"compile light-nas ({len(prices)} ops): {time.perf_counter() - start:.2f} s, once per process")
    latency = CostModel.compile(space, lambda place: prices[place.op.key], unit="ms")
    three = [latency, flops_model(space), params_model(space)]
    vectors = plan.fuse([rng.normal(size=(site.rows, COLUMNS)) for site in space.compiled.sites])
    calls: dict[str, Callable[[Encodings], object]] = {
        "one float table": latency,
        "three tables": lambda x: costs(three, x),
        f"{COLUMNS} columns": lambda x: plan.sums([vectors], x),
        "site rows": space.site_rows,
        "canonical": space.compiled.canonical,
        "validate": space.validate,
    }
    print("CPU time of a call in µs, and million encodings a second")
    print(f"{'batch':>9}" + "".join(f"{name:>22}" for name in calls))
    for n in BATCHES:
        x, cells = space.sample(rng, n), []
        for call in calls.values():
            seconds = median_seconds(lambda x=x, call=call: call(x), repeats)  # type: ignore[misc]
            cells.append(f"{seconds * 1e6:>12,.1f} {n / seconds / 1e6:>7.2f} M")
        print(f"{n:>9}" + "".join(cells))
    row = space.sample(rng)[0]
    seconds = median_seconds(lambda: space.graph(row).flops, repeats)
    print(f"one Graph built and summed: {seconds * 1e6:.0f} µs ({1 / seconds:,.0f}/s)")


if __name__ == "__main__":
    main()
