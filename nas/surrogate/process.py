"""A Gaussian process of reward over networks, with a feature map: exact in the trials, cheap in the networks.

The covariance is a sum of inner products (a Bayesian linear model: Rasmussen and Williams 2006, chapter 2): linear in
what the whole network is and in what each site is, linear in genes and in pairs of genes, quadratic in the physical
quantities. So a function drawn from the posterior is a set of weights, evaluated at a network without the trials.

Notations
    n: trials; m: networks; draws: functions drawn at once, the first being the posterior mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from nas.surrogate.features import Described

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_LEVEL = 25.0  # variance of the constant, in units of the targets' variance: any mean is possible
# Variances of the parts (whole, sites, genes, pairs, square) and of the noise before any trial, in the same unit. What
# is known of networks in general, not of any table: their size tells most, gene by gene effects less.
_PRIOR = np.log([0.5, 0.3, 0.3, 0.1, 0.1, 0.1])
_PRIOR_SD = 1.0  # of the logarithms
_FIT_STEPS = 30


def _gram(a: Described, b: Described) -> list[Floats]:
    """Per part, (len(a), len(b)) inner products."""
    whole, sites, genes = a.whole @ b.whole.T, a.sites @ b.sites.T, a.genes @ b.genes.T
    return [whole, sites, genes, genes * genes, (whole + sites) ** 2]


def _diagonal(a: Described) -> list[Floats]:
    """Per part, (len(a),) inner products of each network with itself."""
    whole, sites, genes = ((v * v).sum(axis=1) for v in (a.whole, a.sites, a.genes))
    return [whole, sites, genes, genes * genes, (whole + sites) ** 2]


def _mix(variances: Floats, parts: list[Floats]) -> Floats:
    out: Floats = variances[0] * parts[0]
    for variance, part in zip(variances[1:], parts[1:], strict=False):
        out += variance * part
    out += _LEVEL
    return out


def fit_variances(known: Described, y: Floats, extra: Floats) -> Floats:
    """(parts + 1,) variances of the parts and of the noise: the most probable ones.

    Args:
        known: n networks.
        y: (n,) their targets, of mean about 0 and variance about 1.
        extra: (n,) variance of each target beyond the noise.
    """
    flat = np.stack([p.ravel() for p in _gram(known, known)])
    n, eye = len(y), np.eye(len(y))

    def loss(t: Floats) -> tuple[float, Floats]:
        v = np.exp(t)
        k = (v[:-1] @ flat).reshape(n, n) + _LEVEL
        k[np.diag_indices(n)] += v[-1] + extra
        try:
            factor = cho_factor(k, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(t)
        alpha = cho_solve(factor, y, check_finite=False)
        slope = cho_solve(factor, eye, check_finite=False) - np.outer(alpha, alpha)
        z = (t - _PRIOR) / _PRIOR_SD
        value = 0.5 * float(y @ alpha) + float(np.log(np.diag(factor[0])).sum()) + 0.5 * float(z @ z)
        each = np.append(flat @ slope.ravel(), np.trace(slope))
        return value, 0.5 * v * each + z / _PRIOR_SD

    bounds = [(m - 7.0, m + 5.0) for m in _PRIOR]
    found = minimize(loss, _PRIOR, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _FIT_STEPS})
    return np.asarray(np.exp(found.x))


@dataclass(frozen=True)
class Draws:
    """Functions of networks, in single precision: they only have to be ranked. Number 0 is the posterior mean.

    Attributes:
        level: (draws,).
        linear: (draws, features) weights of whole, sites and genes, side by side.
        pairs, square: (draws, features, features) weights of genes, and of whole and sites.
    """

    level: Singles
    linear: Singles
    pairs: Singles
    square: Singles

    def __len__(self) -> int:
        """How many."""
        return len(self.level)

    def __call__(self, x: Described) -> Singles:
        """(draws, m): every function at every network."""
        return self._at(np.broadcast_to(_single(x), (len(self), len(x), self.linear.shape[1])))

    def one_each(self, x: Described) -> Singles:
        """(m,): network i under function i // (m / draws)."""
        return self._at(_single(x).reshape(len(self), -1, self.linear.shape[1])).ravel()

    def _at(self, x: Singles) -> Singles:
        physical, genes = x[..., : self.square.shape[1]], x[..., self.square.shape[1] :]
        value = np.matmul(x, self.linear[:, :, None])[..., 0] + self.level[:, None]
        value += np.einsum("dmi,dmi->dm", np.matmul(genes, self.pairs), genes)
        value += np.einsum("dmi,dmi->dm", np.matmul(physical, self.square), physical)
        return np.asarray(value)


def _single(x: Described) -> Singles:
    return np.concatenate([x.whole, x.sites, x.genes], axis=1, dtype=np.float32, casting="same_kind")


class Posterior:
    """What is believed of rewards after some trials.

    Networks of `known` beyond `y` are in flight: they make their surroundings less uncertain, but tell no reward.

    Args:
        known: n networks, told ones first.
        y: (told,) their targets, of mean about 0 and variance about 1.
        extra: (told,) variance of each target beyond the noise.
        variances: (parts + 1,) of the parts and of the noise.
    """

    def __init__(self, known: Described, y: Floats, extra: Floats, variances: Floats) -> None:
        self.known, self.told, self.variances, self._y = known, len(y), variances, y
        k = _mix(variances, _gram(known, known))
        self._noise_sd = np.sqrt(variances[-1] + extra)
        told = k[: self.told, : self.told].copy()
        k[np.diag_indices(len(k))] += variances[-1]
        k[np.diag_indices(self.told)] += extra
        self._factor = np.linalg.cholesky(k)
        self._told_factor = (self._factor[: self.told, : self.told], True)
        self._alpha = cho_solve(self._told_factor, y, check_finite=False)
        self.mean_told: Floats = told @ self._alpha

    def predict(self, x: Described) -> tuple[Floats, Floats]:
        """(m,) mean and (m,) standard deviation of the true reward, without the noise of one evaluation."""
        k = _mix(self.variances, _gram(self.known, x))
        v = solve_triangular(self._factor, k, lower=True, check_finite=False)
        own = sum(s * d for s, d in zip(self.variances[:-1], _diagonal(x), strict=True)) + _LEVEL
        sd = np.sqrt(np.maximum(own - np.einsum("ij,ij->j", v, v), 1e-12))
        return k[: self.told].T @ self._alpha, sd

    def draw(self, rng: np.random.Generator, count: int) -> Draws:
        """The mean, and `count` functions of the posterior (a prior draw and its update: arXiv 2002.09309)."""
        x, v, sd = self.known[: self.told], self.variances, np.sqrt(self.variances).astype(np.float32)
        physical = np.concatenate([x.whole, x.sites], axis=1, dtype=np.float32, casting="same_kind")
        genes = x.genes.astype(np.float32)
        w, p, g = x.whole.shape[1], physical.shape[1], genes.shape[1]
        linear = rng.normal(size=(count + 1, p + g)).astype(np.float32)
        linear *= np.repeat(sd[:3], [w, p - w, g])
        pairs = sd[3] * rng.standard_normal(size=(count + 1, g, g), dtype=np.float32)
        square = sd[4] * rng.standard_normal(size=(count + 1, p, p), dtype=np.float32)
        level = np.sqrt(_LEVEL) * rng.standard_normal(size=count + 1, dtype=np.float32)
        noise = self._noise_sd * rng.normal(size=(count + 1, self.told))
        for part in (linear, pairs, square, level, noise):
            part[0] = 0
        prior = Draws(level, linear, pairs, square)
        alpha = cho_solve(self._told_factor, (self._y - prior(x) - noise).T, check_finite=False).T.astype(np.float32)
        linear += alpha @ np.concatenate([physical, genes], axis=1) * np.repeat(v[:3], [w, p - w, g]).astype(np.float32)
        pairs += np.float32(v[3]) * np.matmul(genes.T * alpha[:, None, :], genes)
        square += np.float32(v[4]) * np.matmul(physical.T * alpha[:, None, :], physical)
        return Draws(level + np.float32(_LEVEL) * alpha.sum(axis=1), linear, pairs, square)
