"""How far predicted latencies are from measured ones, as a user would meet them.

Profiles a space on a board, predicts random networks that had no part in the table, reconnects, runs them whole on the
board, and prints what came of it: for our table, for a table of ops timed alone (what others ship), for FLOPs alone.
Each is shown after one scale fitted on eight further networks of the second session; ours also without.

    python benchmarks/latency_accuracy.py --board host --space light-nas --resolution 224 --nets 300 --engine ncnn
    python benchmarks/latency_accuracy.py --board qemu-a72 --space mobilenetv2-small --nets 60 --passes 1

The result goes to benchmarks/results/, and docs/accuracy.md is written anew from all results there.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from accuracy_report import command, save
from boards import HOST, open_board
from numpy.typing import NDArray
from scipy.stats import spearmanr

from latency.cover import isolated_graph
from latency.engines import get_engine
from latency.errors import RunnerCrashed, UnsupportedOp
from latency.fit import TYPICAL_PERCENTILE
from latency.fresh import fresh_encodings
from latency.link import PatientLink
from latency.passes import Progress
from latency.profiler import FRESH_NETWORKS, Profiler
from latency.verify import verify
from nas.space import Encodings, SearchSpace
from nas.spaces import build_space

SCALE_NETWORKS = 8
_ISOLATED_RUNS, _ISOLATED_WARM = 15, 3
Floats = NDArray[np.float64]


def main() -> None:
    options = _options()
    space = build_space(options.space, resolution=options.resolution)
    engine = get_engine(options.engine)
    told: dict[str, Any] = {"nets": options.nets}
    with open_board(options.board, options.engine, dtype=options.dtype) as board, PatientLink(board) as link:
        profiler = Profiler(board, link.open_session, space, passes=options.passes, seed=options.seed)
        began = time.monotonic()
        profile = profiler.run(on_progress=bar("profile"), command=command())
        table = profile.table
        told["profile"] = {
            "seconds": profile.seconds, "wall_s": time.monotonic() - began, "networks": profiler.networks,
            "cover_networks": profile.networks, "ops": profile.ops, "passes": profile.passes,
            "disturbed": sum(count for _, count in profile.disturbed), "error_pct": table.calibration.error_pct,
            "deterministic": profile.deterministic, "terms": asdict(table.calibration.terms),
        }  # fmt: skip
        told["identity"] = asdict(table.identity)
        x = unseen(space, options.nets + SCALE_NETWORKS, options.seed)
        alone = None if options.no_isolated else _isolated(link, space)
        graphs = [space.graph(row) for row in x]
        results = verify(
            board, link.open_session, graphs, table, passes=options.passes, seed=options.seed, on_progress=bar("truth")
        )
    measured = np.array([r.measured_ms for r in results])
    own = np.array([r.predicted_ms for r in results])
    bounds = np.array([(r.low_ms, r.high_ms) for r in results], dtype=float)
    rows = {
        "in situ": _judge(own, measured, bounds),
        "in situ, as profiled": _judge(own, measured, bounds, scaled=False),
    }
    if alone is not None:
        sums = np.array([sum(alone.get(key, 0.0) for key in engine.kernel_keys(g) if key) for g in graphs])
        rows["ops alone"] = _judge(sums, measured)
    rows["FLOPs alone"] = _judge(np.array([float(g.flops) for g in graphs]), measured)
    noise = [r.noise_pct for r in results[SCALE_NETWORKS:] if r.noise_pct is not None]
    told |= {
        "dtype": options.dtype, "seed": options.seed, "rows": rows,
        "noise_pct": float(np.mean(noise)) if noise else None, "runs": results[0].runs,
        "measured_ms": [float(v) for v in np.quantile(measured, (0, 0.5, 1))],
        "cpu": platform.processor() or platform.machine() if options.board == HOST else options.board,
    }  # fmt: skip
    name = f"accuracy-{options.board}-{options.engine}-{options.dtype}-{space.name}-{space.inputs[0][1]}"
    told = save(name, options, space, told)
    print(json.dumps(told) if options.json else _text(told))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", default=HOST, help="host, qemu-a53, qemu-a72, qemu-a76, or a registered board")
    parser.add_argument("--space", default="light-nas")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--nets", type=int, default=300)
    parser.add_argument("--engine", default="ncnn")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--passes", type=int, help="default: as many as it needs; 1 is enough for emulated boards")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-isolated", action="store_true", help="leave out the table of ops timed alone")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def unseen(space: SearchSpace, count: int, seed: int) -> Encodings:
    """(count, genes) uniformly random networks, none of them among the profile's fresh ones."""
    used = {row.tobytes() for row in space.canonical(fresh_encodings(space, FRESH_NETWORKS, seed))}
    rng = np.random.default_rng([seed, 20_000])
    found: dict[bytes, NDArray[np.uint8]] = {}
    while len(found) < count:
        for row in space.canonical(space.sample(rng, count)):
            if row.tobytes() not in used:
                found.setdefault(row.tobytes(), row)
    return np.array(list(found.values())[:count])


def _isolated(link: PatientLink, space: SearchSpace) -> dict[str, float]:
    """Each kernel timed alone, run after run: what a per-op table usually is; ms."""
    engine = get_engine(link.board.engine)
    places = {key: place for place in space.compiled.places if (key := engine.kernel_key(place)) is not None}
    times: dict[str, float] = {}
    session = link.open_session()
    try:
        for done, (key, place) in enumerate(places.items()):
            model = engine.build(isolated_graph(place))
            try:
                session.load("alone", model, timed=True)
                [(_, found)] = session.measure(["alone"], runs=_ISOLATED_RUNS, warm=_ISOLATED_WARM)
                session.unload(["alone"])
            except UnsupportedOp:
                continue
            except RunnerCrashed:
                session.close()
                session = link.open_session()
                continue
            at = [i for i, path in enumerate(model.stamps) if path == "op"]
            times[key] = (
                float(np.percentile([sum(run[i] for i in at) for run in found.timed], TYPICAL_PERCENTILE)) / 1e6
            )
            if sys.stderr.isatty() or done % 400 == 0:
                print(f"\rops alone: {done + 1}/{len(places)}", end="", file=sys.stderr)
    finally:
        session.close()
    print(file=sys.stderr)
    return times


def _judge(predicted: Floats, measured: Floats, bounds: Floats | None = None, *, scaled: bool = True) -> dict[str, Any]:
    """Errors on all but the first eight networks, which give the scale."""
    ratio = float(np.median(measured[:SCALE_NETWORKS] / predicted[:SCALE_NETWORKS])) if scaled else 1.0
    p, m = predicted[SCALE_NETWORKS:] * ratio, measured[SCALE_NETWORKS:]
    error = np.abs(p / m - 1) * 100
    out = {
        "scale": ratio,
        "mean_error_pct": float(error.mean()),
        "max_error_pct": float(error.max()),
        "within_2_pct": float((error <= 2).mean() * 100),
        "within_5_pct": float((error <= 5).mean() * 100),
        "within_10_pct": float((error <= 10).mean() * 100),
        "spearman": float(spearmanr(p, m)[0]),
    }
    if bounds is not None:
        low, high = (bounds[SCALE_NETWORKS:] * ratio).T
        out["coverage_pct"] = float(((low <= m) & (m <= high)).mean() * 100)
        out["interval_pct"] = [float(np.median(low / p - 1) * 100), float(np.median(high / p - 1) * 100)]
    return out


def _text(told: dict[str, Any]) -> str:
    about = told["profile"]
    lines = [
        f"{told['space']} at {told['resolution']} px on {told['board']} with {told['engine']} {told['dtype']}: "
        f"{about['ops']} ops, {about['networks']} networks, {about['passes']} passes, {about['seconds']:.0f} s; "
        f"{told['nets']} networks run whole, {told['runs']} runs each",
        "the truth's own split-half noise: " + ("-" if told["noise_pct"] is None else f"{told['noise_pct']:.2f} %"),
        f"{'predictor':22} {'mean':>7} {'max':>7} {'<=2 %':>7} {'<=5 %':>7} {'<=10 %':>7} {'rho':>7} {'90 % int.':>10}",
    ]
    for name, r in told["rows"].items():
        covered = f"{r['coverage_pct']:9.1f} %" if "coverage_pct" in r else "-".rjust(11)
        lines.append(
            f"{name:22} {r['mean_error_pct']:6.2f}% {r['max_error_pct']:6.1f}% {r['within_2_pct']:6.1f}% "
            f"{r['within_5_pct']:6.1f}% {r['within_10_pct']:6.1f}% {r['spearman']:7.4f} {covered}"
        )
    return "\n".join(lines)


def bar(what: str) -> Callable[[Progress], None]:
    last = [0.0]

    def show(progress: Progress) -> None:
        if time.monotonic() - last[0] > 10:
            last[0] = time.monotonic()
            print(f"{what}: {progress.visits_done}/{progress.visits}, {progress.remaining_s:.0f} s", file=sys.stderr)

    return show


if __name__ == "__main__":
    main()
