"""Terms: from an op's time inside a cover network to its part of a whole network's time.

The sum of per-layer times misses a whole network in ways that follow from what its ops are: a time stamp between two
layers weighs more the shorter they are; the low percentile that keeps noise out of a layer's time also picks the runs
in which its weights were still in the cache. Both grow with countable things, so a few coefficients, fitted on whole
networks, carry them, and the price of a network stays a sum over its ops.

Notations
    A (networks, 6): each network's sums of `FIELDS`: ms in convolutions, in depthwise ones, in the others, number of
    kernels, MB of weights, MB of activations read and written. w (6,): the coefficients. A @ w ≈ whole-network ms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from latency.table_limits import LARGEST_FACTOR
from nas.graph import Op

_MB: Final = 4e-6
"""MB per fp32 number; for other number formats the coefficients differ, not the meaning."""
_PRIOR_SHARE: Final = (0.3, 0.3, 0.3, 0.1, 0.1, 0.1)
"""How far a coefficient is expected to move a network's time, as a share of it."""


@dataclass(frozen=True)
class Terms:
    """Coefficients of an op's part in a whole network: `weight · ms + kernel_ms + …`.

    Attributes:
        conv: of the ms of convolutions.
        depthwise: of the ms of depthwise convolutions.
        other: of the ms of everything else, linear layers among it: theirs are too many weights for any cache.
        kernel_ms: per kernel.
        weights_ms_per_mb: per MB of a convolution's weights.
        traffic_ms_per_mb: per MB of activations it reads and writes.
    """

    conv: float = 1.0
    depthwise: float = 1.0
    other: float = 1.0
    kernel_ms: float = 0.0
    weights_ms_per_mb: float = 0.0
    traffic_ms_per_mb: float = 0.0

    def part_ms(self, op: Op, ms: float) -> float:
        """An op's part in a whole network's time, from its own time `ms`; never below 0."""
        return max(0.0, float(np.dot(features(op, ms), astuple(self))))


FIELDS: Final = tuple(f.name for f in fields(Terms))


def features(op: Op, ms: float) -> tuple[float, ...]:
    """(6,) what an op adds to a network's row of A."""
    kind = 0 if op.kind == "conv" else 1 if op.kind == "depthwise" else 2
    times = [0.0, 0.0, 0.0]
    times[kind] = ms
    _, oh, ow = op.outputs[0]
    weights = op.flops // (oh * ow) if op.kind in ("conv", "depthwise") else 0
    traffic = sum(math.prod(shape) for shape in (*op.inputs, *op.outputs))
    return (*times, 1.0, weights * _MB, traffic * _MB)


@dataclass(frozen=True)
class FittedTerms:
    """A fit.

    Attributes:
        terms: the coefficients.
        residuals: (networks,) log(measured / predicted), each network predicted without itself.
    """

    terms: Terms
    residuals: NDArray[np.float64]


class TermsFit:
    """Bayesian linear regression of whole-network times on A, with relative errors.

    The prior is another table's terms, or a plain sum of times with one scale. With few networks the prior holds the
    coefficients that these cannot tell apart; the scale alone is always free.

    Args:
        rows: A.
        measured_ms: (networks,) of the whole networks.
        offset_ms: of every network beyond its ops.
        prior: where coefficients stay that nothing speaks about.
    """

    def __init__(
        self,
        rows: NDArray[np.float64],
        measured_ms: NDArray[np.float64],
        *,
        offset_ms: float = 0.0,
        prior: Terms | None = None,
    ) -> None:
        self._a = rows / measured_ms[:, None]
        self._rest = 1.0 - offset_ms / measured_ms
        base = np.array(astuple(prior or Terms()))
        total = np.maximum(rows @ base, 1e-12)
        # The scale first, by the median: it is the one thing the prior cannot know.
        self._base = base * max(float(np.median(measured_ms * self._rest / total)), 1e-3)
        share = np.maximum((rows / total[:, None]).mean(axis=0), 1e-9)
        shrink = 0.3 if prior is not None else 1.0
        self._prior_sd = shrink * np.array(_PRIOR_SHARE) / share

    def solve(self) -> FittedTerms:
        """The coefficients, the error's size found by cross-validation, and leave-one-out residuals."""
        target = self._rest - self._a @ self._base
        sigma = float(np.clip(np.median(np.abs(target)) * 1.4826, 1e-3, 0.2))
        for _ in range(3):
            w, left = self._ridge(target, sigma)
            sigma = float(np.clip(np.median(np.abs(left)) * 1.4826, 1e-3, 0.2))
        residuals = -np.log(np.maximum(1.0 - left, 1e-3))
        return FittedTerms(Terms(*(float(v) for v in self._base + w)), residuals)

    def _ridge(self, target: NDArray[np.float64], sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Posterior mean of the coefficients' changes, and (networks,) what is left of each without itself."""
        z = self._a * self._prior_sd
        gram = z.T @ z + sigma**2 * np.eye(z.shape[1])
        inverse = np.linalg.inv(gram)
        v = inverse @ (z.T @ target)
        leverage = np.clip(np.einsum("ij,jk,ik->i", z, inverse, z), 0.0, 0.99)
        return self._prior_sd * v, (target - z @ v) / (1.0 - leverage)


class TermsError(ValueError):
    """Stored coefficients are not numbers."""


def terms_of(data: Mapping[str, float]) -> Terms:
    """Terms from stored JSON.

    Raises:
        TermsError: a coefficient is missing, unknown, no number or beyond all reason.
    """
    if set(data) != set(FIELDS) or not all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) <= LARGEST_FACTOR for v in data.values()
    ):
        raise TermsError(f"terms must be the numbers {', '.join(FIELDS)}")
    return Terms(**{name: float(value) for name, value in data.items()})
