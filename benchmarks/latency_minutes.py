"""Error against minutes: what a profile stopped early is worth.

Profiles a space once, to the end, and measures networks that had no part in it. The passes carry their order and their
seconds, so a table is then fitted from what was there after each fraction of the time: exactly the table that
`nas profile --time-limit` would have given.

    python benchmarks/latency_minutes.py --board host --space light-nas --resolution 224 --nets 200
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from accuracy_report import save
from boards import HOST, open_board
from latency_accuracy import SCALE_NETWORKS, bar, unseen

from latency.errors import LatencyError
from latency.link import PatientLink
from latency.passes import Pass
from latency.predict import latency_model, predict_interval
from latency.profiler import Profile, Profiler
from latency.verify import verify
from nas.spaces import build_space

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", default=HOST)
    parser.add_argument("--engine", default="ncnn")
    parser.add_argument("--space", default="light-nas")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--nets", type=int, default=200)
    parser.add_argument("--passes", type=int)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    space = build_space(options.space, resolution=options.resolution)
    x = unseen(space, options.nets + SCALE_NETWORKS, options.seed)
    graphs = [space.graph(row) for row in x]
    saved: list[Pass] = []
    with open_board(options.board, options.engine) as board, PatientLink(board) as link:
        profiler = Profiler(board, link.open_session, space, passes=options.passes, seed=options.seed)
        whole = profiler.run(on_pass=saved.append, on_progress=bar("profile"))
        truth = verify(board, link.open_session, graphs, whole.table, passes=options.passes, on_progress=bar("truth"))
        measured = np.array([r.measured_ms for r in truth])
        rows: list[dict[str, Any]] = []
        for share in SHARES:
            kept = _until(saved, share * whole.seconds)
            try:
                profile = profiler.run(done=kept, time_limit_s=1e-6) if share < 1 else whole
            except LatencyError as e:
                print(f"{share:.0%}: {e}", file=sys.stderr)
                continue
            rows.append(_judge(profile, measured, graphs, latency_model(profile.table, space)(x)))
            print(json.dumps(rows[-1]), file=sys.stderr)
    noise = [r.noise_pct for r in truth[SCALE_NETWORKS:] if r.noise_pct is not None]
    result = {"nets": options.nets, "rows": rows, "noise_pct": float(np.mean(noise)) if noise else None}
    save(f"minutes-{options.board}-{options.engine}-{space.name}-{options.resolution}", options, space, result)


def _until(passes: Sequence[Pass], seconds: float) -> list[Pass]:
    """The passes that were finished after so many seconds of measuring."""
    ends = np.cumsum([p.seconds for p in passes])
    return [p for p, end in zip(passes, ends, strict=True) if end <= seconds]


def _judge(profile: Profile, measured: Any, graphs: Sequence[Any], predicted: Any) -> dict[str, Any]:
    scale = float(np.median(measured[:SCALE_NETWORKS] / predicted[:SCALE_NETWORKS]))
    error = np.abs(predicted * scale / measured - 1)[SCALE_NETWORKS:] * 100
    ends = [predict_interval(profile.table, g) for g in graphs[SCALE_NETWORKS:]]
    inside = [p.low_ms * scale <= m <= p.high_ms * scale for p, m in zip(ends, measured[SCALE_NETWORKS:], strict=True)]
    return {
        "seconds": profile.seconds,
        "passes": profile.passes,
        "cover_networks": profile.networks,
        "estimated_share_pct": 100 * profile.estimated / profile.ops,
        "mean_error_pct": float(error.mean()),
        "within_10_pct": float((error <= 10).mean() * 100),
        "coverage_pct": 100 * float(np.mean(inside)),
        "upper_pct": 100 * float(np.median([p.high_ms / p.ms - 1 for p in ends])),
    }


if __name__ == "__main__":
    main()
