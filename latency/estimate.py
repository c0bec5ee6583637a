"""Ops that were not timed, estimated from timed ones of their kind.

The features are those of a roofline (Williams et al. 2009): work, bytes moved, weights, and the shape that decides how
well a kernel fills its vectors. Per kind of op a ridge regression of log(ms) on the features, and a Gaussian process
over what it leaves, which also tells the standard error. nn-Meter (MobiSys 2021) trains forests for this on tens of
thousands of kernels; a few hundred of the space's own ops lie much closer to the ones asked for.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from latency.table import Entry
from nas.graph import Op

FEWEST: Final = 8
"""Timed ops of a kind below which only the median time per byte is used."""
_FLOOR: Final = 0.05
"""The least standard error of log(ms) told: an estimate is never as good as a timing."""
_WIDE: Final = 0.7
"""Standard error of log(ms) where there is next to nothing to go by."""
_RIDGE: Final = 1e-2
_MOST: Final = 400
"""Timed ops the process's two parameters are fitted on; all are used to predict."""
_LANES: Final = (4, 8, 16)


def estimate_entries(timed: Iterable[tuple[Op, Entry]], wanted: Mapping[str, Op]) -> dict[str, Entry]:
    """Entries for ops that were not timed.

    Args:
        timed: ops with their entries; estimated ones among them are ignored.
        wanted: engine key -> op.

    Returns:
        Engine key -> an Entry marked as estimated, for every wanted key for which any op of its kind was timed.
    """
    known: dict[str, list[tuple[Op, float]]] = defaultdict(list)
    for op, entry in timed:
        if not entry.estimated and entry.ms > 0:
            known[_kind(op)].append((op, math.log(entry.ms)))
    asked: dict[str, list[tuple[str, Op]]] = defaultdict(list)
    for key, op in wanted.items():
        asked[_kind(op)].append((key, op))
    out: dict[str, Entry] = {}
    for kind, pairs in asked.items():
        found = known.get(kind) or [pair for k, rest in known.items() for pair in rest if _base(k) == _base(kind)]
        found = found or [pair for rest in known.values() for pair in rest]
        if not found:
            continue
        x, y = np.array([_features(op) for op, _ in found]), np.array([log_ms for _, log_ms in found])
        z = np.array([_features(op) for _, op in pairs])
        mean, sigma = _regress(x, y, z) if len(y) >= FEWEST else _per_byte(x, y, z)
        for (key, _), m, s in zip(pairs, mean, sigma, strict=True):
            out[key] = Entry(ms=math.exp(float(m)), spread=0.0, samples=0, sigma=max(_FLOOR, float(s)))
    return out


def _kind(op: Op) -> str:
    """Ops of one kind run through the same code; a pointwise convolution is a plain matrix product."""
    return "conv/1x1" if op.kind == "conv" and op.kernel == (1, 1) and op.groups == 1 else op.kind


def _base(kind: str) -> str:
    return kind.partition("/")[0]


def _features(op: Op) -> list[float]:
    (ci, hi, wi), (co, ho, wo) = op.inputs[0], op.outputs[0]
    moved = sum(math.prod(shape) for shape in (*op.inputs, *op.outputs))
    logs = [moved, max(op.flops, 1), 1 + op.params, ci, co, ho * wo, hi * wi, op.kernel[0], op.stride[0]]
    filled = [float(c % lanes == 0) for c in (ci, co) for lanes in _LANES]
    return [*(math.log(v) for v in logs), *filled]


def _per_byte(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return float(np.median(y - x[:, 0])) + z[:, 0], np.full(len(z), _WIDE)


def _regress(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard error (k,) of log(ms) at z (k, f), from y (n,) at x (n, f)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    sd = x.std(axis=0)
    used = sd > 1e-9
    middle, width = x.mean(axis=0)[used], sd[used]
    a, b = ((v[:, used] - middle) / width for v in (x, z))
    slope = np.linalg.solve(a.T @ a + _RIDGE * len(y) * np.eye(a.shape[1]), a.T @ (y - y.mean()))
    left = y - y.mean() - a @ slope
    kernel = ConstantKernel(0.05, (1e-4, 4.0)) * RBF(2.0, (0.2, 30.0)) + WhiteKernel(0.01, (1e-5, 1.0))
    part = np.random.default_rng(0).permutation(len(y))[:_MOST]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound was reached: as good as it gets
        found = GaussianProcessRegressor(kernel).fit(a[part], left[part]).kernel_
        process = GaussianProcessRegressor(found, optimizer=None).fit(a, left)
        mean, error = process.predict(b, return_std=True)
    # Far from every timed op the process knows nothing but the trend; tell so even where it fitted well.
    return y.mean() + b @ slope + mean, np.maximum(error, left.std() / math.sqrt(len(y)))
