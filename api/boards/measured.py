"""What was measured on a board, as JSON types: the same on the command line and in a job's result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from latency.interval import interval_pct
from latency.profiler import Profile
from latency.verify import Verified, common_scale


def describe_profile(profile: Profile) -> dict[str, Any]:
    """A profile's summary."""
    calibration = profile.table.calibration
    drift = profile.drift
    return {
        "board": profile.table.identity.board,
        "table": profile.table.digest,
        "spaces": [mark.name for mark in profile.table.provenance.spaces],
        "ops": profile.ops,
        "timed_ops": profile.timed,
        "estimated_ops": profile.estimated,
        "cover_networks": profile.networks,
        "passes": profile.passes,
        "seconds": profile.seconds,
        "complete": profile.complete,
        "spread_pct": profile.spread_pct,
        "stamp_us": profile.stamp_us,
        "scale": calibration.scale,
        "terms": asdict(calibration.terms),
        "calibration_networks": calibration.networks,
        "error_pct": calibration.error_pct,
        "split_half_pct": calibration.split_half_pct,
        "interval_pct": interval_pct(profile.table),
        "deterministic": profile.deterministic,
        "drift_pct": None if drift is None else (drift.ratio - 1) * 100,
        "drift_significant": None if drift is None else drift.significant,
        "skipped": list(profile.skipped),
        "disturbed": dict(profile.disturbed),
    }


def describe_verified(board: str, table: str, encodings: Sequence[str], results: Sequence[Verified]) -> dict[str, Any]:
    """Networks measured beside predicted.

    Args:
        board: where.
        table: digest of what predicted.
        encodings: of the networks, as text.
        results: one per encoding.
    """
    errors = [abs(r.error_pct) for r in results]
    noises = [r.noise_pct for r in results if r.noise_pct is not None]
    known = [r.inside for r in results if r.inside is not None]
    scale = common_scale(results) if results else 1.0
    steady = [100 * abs(scale * r.predicted_ms / r.measured_ms - 1) for r in results]
    return {
        "board": board,
        "table": table,
        "networks": [
            {
                "encoding": text,
                "predicted_ms": r.predicted_ms,
                "low_ms": r.low_ms,
                "high_ms": r.high_ms,
                "inside": r.inside,
                "measured_ms": r.measured_ms,
                "p95_ms": r.p95_ms,
                "error_pct": r.error_pct,
                "noise_pct": r.noise_pct,
                "runs": r.runs,
            }
            for text, r in zip(encodings, results, strict=True)
        ],
        "mean_error_pct": float(np.mean(errors)) if errors else None,
        "max_error_pct": max(errors, default=None),
        "noise_pct": float(np.mean(noises)) if noises else None,
        "inside_pct": 100 * float(np.mean(known)) if known else None,
        "drift_pct": 100 * (scale - 1),
        "mean_error_without_drift_pct": float(np.mean(steady)) if errors else None,
    }
