"""What a surrogate knows of a network: its genes, and the physical quantities every Graph gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.compiled import CompiledSite
from nas.op import Op
from nas.space import Encodings, Gene, SearchSpace

Floats = NDArray[np.float64]

_SAMPLE = 2048  # networks whose spread scales the features
_WEIGHTED = ("conv", "depthwise", "linear")
# How far apart, as a share of a gene's range, two choices are that have little to do with each other.
_REACH = 0.3


@dataclass(frozen=True)
class Described:
    """Networks as a surrogate sees them.

    Attributes:
        whole: (n, w) of the whole network: log FLOPs, log parameters, depth, receptive field, ops of each kind; the
            last column is 0, and 1 for a trial of an earlier search.
        sites: (n, s) of each site: log FLOPs, log parameters, depth, log width.
        genes: (n, d) an embedding of each gene's choice; inner products are the share of genes in common.
    """

    whole: Floats
    sites: Floats
    genes: Floats

    def __len__(self) -> int:
        """How many networks."""
        return len(self.genes)

    def __getitem__(self, at: NDArray[np.intp] | slice) -> Described:
        """Some of them."""
        return Described(self.whole[at], self.sites[at], self.genes[at])

    def shifted(self, by: NDArray[np.bool_]) -> Described:
        """The same, those at True as of another search: with a level of their own."""
        return Described(np.column_stack([self.whole[:, :-1], by]), self.sites, self.genes)

    @staticmethod
    def join(parts: Sequence[Described]) -> Described:
        """All of them, in order."""
        return Described(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("whole", "sites", "genes")))


class Features:
    """Describes encodings by gathers from tables over a space's sites; no network is built.

    Physical features have mean 0 and variance 1 over uniform encodings, divided by the root of their number, so that an
    inner product is of order 1 whatever the space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        sites = [(s, site) for s, site in enumerate(space.compiled.sites) if site.rows > 1]
        self._varying = [s for s, _ in sites]
        kinds = sorted({(op.kind, op.kernel) for op in space.compiled.ops})
        per_op = np.array([_additive(op, kinds) for op in space.compiled.ops])
        sums = [_site_sums(site, per_op) for site in space.compiled.sites]
        self._whole = space.compiled.plan.fuse(sums)
        self._sites = [_of_site(space, s, sums[s]) for s in self._varying]
        self._embeddings = [_embedding(g) / np.sqrt(len(space.genes)) for g in space.genes]

    def __call__(self, x: Encodings) -> Described:
        """Valid rows x (n, genes), canonical where equal networks should look equal."""
        whole, sites = self._raw(x)
        (mean, scale), (site_mean, site_scale) = self._norms
        genes = np.concatenate([e[x[:, g]] for g, e in enumerate(self._embeddings)], axis=1)
        whole = np.column_stack([(whole - mean) * scale, np.zeros(len(x))])
        return Described(whole, (sites - site_mean) * site_scale, genes)

    def _raw(self, x: Encodings) -> tuple[Floats, Floats]:
        (whole,) = self.space.compiled.plan.sums([self._whole], x)
        whole[:, :2] = np.log(np.maximum(whole[:, :2], 1.0))
        rows = self.space.compiled.site_rows(x)
        sites = [t[rows[:, s]] for s, t in zip(self._varying, self._sites, strict=True)]
        return whole, np.concatenate(sites, axis=1) if sites else np.zeros((len(x), 0))

    @cached_property
    def _norms(self) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        x = self.space.compiled.canonical(self.space.sample(np.random.default_rng(0), _SAMPLE))
        whole, sites = self._raw(x)
        return _norm(whole), _norm(sites)


def _norm(raw: Floats) -> tuple[Floats, Floats]:
    """(mean, factor) that standardise columns; the factor of a constant one is 0."""
    spread = raw.std(axis=0)
    varies = spread > 1e-9 * (1 + np.abs(raw).max(axis=0))
    scale = np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0) / np.sqrt(max(int(varies.sum()), 1))
    return raw.mean(axis=0), scale


def _additive(op: Op, kinds: list[tuple[str, tuple[int, int]]]) -> list[float]:
    """What an op adds to FLOPs, parameters, depth, receptive field (in picture heights) and the count of its kind."""
    field = (op.kernel[0] - 1) / op.inputs[0][1]
    return [op.flops, op.params, op.kind in _WEIGHTED, field, *((op.kind, op.kernel) == kind for kind in kinds)]


def _site_sums(site: CompiledSite, per_op: Floats) -> Floats:
    """(rows, k) sums of `per_op` (ops, k) over each row's ops."""
    return np.stack([_sums(site, column) for column in per_op.T], axis=1)


def _sums(site: CompiledSite, column: Floats) -> Floats:
    totals = np.concatenate([[0.0], np.cumsum(column[site.indices])])
    return np.asarray(totals[site.indptr[1:]] - totals[site.indptr[:-1]])


def _of_site(space: SearchSpace, s: int, sums: Floats) -> Floats:
    """(rows, 4) log FLOPs, log parameters, depth and log width of what a site builds."""
    site, last = space.compiled.sites[s], s + 1 == len(space.compiled.sites)
    width = np.ones(site.rows)
    if not last:
        channels = np.array([shape[0] for shape in space.compiled.sites[s + 1].shapes], dtype=np.float64)
        width = channels[site.next_shape]
    return np.column_stack([np.log1p(sums[:, 0]), np.log1p(sums[:, 1]), sums[:, 2], np.log(width)])


def _embedding(gene: Gene) -> Floats:
    """(choices, d): inner products are 1 for a choice with itself; near choices of an ordered gene share some."""
    n = len(gene.choices)
    alike = np.eye(n)
    if all(isinstance(c, int | float) and not isinstance(c, bool) for c in gene.choices):
        rank = np.argsort(np.argsort(gene.choices)) / (n - 1)
        alike = 0.5 * alike + 0.5 * np.exp(-0.5 * ((rank[:, None] - rank) / _REACH) ** 2)
    return np.asarray(np.linalg.cholesky(alike + 1e-9 * np.eye(n)))
