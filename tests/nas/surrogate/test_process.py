from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from nas.space import Encodings, SearchSpace
from nas.spaces import build_space
from nas.spaces.staged import Head, Stage, Stem, staged_space
from nas.surrogate import process
from nas.surrogate.features import Described, Features
from nas.surrogate.process import Posterior, fit_variances

Floats = NDArray[np.float64]

MACRO = build_space("nas-bench-macro")
STRIDED = staged_space(
    "strided",
    inputs=[(3, 16, 16), (3, 24, 24)],
    stem=Stem(8),
    stages=[Stage(width=(8, 12, 16), stride=(1, 2), kernel=(3, 5), expansion=(1, 2, 3)) for _ in range(3)],
    head=Head(10, width=0),
    reduction=8,
)
FEATURES = {s.name: Features(s) for s in (MACRO, STRIDED)}
VARIANCES = np.array([0.4, 0.2, 0.3, 0.15, 0.1, 0.05])
PARTS = ("whole", "sites", "genes", "pairs", "square", "noise")


def rows(space: SearchSpace, n: int, seed: int) -> Encodings:
    return space.canonical(space.sample(np.random.default_rng(seed), n))


# A Gaussian process as textbooks write it (Rasmussen and Williams 2006, equations 2.22 to 2.24) ----------------------


def kernel(a: Described, b: Described, v: Floats) -> Floats:
    out = np.empty((len(a), len(b)))
    for i in range(len(a)):
        for j in range(len(b)):
            whole, sites, genes = a.whole[i] @ b.whole[j], a.sites[i] @ b.sites[j], a.genes[i] @ b.genes[j]
            parts = np.array([whole, sites, genes, genes**2, (whole + sites) ** 2])
            out[i, j] = process._LEVEL + v[:5] @ parts
    return out


def textbook(known: Described, y: Floats, noise: Floats, x: Described, v: Floats) -> tuple[Floats, Floats]:
    """Posterior mean (m,) and covariance (m, m) at x."""
    across, inverse = kernel(x, known, v), np.linalg.inv(kernel(known, known, v) + np.diag(noise))
    return across @ inverse @ y, kernel(x, x, v) - across @ inverse @ across.T


def problem(space: SearchSpace, seed: int, told: int = 12, flying: int = 0) -> tuple[Described, Floats, Floats]:
    """Networks, targets of the told ones and their extra variance."""
    rng = np.random.default_rng(seed)
    known = FEATURES[space.name](rows(space, told + flying, seed))
    known = known.shifted(np.arange(told + flying) < 3)  # some are of an earlier search
    return known, rng.normal(size=told), np.where(rng.random(told) < 0.3, rng.random(told), 0.0)


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from([MACRO, STRIDED]),
    st.integers(0, 2**32),
    st.integers(1, 15),
    st.integers(0, 3),
    st.lists(st.floats(1e-3, 10), min_size=6, max_size=6),
)
def test_predictions_are_those_of_the_textbook(
    space: SearchSpace, seed: int, told: int, flying: int, variances: list[float]
) -> None:
    v = np.array(variances)
    known, y, extra = problem(space, seed, told, flying)
    x = FEATURES[space.name](rows(space, 6, seed + 1))
    posterior = Posterior(known, y, extra, v)
    mean, sd = posterior.predict(x)
    wanted, _ = textbook(known[:told], y, v[5] + extra, x, v)
    np.testing.assert_allclose(mean, wanted, rtol=1e-5, atol=1e-5)
    noise = v[5] + np.append(extra, np.zeros(flying))
    _, covariance = textbook(known, np.zeros(told + flying), noise, x, v)
    np.testing.assert_allclose(sd**2, np.diag(covariance), rtol=1e-5, atol=1e-5)
    at_told, _ = textbook(known[:told], y, v[5] + extra, known[:told], v)
    np.testing.assert_allclose(posterior.mean_told, at_told, rtol=1e-5, atol=1e-5)


def test_networks_in_flight_change_no_mean_and_leave_less_to_learn_near_them() -> None:
    known, y, extra = problem(MACRO, 0, told=10)
    x = rows(MACRO, 200, 1)
    flying, described = x[:1], FEATURES[MACRO.name](x)
    alone = Posterior(known, y, extra, VARIANCES)
    busy = Posterior(Described.join([known, FEATURES[MACRO.name](flying)]), y, extra, VARIANCES)
    (mean, sd), (busy_mean, busy_sd) = alone.predict(described), busy.predict(described)
    assert busy_mean.tolist() == pytest.approx(mean.tolist())
    assert busy.mean_told.tolist() == pytest.approx(alone.mean_told.tolist())
    assert (busy_sd <= sd + 1e-9).all()
    share, common = busy_sd / sd, (x == flying).mean(axis=1)
    assert share[0] < 0.5
    assert share[common >= 0.5].mean() < share[common <= 0.25].mean() - 0.05


def test_a_target_told_less_surely_counts_less() -> None:
    known, y, _ = problem(MACRO, 3)
    x = FEATURES[MACRO.name](rows(MACRO, 20, 4))
    unsure = np.append(np.zeros(len(y) - 1), 1e9)
    without = Posterior(known[: len(y) - 1], y[:-1], unsure[:-1], VARIANCES)
    for found, wanted in zip(Posterior(known, y, unsure, VARIANCES).predict(x), without.predict(x), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


# Draws ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [MACRO, STRIDED], ids=lambda s: s.name)
def test_draw_0_is_the_posterior_mean(space: SearchSpace) -> None:
    for seed in range(5):
        known, y, extra = problem(space, seed, told=25, flying=2)
        posterior = Posterior(known, y, extra, VARIANCES)
        x = FEATURES[space.name](rows(space, 50, seed + 1))
        draws = posterior.draw(np.random.default_rng(seed), 3)
        assert len(draws) == 4
        np.testing.assert_allclose(draws(x)[0], posterior.predict(x)[0], atol=2e-3)
        np.testing.assert_allclose(draws(known[:25])[0], posterior.mean_told, atol=2e-3)


@pytest.mark.parametrize("space", [MACRO, STRIDED], ids=lambda s: s.name)
def test_draws_have_the_mean_and_the_covariance_of_the_posterior(space: SearchSpace) -> None:
    known, y, extra = problem(space, 1, told=15, flying=2)
    x = Described.join([FEATURES[space.name](rows(space, 6, 2)), known[:2]])
    wanted, covariance = textbook(known[:15], y, VARIANCES[5] + extra, x, VARIANCES)
    n = 3000
    found = Posterior(known, y, extra, VARIANCES).draw(np.random.default_rng(0), n)(x)[1:].astype(np.float64)
    assert len(found) == n
    variance = np.diag(covariance)
    assert (np.abs(found.mean(axis=0) - wanted) < 4.5 * np.sqrt(variance / n)).all()
    spread = np.sqrt((np.outer(variance, variance) + covariance**2) / n)  # of the entries of a sample covariance
    assert (np.abs(np.cov(found.T) - covariance) < 4.5 * spread).all()


def test_a_draw_at_networks_of_its_own_is_what_it_is_at_all() -> None:
    known, y, extra = problem(STRIDED, 0)
    draws = Posterior(known, y, extra, VARIANCES).draw(np.random.default_rng(0), 3)
    x = FEATURES[STRIDED.name](rows(STRIDED, 20, 1))
    each, own = draws(x), np.repeat(np.arange(4), 5)
    assert each.shape == (4, 20)
    np.testing.assert_allclose(draws.one_each(x), each[own, np.arange(20)], atol=1e-5)
    assert np.ptp(each, axis=0).min() > 0.01  # no two are the same function


def test_the_same_generator_draws_the_same() -> None:
    known, y, extra = problem(MACRO, 0)
    x = FEATURES[MACRO.name](rows(MACRO, 9, 1))
    first, second, other = (
        Posterior(known, y, extra, VARIANCES).draw(np.random.default_rng(seed), 2)(x).tolist() for seed in (5, 5, 6)
    )
    assert first == second != other


# Variances -----------------------------------------------------------------------------------------------------------


def sampled(part: int, n: int, seed: int, noise: float) -> tuple[Described, Floats]:
    """Targets that only this part of the process explains, and noise."""
    rng = np.random.default_rng(seed)
    known = FEATURES[STRIDED.name](rows(STRIDED, n, seed))
    v = np.eye(6)[part]
    f = rng.multivariate_normal(np.zeros(n), kernel(known, known, v) - process._LEVEL, method="svd")
    y = f / max(f.std(), 1e-9) * (part < 5) + noise * rng.normal(size=n)
    return known, (y - y.mean()) / y.std()


def shares(known: Described, v: Floats) -> Floats:
    """(6,) which part of the targets' variance each explains, before any trial."""
    whole, sites, genes = known.whole @ known.whole.T, known.sites @ known.sites.T, known.genes @ known.genes.T
    grams = [whole, sites, genes, genes**2, (whole + sites) ** 2]
    spread = [float(np.diag(g).mean() - g.mean()) for g in grams]  # of a function of that part around its own mean
    found = v * np.array([*spread, 1.0])
    return np.asarray(found / found.sum())


def test_the_slope_that_variances_are_fitted_along_is_that_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    known, y, extra = problem(STRIDED, 0, told=20)
    checked = []

    def check(loss: Callable[[Floats], tuple[float, Floats]], start: Floats, **_: Any) -> OptimizeResult:
        for seed in range(4):
            t = start + np.random.default_rng(seed).normal(size=len(start))
            slope, step = loss(t)[1], 1e-5
            numeric = [(loss(t + step * e)[0] - loss(t - step * e)[0]) / (2 * step) for e in np.eye(len(t))]
            np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-5)
            checked.append(seed)
        return OptimizeResult(x=start)

    monkeypatch.setattr(process, "minimize", check)
    assert fit_variances(known, y, extra).tolist() == np.exp(process._PRIOR).tolist()
    assert checked == [0, 1, 2, 3]


def test_the_loss_is_the_density_of_targets_and_variances(monkeypatch: pytest.MonkeyPatch) -> None:
    known, y, extra = problem(MACRO, 0, told=8)

    def check(loss: Callable[[Floats], tuple[float, Floats]], start: Floats, **_: Any) -> OptimizeResult:
        def plain(t: Floats) -> float:
            v = np.exp(t)
            k = kernel(known, known, v) + np.diag(v[5] + extra)
            prior = float((((t - process._PRIOR) / process._PRIOR_SD) ** 2).sum())
            return float(0.5 * (y @ np.linalg.solve(k, y) + np.linalg.slogdet(k)[1] + prior))

        other = start + np.random.default_rng(0).normal(size=len(start))
        assert loss(other)[0] - loss(start)[0] == pytest.approx(plain(other) - plain(start))
        return OptimizeResult(x=start)

    monkeypatch.setattr(process, "minimize", check)
    fit_variances(known, y, extra)


@pytest.mark.parametrize("part", range(6), ids=lambda i: PARTS[i])
def test_fits_recover_a_strong_part(part: int) -> None:
    risen = []
    for seed in range(5):
        known, y = sampled(part, 100, seed, noise=1.0 if part == 5 else 0.1)
        before, after = np.exp(process._PRIOR), fit_variances(known, y, np.zeros(100))
        risen.append(shares(known, after) / shares(known, before))
    typical = np.median(risen, axis=0)
    assert typical[part] > 2
    assert np.delete(typical, part).max() < 1


def test_what_was_told_less_surely_is_not_taken_for_noise() -> None:
    known, y = sampled(2, 100, 0, noise=0.1)
    loud = y + np.where(np.arange(100) % 2, 2.0, 0.0) * np.random.default_rng(1).normal(size=100)
    extra = np.where(np.arange(100) % 2, 4.0, 0.0)
    knowing, unaware = fit_variances(known, loud, extra)[5], fit_variances(known, loud, np.zeros(100))[5]
    assert knowing < 0.1 * unaware
